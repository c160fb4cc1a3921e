"""redis-py, unmodified, with every node of a real cluster: finds primary and replicas, writes and reads, before and
after a failover.

Usage: redis_py_failover.py SERVICE SENTINEL_PORT...
Prints one JSON object a line. After the first it waits for a line on stdin, behind which the primary is dead.
"""

import json
import sys
import time

import redis
from redis.sentinel import Sentinel

BOUND_SECONDS = 20


def tell(**fields):
    print(json.dumps(fields), flush=True)


def until_done(attempt):
    """As an application does it: tries again until the failover is over."""
    deadline = time.monotonic() + BOUND_SECONDS
    while True:
        try:
            return attempt()
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise


def read(replica, key, wanted):
    """Replication is not instant, and a replica is chosen anew for each connection."""
    deadline = time.monotonic() + BOUND_SECONDS
    value = None
    while value != wanted and time.monotonic() < deadline:
        value = until_done(lambda: replica.get(key))
    return value


def main():
    service, ports = sys.argv[1], [int(port) for port in sys.argv[2:]]
    sentinel = Sentinel(
        [("127.0.0.1", port) for port in ports],
        min_other_sentinels=len(ports) - 1,
        socket_timeout=2,
        sentinel_kwargs={"socket_timeout": 2},
        decode_responses=True,
    )
    primary, replica = sentinel.master_for(service), sentinel.slave_for(service)

    def found(key):
        return {
            "primary": list(sentinel.discover_master(service)),
            "replicas": sorted(list(address) for address in sentinel.discover_slaves(service)),
            "on_primary": primary.get(key),
            "on_replica": read(replica, key, "written"),
        }

    primary.set("before", "written")
    tell(**found("before"))
    sys.stdin.readline()
    until_done(lambda: primary.set("after", "written"))
    tell(**found("after"), kept=primary.get("before"))


main()
