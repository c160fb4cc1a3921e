#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The write guard against real servers: it never acknowledges what the named replicas do not hold.
//!
//! Each test sets the record of the write quorum itself, as the coordinator would. Failovers are made
//! by hand; that the coordinator makes them is shown elsewhere.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Cmd, Value};
use sentinel_core::id::InstanceId;
use sentinel_redis::guard::{
    Fate, GuardOptions, NotAllowed, PrimaryAddress, PrimarySource, QuorumFault, Trouble,
    UnknownCause, WriteError, WriteGuard,
};
use sentinel_redis::{Credentials, Secret, record};
use sentinel_tests::redis_server::{Options, RedisServer};
use sentinel_tests::wait;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Nobody listens there.
fn nobody() -> InstanceId {
    InstanceId::new("127.0.0.1", 1)
}

fn name_members(primary: &RedisServer, k: u32, members: &[InstanceId]) {
    let mut patterns = vec!["~v:1.1".to_owned(), format!("~k:{k}")];
    patterns.extend(members.iter().map(|member| format!("~m:{member}")));
    let mut command = vec!["ACL", "SETUSER", record::USER, "reset", "off"];
    command.extend(patterns.iter().map(String::as_str));
    primary.cli(&command);
}

/// A primary and `N` replicas that stream from it. A replica that counts as connected may still get its
/// first write only a second later, with the acknowledgement that follows its first sync.
fn topology<const N: usize>() -> (RedisServer, [RedisServer; N]) {
    let primary = RedisServer::start();
    let replicas = std::array::from_fn(|_| RedisServer::replica_of(&primary));
    primary.cli(&["SET", "first", "1"]);
    for replica in &replicas {
        wait_until_it_streams(&primary, replica);
    }
    (primary, replicas)
}

fn wait_until_it_streams(primary: &RedisServer, replica: &RedisServer) {
    replica.wait_for_info("master_link_status", "up");
    primary.cli(&["SET", "streams", &replica.port().to_string()]);
    wait::until("the replica streams", || {
        (replica.cli(&["GET", "streams"]) == primary.cli(&["GET", "streams"])).then_some(())
    });
}

fn options(source: PrimarySource) -> GuardOptions {
    let mut options = GuardOptions::new("orders".into(), source);
    options.timeouts.wait = Duration::from_millis(300);
    options.timeouts.unsent = Duration::from_secs(10);
    options
}

fn fixed(primary: &RedisServer) -> GuardOptions {
    options(PrimarySource::Fixed(primary.instance()))
}

fn named(primary: &RedisServer) -> Option<PrimaryAddress> {
    Some(PrimaryAddress {
        instance: primary.instance(),
        epoch: None,
    })
}

fn set(key: &str) -> Cmd {
    let mut command = redis::cmd("SET");
    command.arg(key).arg("1");
    command
}

fn exists(server: &RedisServer, key: &str) -> bool {
    server.cli(&["EXISTS", key]) == Value::Int(1)
}

/// Starts a write that stays on the way because the named replica does not answer.
async fn stuck_write(
    guard: &WriteGuard,
    primary: &RedisServer,
    key: &str,
) -> JoinHandle<Result<Value, WriteError>> {
    let guard = guard.clone();
    let command = set(key);
    let write = tokio::spawn(async move { guard.write(command).await });
    wait::until_async("the write is executed", || async {
        exists(primary, key).then_some(())
    })
    .await;
    write
}

fn unknown(result: Result<Value, WriteError>) -> UnknownCause {
    match result {
        Err(WriteError::Unknown { cause }) => cause,
        other => panic!("{other:?} is not unknown"),
    }
}

