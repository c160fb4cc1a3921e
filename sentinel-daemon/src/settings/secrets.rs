//! Reads every secret that a settings file refers to, and says at which line the one stands that cannot be had.
//!
//! Knows where secrets are named. What makes one usable is `secret.rs`'s knowledge, what it opens nobody's here.

use std::collections::BTreeMap;
use std::path::Path;

use sentinel_core::id::ServiceName;
use sentinel_core::runtime::Secret;
use sentinel_core::runtime::transport::ClusterKey;

use super::error::{SettingsFailure, SettingsProblem};
use super::load::Settings;
use super::secret::{read_secret_file, read_secret_variable};
use super::service::PasswordSource;

/// The secrets themselves.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// What peers prove to each other.
    pub cluster_key: Option<ClusterKey>,
    /// What clients of the Sentinel protocol give.
    pub resp_password: Option<Secret>,
    /// What whoever changes something over HTTP gives.
    pub admin_token: Option<Secret>,
    /// What opens the instances of each service that has a password.
    pub services: BTreeMap<ServiceName, Secret>,
    /// What the replicas of a service give to its primary, where that is a password of their own.
    pub replication: BTreeMap<ServiceName, Secret>,
}

impl Settings {
    /// Reads every secret that the file refers to.
    pub fn secrets(&self) -> Result<Secrets, SettingsFailure> {
        let security = &self.security;
        let cluster_key = security
            .cluster_key_file
            .as_deref()
            .map(ClusterKey::read)
            .transpose()
            .map_err(|source| {
                self.failure("security.cluster_key_file", SettingsProblem::Key { source })
            })?;
        let mut services = BTreeMap::new();
        let mut replication = BTreeMap::new();
        for (index, service) in self.services.iter().enumerate() {
            let name = &service.settings.name;
            let at = |prefix: &str| format!("service.{index}.{prefix}");
            if let Some(source) = &service.password {
                let secret = self.secret_of(&at("password"), source)?;
                services.insert(name.clone(), secret);
            }
            if let Some(source) = &service.replication.password {
                let secret = self.secret_of(&at("replication_password"), source)?;
                replication.insert(name.clone(), secret);
            }
        }
        Ok(Secrets {
            cluster_key,
            resp_password: self.secret_in(
                "security.resp_password_file",
                security.resp_password_file.as_deref(),
            )?,
            admin_token: self.admin_token()?,
            services,
            replication,
        })
    }

    /// Reads the token of those who change something, and no other secret: the command line needs no more.
    pub fn admin_token(&self) -> Result<Option<Secret>, SettingsFailure> {
        let file = self.security.admin_token_file.as_deref();
        self.secret_in("security.admin_token_file", file)
    }

    fn secret_in(
        &self,
        path: &str,
        file: Option<&Path>,
    ) -> Result<Option<Secret>, SettingsFailure> {
        file.map(|file| {
            let source = PasswordSource::File(file.to_owned());
            self.secret_of(path.trim_end_matches("_file"), &source)
        })
        .transpose()
    }

    /// `path` is that of the key, without the ending that tells where the secret is.
    fn secret_of(&self, path: &str, source: &PasswordSource) -> Result<Secret, SettingsFailure> {
        let (ending, secret) = match source {
            PasswordSource::File(file) => ("_file", read_secret_file(file)),
            PasswordSource::Environment(variable) => ("_env", read_secret_variable(variable)),
            PasswordSource::Literal(secret) => ("", Ok(secret.clone())),
        };
        secret.map_err(|source| {
            let path = format!("{path}{ending}");
            let field = path.rsplit('.').next().unwrap_or(&path).to_owned();
            self.failure(&path, SettingsProblem::Secret { field, source })
        })
    }
}
