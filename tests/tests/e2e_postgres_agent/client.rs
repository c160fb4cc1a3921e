//! A client that stays connected, so that a stop has to deal with it.

use rustix::process::{Pid, Signal, kill_process};
use sentinel_tests::postgres_server::{PostgresServer, Role};
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

/// A client's session that stays until the server ends it.
pub(crate) struct Client {
    runtime: Runtime,
    session: tokio_postgres::Client,
    pid: i32,
}

impl Client {
    pub(crate) fn of(server: &PostgresServer) -> Self {
        Self::logged_in(server, Role::App)
    }

    pub(crate) fn logged_in(server: &PostgresServer, role: Role) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let conninfo = server.conninfo(role);
        let (session, pid) = runtime.block_on(async {
            let (session, connection) = tokio_postgres::connect(&conninfo, NoTls).await.unwrap();
            tokio::spawn(connection);
            let row = session.query_one("SELECT pg_backend_pid()", &[]).await;
            (session, row.unwrap().get(0))
        });
        Self {
            runtime,
            session,
            pid,
        }
    }

    pub(crate) fn execute(&self, statement: &str) {
        let done = self.session.batch_execute(statement);
        self.runtime.block_on(done).unwrap();
    }

    pub(crate) fn works(&self) -> bool {
        let answer = self.session.query_one("SELECT 7", &[]);
        self.runtime.block_on(answer).is_ok()
    }

    /// Its server process stands still, so that it cannot be asked to end.
    pub(crate) fn hang(&self) {
        kill_process(Pid::from_raw(self.pid).unwrap(), Signal::STOP).unwrap();
    }
}
