//! The servers of one service, whatever their engine: the one place where the demonstration tells engines apart.
//!
//! Passes on, and decides nothing: each engine's own folder knows how its servers are started, broken and read.

use sentinel_core::id::InstanceId;

use super::{postgres, redis};
use crate::demo::error::DemoError;
use crate::demo::journal::{Acked, Key};
use crate::demo::options::Engine;
use crate::demo::plan::ServicePlan;
use crate::demo::site::Site;

/// Servers of each service: a primary and two replicas.
pub(in crate::demo) const SERVERS: usize = 3;

/// The servers of one service. They end with this.
#[derive(Debug)]
pub(in crate::demo) enum Fleet {
    /// Redis servers.
    Redis(redis::Servers),
    /// PostgreSQL servers, each with an agent.
    Postgres(postgres::Servers),
}

impl Fleet {
    /// Fails if a program is missing without which there is nothing to show. Starts nothing.
    pub(in crate::demo) fn require(plan: &ServicePlan) -> Result<(), DemoError> {
        match plan.engine {
            Engine::Redis => redis::require(),
            Engine::Postgres => postgres::require(plan),
        }
    }

    /// Starts a primary and two replicas, and waits until each answers.
    pub(in crate::demo) async fn start(
        plan: &ServicePlan,
        site: &mut Site,
    ) -> Result<Self, DemoError> {
        match plan.engine {
            Engine::Redis => redis::Servers::start(plan, site).await.map(Self::Redis),
            Engine::Postgres => postgres::Servers::start(plan, site)
                .await
                .map(Self::Postgres),
        }
    }

    /// What the settings file of a node, by its number, says about this service.
    pub(in crate::demo) fn node_settings(&self, node: usize) -> String {
        match self {
            Self::Redis(servers) => servers.node_settings(),
            Self::Postgres(servers) => servers.node_settings(node),
        }
    }

    /// Lets the fault happen to the primary.
    pub(in crate::demo) fn strike(&self, primary: &InstanceId) -> Result<(), DemoError> {
        match self {
            Self::Redis(servers) => servers.strike(primary),
            Self::Postgres(servers) => servers.strike(primary),
        }
    }

    /// Takes the fault away, as far as this is not the business of whoever is shown.
    pub(in crate::demo) async fn repair(&mut self, primary: &InstanceId) -> Result<(), DemoError> {
        match self {
            Self::Redis(servers) => servers.repair(primary).await,
            Self::Postgres(servers) => {
                servers.repair(primary);
                Ok(())
            }
        }
    }

    /// Every address under which a write may say that this server took it.
    pub(in crate::demo) fn addresses(&self, server: &InstanceId) -> Vec<InstanceId> {
        match self {
            Self::Redis(servers) => servers.addresses(server),
            Self::Postgres(_) => vec![server.clone()],
        }
    }

    /// A client that writes, by its number. Half of them stand on the primary's side where the network falls apart.
    pub(in crate::demo) fn writer(
        &self,
        number: usize,
        primary: &InstanceId,
        endpoints: &[InstanceId],
    ) -> Writer {
        match self {
            Self::Redis(servers) => Writer::Redis(servers.writer(number, primary, endpoints)),
            Self::Postgres(servers) => Writer::Postgres(Box::new(servers.writer(endpoints))),
        }
    }

    /// How many of these writes are missing on at least one of the servers.
    pub(in crate::demo) async fn lost(
        &self,
        acked: &[Acked],
        primary: &InstanceId,
    ) -> Result<u64, DemoError> {
        match self {
            Self::Redis(servers) => servers.lost(acked, primary).await,
            Self::Postgres(servers) => servers.lost(acked, primary).await,
        }
    }
}

/// One client, with a connection of its own to whoever is primary.
#[derive(Debug)]
pub(in crate::demo) enum Writer {
    /// Through the write guard.
    Redis(redis::Writer),
    /// One row a transaction.
    Postgres(Box<postgres::Writer>),
}

impl Writer {
    /// Sends one write, once, and says who acknowledged it.
    pub(in crate::demo) async fn write(&mut self, key: Key) -> Option<InstanceId> {
        match self {
            Self::Redis(writer) => writer.write(key).await,
            Self::Postgres(writer) => writer.write(key).await,
        }
    }
}
