//! Instances that cannot be guarded: `check --connect` on real servers, the exact first line and the exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use sentinel_tests::redis_server::{ConfigFile, Options, RedisServer};

use crate::{errors_of, sentinel};

/// What `check --connect` says first of a service with these lines, and its exit code.
fn first_line(service: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s1.toml");
    let settings = format!(
        "[node]\ncluster = \"main\"\nname = \"s1\"\ndata_dir = \".\"\n[voters]\ns1 = \"127.0.0.1:26380\"\n\
         [[service]]\nname = \"orders\"\nengine = \"redis\"\n{service}\n"
    );
    fs::write(&file, settings).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let output = sentinel(
        folder.path(),
        &["check", "--config", "s1.toml", "--connect"],
    );
    let errors = errors_of(&output);
    assert!(
        !errors.contains("hunter2") && !errors.contains("tr0ub4dor"),
        "{errors}"
    );
    (
        output.status.code(),
        errors.lines().next().unwrap_or_default().to_owned(),
    )
}

fn instances(server: &RedisServer) -> String {
    format!("instances = [\"{}\"]", server.instance())
}

#[test]
fn a_wrong_password() {
    let server = RedisServer::with(Options::default().password("hunter2"));
    let at = server.instance();
    assert_eq!(
        first_line(&format!("password = \"tr0ub4dor\"\n{}", instances(&server))),
        (
            Some(1),
            format!(
                "error: service orders, instance {at}: the server answers `WRONGPASS invalid username-password pair or user is disabled.`; correct username or password_file of this service"
            )
        )
    );
}

#[test]
fn a_server_without_a_configuration_file() {
    let server = RedisServer::with(Options::default().config_file(ConfigFile::Absent));
    let at = server.instance();
    assert_eq!(
        first_line(&instances(&server)),
        (
            Some(1),
            format!(
                "error: service orders, instance {at}: it runs without a configuration file, so that its restart would forget what it was told: start it with one"
            )
        )
    );
}

#[test]
fn a_server_that_is_gone() {
    let mut server = RedisServer::start();
    server.kill9();
    let at = server.instance();
    assert_eq!(
        first_line(&instances(&server)),
        (
            Some(1),
            format!(
                "error: service orders, instance {at}: nothing listens there: start it, or correct `instances`"
            )
        )
    );
}

#[test]
fn a_primary_without_replicas() {
    let server = RedisServer::start();
    assert_eq!(
        first_line(&instances(&server)),
        (
            Some(1),
            "error: service orders: `min_replicas` is 1 and 0 replicas stream from the primary, so no write could be acknowledged: start replicas, or lower it".to_owned()
        )
    );
}

#[test]
fn replicas_without_their_primary() {
    let primary = RedisServer::start();
    let replica = RedisServer::replica_of(&primary);
    assert_eq!(
        first_line(&instances(&replica)),
        (
            Some(1),
            "error: service orders: none of `instances` is a primary: add the primary".to_owned()
        )
    );
}
