//! A standby from nothing: built by the agent alone, with progress, and begun again when it was killed.

use sentinel_tests::postgres_server::{FirstStart, Options, PostgresServer, PostgresVersion};
use sentinel_tests::wait;

use crate::minded::{JOB, Minded};
use crate::stalling::Stalling;

fn empty_standby(primary: &PostgresServer) -> (PostgresServer, Minded) {
    let options = Options::default().first_start(FirstStart::Later);
    let standby = PostgresServer::without_data(primary.version(), options);
    let mut minded = Minded::prepare(&standby);
    let sockets = standby.socket_dir().display().to_string();
    minded
        .settings
        .first_settings
        .insert("unix_socket_directories".to_owned(), sockets);
    (standby, minded)
}

fn wait_until_it_streams(primary: &PostgresServer, standby: &PostgresServer, minded: &Minded) {
    let streaming = format!(
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '{}'",
        standby.instance()
    );
    let streams = wait::within(JOB, || (primary.value(&streaming) == "1").then_some(()));
    assert!(streams.is_some(), "{:?}", minded.status());
    primary.wait_for_standby(standby);
}

#[test]
fn an_empty_standby_is_built_by_the_agent_alone() {
    for version in PostgresVersion::all_present() {
        built_alone(&version);
    }
}

fn built_alone(version: &PostgresVersion) {
    let primary = PostgresServer::primary(version);
    primary.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    let (standby, mut minded) = empty_standby(&primary);
    minded.begin();
    minded.committed(&primary.instance(), 1);
    wait_until_it_streams(&primary, &standby, &minded);
    assert_eq!(standby.value("SELECT count(*) FROM t"), "1000");
    assert_eq!(standby.value("SHOW port"), standby.port().to_string());
}

#[test]
fn a_copy_that_was_killed_half_way_is_made_again() {
    let primary = PostgresServer::primary(&PostgresVersion::any());
    primary.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) n");
    let way = Stalling::before(&primary);
    way.stall_after(4 << 20);
    let (standby, mut minded) = empty_standby(&primary);
    minded.begin();
    minded.committed(&way.instance(), 1);
    way.wait_until_stalled();
    let doing = minded.status().doing.unwrap();
    assert!(doing.contains("copy"), "{doing}");
    minded.kill_agent();
    assert!(
        !standby.data_dir().exists(),
        "half a copy never bears the name of a whole one"
    );
    way.pass_everything();
    minded.begin();
    wait_until_it_streams(&primary, &standby, &minded);
    assert_eq!(standby.value("SELECT count(*) FROM t"), "1000");
    let left = std::fs::read_dir(standby.folder()).unwrap();
    let left: Vec<_> = left
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().contains("sentinel-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