/// Promotes `new`, with `follower` as the one member of its write quorum.
fn fail_over(new: &RedisServer, follower: &RedisServer) {
    name_members(new, 1, &[follower.instance()]);
    new.cli(&["REPLICAOF", "NO", "ONE"]);
    follower.cli(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledges_what_a_named_replica_holds() {
    let (primary, [replica]) = topology();
    name_members(&primary, 1, &[replica.instance()]);
    let guard = WriteGuard::new(fixed(&primary));
    for index in 0..50 {
        let key = format!("key{index}");
        let acknowledged = guard.write_attributed(set(&key)).await.unwrap();
        assert_eq!(acknowledged.reply, Value::Okay);
        assert_eq!(acknowledged.primary, primary.instance());
        assert_eq!(acknowledged.version.to_string(), "1.1");
        assert!(
            exists(&replica, &key),
            "{key} is acknowledged and not there"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_count() {
    let (primary, [_first, _second]) = topology();
    name_members(&primary, 1, &[nobody()]);
    let guard = WriteGuard::new(fixed(&primary));
    let shortfall = WriteError::NotEnoughReplicas {
        acked: 0,
        needed: 1,
    };
    assert_eq!(guard.write(set("a")).await, Err(shortfall));
    assert!(exists(&primary, "a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_are_two() {
    let (primary, [first, second]) = topology();
    name_members(&primary, 2, &[first.instance(), nobody()]);
    let guard = WriteGuard::new(fixed(&primary));
    let shortfall = WriteError::NotEnoughReplicas {
        acked: 1,
        needed: 2,
    };
    assert_eq!(guard.write(set("a")).await, Err(shortfall));
    // The connection is cut with the change, as the coordinator does.
    name_members(
        &primary,
        2,
        &[first.instance(), second.instance(), nobody()],
    );
    primary.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    // What is sent into the cut is unknown; whoever reconnects reads the new members.
    wait::until_async("the new members count", || async {
        (guard.write(set("b")).await == Ok(Value::Okay)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_on_when_a_stranger_answers_first() {
    let (primary, [member, stranger]) = topology();
    name_members(&primary, 1, &[member.instance()]);
    let mut options = fixed(&primary);
    options.timeouts.wait = Duration::from_secs(10);
    let guard = WriteGuard::new(options);
    member.pause();
    let write = stuck_write(&guard, &primary, "a").await;
    wait::until("the stranger holds it", || {
        exists(&stranger, "a").then_some(())
    });
    assert!(!write.is_finished());
    member.resume();
    assert_eq!(write.await.unwrap(), Ok(Value::Okay));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_replica_ends_in_a_shortfall() {
    let (primary, [replica]) = topology();
    name_members(&primary, 1, &[replica.instance()]);
    let guard = WriteGuard::new(fixed(&primary));
    guard.write(set("a")).await.unwrap();
    replica.pause();
    let start = Instant::now();
    let error = guard.write(set("b")).await.unwrap_err();
    assert_eq!(
        error,
        WriteError::NotEnoughReplicas {
            acked: 0,
            needed: 1
        }
    );
    assert_eq!(error.fate(), Fate::Unprotected);
    assert!(start.elapsed() >= Duration::from_millis(300));
    replica.resume();
    assert_eq!(guard.write(set("c")).await, Ok(Value::Okay));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_record_nothing_is_sent() {
    let (primary, [_replica]) = topology();
    let guard = WriteGuard::new(fixed(&primary));
    let refusal = |fault| WriteError::NoWriteQuorum {
        instance: primary.instance(),
        fault,
    };
    let missing = refusal(QuorumFault::Missing);
    assert_eq!(guard.write(set("a")).await, Err(missing));
    name_members(&primary, 2, &[nobody()]);
    let too_few = QuorumFault::TooFewMembers {
        needed: 2,
        named: 1,
    };
    // The guard sees the record when it next looks.
    wait::until_async("the record is seen", || async {
        let result = guard.write(set("a")).await;
        (result == Err(refusal(too_few.clone()))).then_some(())
    })
    .await;
    assert!(!exists(&primary, "a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_the_primary_when_it_is_killed() {
    let (mut old, [replica, other]) = topology();
    name_members(&old, 1, &[replica.instance()]);
    let (source, receiver) = watch::channel(named(&old));
    let mut options = options(PrimarySource::Watch(receiver));
    options.timeouts.wait = Duration::from_secs(10);
    let guard = WriteGuard::new(options);
    guard.write(set("a")).await.unwrap();
    replica.pause();
    let write = stuck_write(&guard, &old, "b").await;
    old.kill9();
    let cause = unknown(write.await.unwrap());
    assert!(
        matches!(cause, UnknownCause::ConnectionLost(_)),
        "{cause:?}"
    );
    replica.resume();
    let next = tokio::spawn({
        let guard = guard.clone();
        async move { guard.write_attributed(set("c")).await }
    });
    fail_over(&replica, &other);
    source.send(named(&replica)).unwrap();
    let acknowledged = next.await.unwrap().unwrap();
    assert_eq!(acknowledged.primary, replica.instance());
    assert!(exists(&other, "a") && exists(&other, "c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_a_hung_primary_when_another_is_named() {
    let (old, [replica, other]) = topology();
    name_members(&old, 1, &[replica.instance()]);
    let (source, receiver) = watch::channel(named(&old));
    let mut options = options(PrimarySource::Watch(receiver));
    options.timeouts.reply = Duration::from_secs(30);
    options.timeouts.wait = Duration::from_secs(30);
    let guard = WriteGuard::new(options);
    guard.write(set("a")).await.unwrap();
    replica.pause();
    let write = stuck_write(&guard, &old, "b").await;
    old.pause();
    replica.resume();
    fail_over(&replica, &other);
    let start = Instant::now();
    source.send(named(&replica)).unwrap();
    let cause = unknown(write.await.unwrap());
    assert_eq!(cause, UnknownCause::PrimaryMoved(replica.instance()));
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "it waited for the hung one"
    );
    let acknowledged = guard.write_attributed(set("c")).await.unwrap();
    assert_eq!(acknowledged.primary, replica.instance());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_primary_alone_ends_in_unknown_and_then_in_no_primary() {
    let (primary, [replica]) = topology();
    name_members(&primary, 1, &[replica.instance()]);
    let mut options = fixed(&primary);
    options.timeouts.unsent = Duration::from_secs(2);
    let guard = WriteGuard::new(options);
    guard.write(set("a")).await.unwrap();
    primary.pause();
    let cause = unknown(guard.write(set("b")).await);
    assert!(matches!(cause, UnknownCause::Silent(_)), "{cause:?}");
    let error = guard.write(set("c")).await.unwrap_err();
    assert!(
        matches!(
            &error,
            WriteError::NoPrimary {
                cause: Trouble::Unreachable { .. } | Trouble::Ended { .. },
                ..
            }
        ),
        "{error:?}"
    );
    primary.resume();
    assert_eq!(guard.write(set("d")).await, Ok(Value::Okay));
    assert!(!exists(&primary, "c"), "reported as not sent, and there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demotion_never_acknowledges() {
    let (primary, [replica]) = topology();
    name_members(&primary, 1, &[replica.instance()]);
    let mut options = fixed(&primary);
    options.timeouts.wait = Duration::from_secs(10);
    options.timeouts.unsent = Duration::from_secs(2);
    let guard = WriteGuard::new(options);
    guard.write(set("a")).await.unwrap();
    replica.pause();
    let write = stuck_write(&guard, &primary, "b").await;
    primary.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    replica.resume();
    let cause = unknown(write.await.unwrap());
    assert!(
        matches!(
            cause,
            UnknownCause::Demoted | UnknownCause::ConnectionLost(_)
        ),
        "{cause:?}"
    );
    let error = guard.write(set("c")).await.unwrap_err();
    assert_eq!(error.fate(), Fate::NotExecuted, "{error:?}");
    assert!(!exists(&primary, "c"));
}

/// The server was a replica in between and discarded what others wrote, while the connection stood (S17).
#[tokio::test(flavor = "multi_thread")]
async fn a_demotion_and_a_promotion_behind_an_idle_connection_are_noticed() {
    let (primary, [replica]) = topology();
    name_members(&primary, 1, &[replica.instance()]);
    let guard = WriteGuard::new(fixed(&primary));
    guard.write(set("a")).await.unwrap();
    primary.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    primary.cli(&["REPLICAOF", "NO", "ONE"]);
    let cause = unknown(guard.write(set("b")).await);
    assert_eq!(cause, UnknownCause::ReplicationIdChanged);
    wait_until_it_streams(&primary, &replica);
    assert_eq!(guard.write(set("c")).await, Ok(Value::Okay));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_write_quorum_behind_the_connection_is_noticed() {
    let (primary, [replica]) = topology();
    name_members(&primary, 1, &[replica.instance()]);
    let guard = WriteGuard::new(fixed(&primary));
    guard.write(set("a")).await.unwrap();
    name_members(&primary, 1, &[replica.instance(), nobody()]);
    let cause = unknown(guard.write(set("b")).await);
    assert_eq!(cause, UnknownCause::QuorumChanged);
    assert_eq!(guard.write(set("c")).await, Ok(Value::Okay));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_server_are_definite() {
    let (primary, [replica]) = topology();
    name_members(&primary, 1, &[replica.instance()]);
    let guard = WriteGuard::new(fixed(&primary));
    guard.write(set("text")).await.unwrap();
    let rejected = async |command: Cmd| match guard.write(command).await {
        Err(WriteError::Rejected(error)) => error.code().to_owned(),
        other => panic!("{other:?} is not rejected"),
    };
    let mut push = redis::cmd("LPUSH");
    push.arg("text").arg("1");
    assert_eq!(rejected(push).await, "WRONGTYPE");
    primary.cli(&["CONFIG", "SET", "min-replicas-to-write", "2"]);
    assert_eq!(rejected(set("a")).await, "NOREPLICAS");
    primary.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert_eq!(guard.write(set("b")).await, Ok(Value::Okay));
    primary.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(rejected(set("c")).await, "READONLY");
    primary.cli(&["REPLICAOF", "NO", "ONE"]);
    assert!(!exists(&primary, "a") && !exists(&primary, "c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_fails_half_way_is_not_called_rejected() {
    let (primary, [replica]) = topology();
    name_members(&primary, 1, &[replica.instance()]);
    let guard = WriteGuard::new(fixed(&primary));
    let mut script = redis::cmd("EVAL");
    script
        .arg("redis.call('SET', KEYS[1], 1); return redis.call('LPUSH', KEYS[1], 1)")
        .arg(1)
        .arg("a");
    let cause = unknown(guard.write(script).await);
    assert!(matches!(cause, UnknownCause::Ambiguous(_)), "{cause:?}");
    assert!(exists(&primary, "a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_commands_share_one_count() {
    let (primary, [replica]) = topology();
    name_members(&primary, 1, &[replica.instance()]);
    let guard = WriteGuard::new(fixed(&primary));
    let mut push = redis::cmd("LPUSH");
    push.arg("a").arg("1");
    let replies = guard.write_all(vec![set("a"), push, set("b")]).await;
    let codes: Vec<_> = replies
        .unwrap()
        .into_iter()
        .map(|reply| reply.map_err(|error| error.code().to_owned()))
        .collect();
    let wrong_type = Err("WRONGTYPE".to_owned());
    assert_eq!(codes, [Ok(Value::Okay), wrong_type, Ok(Value::Okay)]);
    let transaction = vec![redis::cmd("MULTI"), set("c"), redis::cmd("EXEC")];
    let replies = guard.write_all(transaction).await.unwrap();
    assert_eq!(replies[2], Ok(Value::Array(vec![Value::Okay])));
    assert!(exists(&replica, "c"));
    let torn = guard.write(redis::cmd("MULTI")).await;
    let refusal = WriteError::NotAllowed {
        command: "MULTI".into(),
        why: NotAllowed::TornTransaction,
    };
    assert_eq!(torn, Err(refusal));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_in_flight_is_bounded() {
    let (primary, [replica]) = topology();
    name_members(&primary, 1, &[replica.instance()]);
    let mut options = fixed(&primary);
    options.in_flight_max = 1;
    options.timeouts.wait = Duration::from_secs(10);
    options.timeouts.unsent = Duration::from_secs(2);
    let guard = WriteGuard::new(options);
    guard.write(set("a")).await.unwrap();
    replica.pause();
    let write = stuck_write(&guard, &primary, "b").await;
    let overloaded = WriteError::Overloaded { in_flight_max: 1 };
    assert_eq!(guard.write(set("c")).await, Err(overloaded));
    replica.resume();
    assert_eq!(write.await.unwrap(), Ok(Value::Okay));
    assert!(!exists(&primary, "c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_named_primary_nothing_is_sent() {
    let (_source, receiver) = watch::channel(None);
    let mut options = options(PrimarySource::Watch(receiver));
    options.timeouts.unsent = Duration::from_millis(100);
    let guard = WriteGuard::new(options);
    let error = guard.write(set("a")).await.unwrap_err();
    assert!(
        matches!(
            &error,
            WriteError::NoPrimary {
                cause: Trouble::Unnamed,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_sent_and_never_shown() {
    let secured = Options::default().password("hunter2");
    let primary = RedisServer::with(secured.clone());
    let replica = RedisServer::with(secured.replica_of(&primary));
    wait_until_it_streams(&primary, &replica);
    name_members(&primary, 1, &[replica.instance()]);
    let credentials = |password: &str| {
        Some(Credentials {
            username: None,
            password: Secret::new(password),
        })
    };
    let mut right = fixed(&primary);
    right.credentials = credentials("hunter2");
    assert!(!format!("{right:?}").contains("hunter2"));
    assert_eq!(
        WriteGuard::new(right).write(set("a")).await,
        Ok(Value::Okay)
    );
    let mut wrong = fixed(&primary);
    wrong.credentials = credentials("hunter3");
    wrong.timeouts.unsent = Duration::from_secs(2);
    let error = WriteGuard::new(wrong).write(set("b")).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("WRONGPASS") && !text.contains("hunter3"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acl_user_needs_four_commands_beside_its_writes() {
    let (primary, [replica]) = topology();
    name_members(&primary, 1, &[replica.instance()]);
    let as_user = |name: &str| {
        let mut options = fixed(&primary);
        options.timeouts.unsent = Duration::from_secs(2);
        options.credentials = Some(Credentials {
            username: Some(name.to_owned()),
            password: Secret::new("hunter2"),
        });
        WriteGuard::new(options)
    };
    let user = |name: &str, commands: &str| {
        let mut words = vec!["ACL", "SETUSER", name, "on", ">hunter2", "~*", "+set"];
        words.extend(commands.split(' '));
        primary.cli(&words);
    };
    user("enough", "+info +role +wait +acl|getuser");
    assert_eq!(as_user("enough").write(set("a")).await, Ok(Value::Okay));
    user("short", "+info +role +wait");
    let error = as_user("short").write(set("b")).await.unwrap_err();
    let refused = matches!(
        &error,
        WriteError::NoPrimary {
            cause: Trouble::Refused { .. },
            ..
        }
    );
    assert!(
        refused && error.to_string().contains("+acl|getuser"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writes_share_few_counts() {
    const WRITES: u32 = 1000;
    let (primary, [replica]) = topology();
    name_members(&primary, 1, &[replica.instance()]);
    let guard = WriteGuard::new(fixed(&primary));
    guard.write(set("warm")).await.unwrap();
    primary.cli(&["CONFIG", "RESETSTAT"]);
    let start = Instant::now();
    let writes: Vec<_> = (0..WRITES)
        .map(|index| {
            let guard = guard.clone();
            tokio::spawn(async move { guard.write(set(&format!("key{index}"))).await })
        })
        .collect();
    for write in writes {
        assert_eq!(write.await.unwrap(), Ok(Value::Okay));
    }
    let seconds = start.elapsed().as_secs_f64();
    let calls = |command: &str| -> u32 {
        let stat = primary.info(&format!("cmdstat_{command}")).unwrap();
        let calls = stat.split(['=', ',']).nth(1).unwrap();
        calls.parse().unwrap()
    };
    let waits = calls("wait");
    println!(
        "{:.0} writes a second, {waits} WAITs for {WRITES} writes",
        f64::from(WRITES) / seconds
    );
    assert_eq!(calls("set"), WRITES);
    assert!(waits < WRITES / 2, "{waits} WAITs for {WRITES} writes");
    assert_eq!(replica.cli(&["DBSIZE"]), primary.cli(&["DBSIZE"]));
}

/// A process of Redis Sentinel itself.
struct RedisSentinel {
    process: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl RedisSentinel {
    fn watching(primary: &RedisServer) -> Self {
        let dir = tempfile::TempDir::with_prefix("redis-test-").unwrap();
        let config = dir.path().join("sentinel.conf");
        // The port of a server that is gone: no outgoing connection gets it by chance.
        let port = RedisServer::start().port();
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", dir.path().display()),
            format!("sentinel monitor orders 127.0.0.1 {} 1", primary.port()),
        ];
        std::fs::write(&config, lines.join("\n") + "\n").unwrap();
        let process = Command::new("redis-server")
            .arg(&config)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            port,
            _dir: dir,
        }
    }

    fn ask(&self, arguments: &[&str]) -> redis::RedisResult<Value> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port))?;
        redis::cmd("SENTINEL")
            .arg(arguments)
            .query(&mut client.get_connection()?)
    }
}

impl Drop for RedisSentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_redis_sentinel_by_its_protocol() {
    let (old, [replica]) = topology();
    name_members(&old, 1, &[replica.instance()]);
    let sentinel = RedisSentinel::watching(&old);
    wait::until("the replica is known", || {
        let replicas = sentinel.ask(&["REPLICAS", "orders"]).ok()?;
        matches!(&replicas, Value::Array(list) if list.len() == 1).then_some(())
    });
    let endpoint = InstanceId::new("127.0.0.1", sentinel.port);
    let guard = WriteGuard::new(options(PrimarySource::Sentinels {
        endpoints: vec![nobody(), endpoint],
        credentials: None,
    }));
    let acknowledged = guard.write_attributed(set("a")).await.unwrap();
    assert_eq!(acknowledged.primary, old.instance());
    name_members(&replica, 1, &[old.instance()]);
    wait::until("it agrees to fail over", || {
        sentinel.ask(&["FAILOVER", "orders"]).ok()
    });
    // Nothing is sent meanwhile: it is the event that moves the guard.
    wait::until("the guard has reached the new primary", || {
        // Redis Sentinel cuts the clients of a server that it promotes, this one among them.
        let clients = replica
            .try_cli(&["CLIENT", "LIST", "TYPE", "normal"])
            .ok()?;
        let text: String = redis::from_redis_value(clients).unwrap();
        text.contains("cmd=acl|getuser").then_some(())
    });
    // Redis Sentinel itself would re-point it after eight seconds.
    old.cli(&["REPLICAOF", "127.0.0.1", &replica.port().to_string()]);
    let acknowledged = wait::until_async("the old primary follows and counts", || async {
        guard.write_attributed(set("b")).await.ok()
    })
    .await;
    assert_eq!(acknowledged.primary, replica.instance());
}
