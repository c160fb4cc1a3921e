//! What the adapter is told of each service, beyond the core's own settings of it.

use std::path::PathBuf;
use std::time::Duration;

use crate::credentials::Credentials;

/// How to reach the servers of one service, and what to set on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisService {
    /// User and password of all its servers; `None` where they want none. Servers authenticate to
    /// each other by their own `masteruser` and `masterauth`, which the adapter never sets.
    pub credentials: Option<Credentials>,
    /// A replica that has not acknowledged for longer does not count towards `min_replicas`. Becomes
    /// `min-replicas-max-lag`, in whole seconds rounded up, at least one: zero would switch it off.
    pub ack_lag_max: Duration,
    /// How long a server waits before it sends a full copy, so that a primary that restarted empty
    /// is found before it wipes its replicas (rule S15): longer than detection, commit and freeze
    /// together. Becomes `repl-diskless-sync-delay`, in whole seconds rounded up, at least one.
    pub restart_delay: Duration,
    /// Where this node keeps the data sets of instances that held writes which the authorised
    /// primary does not have, before they follow it. Nothing is ever removed from it. `None`: such
    /// writes are given up, with a warning in the log.
    pub copies: Option<PathBuf>,
}

impl Default for RedisService {
    fn default() -> Self {
        Self {
            credentials: None,
            ack_lag_max: Duration::from_secs(10),
            restart_delay: Duration::from_secs(5),
            copies: None,
        }
    }
}

/// Whole seconds, rounded up, at least one.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration
        .as_millis()
        .div_ceil(1000)
        .max(1)
        .try_into()
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_up_to_seconds() {
        for (millis, wanted) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (10_000, 10)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), wanted);
        }
    }
}
