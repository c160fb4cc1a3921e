"""redis-py, unmodified, through the Sentinel protocol: finds primary and replicas, writes, follows a failover.

Usage: redis_py.py SENTINEL_PORT SERVICE PROTOCOL PASSWORD
Prints one JSON object a line. After the first it subscribes to every event, and waits for a line on stdin,
in front of which the failover happens.
"""

import json
import sys

import redis
from redis.sentinel import MasterNotFoundError, Sentinel


def tell(**fields):
    print(json.dumps(fields, default=bytes.decode), flush=True)


def main():
    port, service, protocol, password = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    nodes = [("127.0.0.1", port)]
    sentinel_kwargs = {"password": password, "protocol": protocol, "socket_timeout": 5}
    sentinel = Sentinel(
        nodes,
        min_other_sentinels=2,
        sentinel_kwargs=sentinel_kwargs,
        socket_timeout=5,
        protocol=protocol,
    )
    primary = sentinel.master_for(service)
    primary.set("before", "written")
    # What the node says of the primary, with every field that redis-py turns into a number.
    asked = redis.Redis(port=port, **sentinel_kwargs)
    state = asked.sentinel_master(service)
    try:
        sentinel.discover_master("nosuch")
        unknown = "found"
    except MasterNotFoundError:
        unknown = "not found"
    # One more than there are other sentinels: redis-py must take the node for one that was cut off.
    lonely = Sentinel(nodes, min_other_sentinels=3, sentinel_kwargs=sentinel_kwargs)
    try:
        lonely.discover_master(service)
        cut_off = "found"
    except MasterNotFoundError:
        cut_off = "not found"
    events = redis.Redis(port=port, **sentinel_kwargs).pubsub(ignore_subscribe_messages=False)
    events.psubscribe("*")
    acknowledged = events.get_message(timeout=5)
    tell(
        primary=list(sentinel.discover_master(service)),
        replicas=[list(address) for address in sentinel.discover_slaves(service)],
        num_other_sentinels=state["num-other-sentinels"],
        config_epoch=state["config-epoch"],
        is_master=state["is_master"],
        sentinels=len(asked.sentinel_sentinels(service)),
        address=list(asked.sentinel_get_master_addr_by_name(service)),
        unknown=unknown,
        cut_off=cut_off,
        subscribed=acknowledged["type"],
    )
    sys.stdin.readline()
    told = None
    while told is None:
        message = events.get_message(timeout=5)
        if message is None:
            break
        if message["channel"] == b"+switch-master":
            told = message["data"].decode()
    primary.connection_pool.disconnect()
    primary.set("after", "written")
    tell(primary=list(sentinel.discover_master(service)), told=told)


main()
