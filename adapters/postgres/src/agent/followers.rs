//! Counts who would acknowledge a primary's writes, were it started: members of the write quorum that is set in its data
//! folder, which answer and follow it.
//!
//! A server that nobody follows could acknowledge nothing: its members are frozen, follow another, or are out of reach.
//! Does not judge whether it may be started.

use futures_util::future::join_all;
use sentinel_core::id::InstanceId;
use sentinel_core::observation::{Facts, Role, Upstream, WriteQuorum};

use super::configuration;
use super::host::Shared;

/// Whether enough members follow our server; the error says how many do.
pub(super) async fn enough(shared: &Shared) -> Result<(), String> {
    let Some(quorum) = configuration::quorum(&shared.settings.data_dir) else {
        return Err(
            "no leader is heard, and the server's settings hold no write quorum of ours: it could acknowledge writes \
             that nobody else has, so it stays stopped until a leader is heard"
                .to_owned(),
        );
    };
    let asked = quorum.members.iter().map(|member| shared.facts_of(member));
    let answers = join_all(asked).await;
    judge(&shared.settings.instance, &quorum, answers.iter().flatten())
}

fn judge<'a>(
    own: &InstanceId,
    quorum: &WriteQuorum,
    answers: impl Iterator<Item = &'a Facts>,
) -> Result<(), String> {
    let follows = |facts: &&Facts| matches!(&facts.role, Role::Replica { upstream: Upstream::Instance(upstream), .. } if upstream == own);
    let (following, k) = (answers.filter(follows).count(), quorum.k as usize);
    if following >= k {
        return Ok(());
    }
    Err(format!(
        "no leader is heard, and {following} of the {k} standbys that a write needs follow this server: it stays stopped \
         until more do, or a leader is heard; look at the standbys, and bring back a majority of the voters"
    ))
}

#[cfg(test)]
mod tests {
    use sentinel_core::id::Token;
    use sentinel_core::observation::Link;

    use super::*;
    use crate::facts::samples;

    fn instance(port: u16) -> InstanceId {
        InstanceId::new("10.0.0.1", port)
    }

    fn standby(upstream: Upstream) -> Facts {
        let link = Link::Broken;
        samples::of(Role::Replica { upstream, link })
    }

    #[test]
    fn only_those_count_that_follow_this_server() {
        let quorum = |k| WriteQuorum {
            version: Token::default(),
            k,
            members: [instance(2), instance(3)].into(),
        };
        let judged = |k, answers: &[Facts]| judge(&instance(1), &quorum(k), answers.iter()).is_ok();
        let ours = standby(Upstream::Instance(instance(1)));
        let frozen = standby(Upstream::Frozen);
        let theirs = standby(Upstream::Instance(instance(3)));
        assert!(judged(1, &[frozen.clone(), ours.clone()]));
        assert!(!judged(2, &[frozen.clone(), ours.clone()]));
        assert!(judged(2, &[ours.clone(), ours]));
        assert!(!judged(1, &[frozen, theirs, samples::of(Role::Primary)]));
        assert!(!judged(1, &[]));
    }
}
