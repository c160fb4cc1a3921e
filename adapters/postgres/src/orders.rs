//! The statements of each action. Pure: decides what is sent, never whether or when.
//!
//! `ALTER SYSTEM` keeps a setting over the server's restart, and takes effect with the reload after it.

use crate::connection::Purpose;
use crate::conninfo::literal;

/// Makes the server read its settings again. Also wakes a standby that waits before its next attempt to
/// connect, so that repeating an order brings the attempt forward.
pub(crate) const RELOAD: &str = "SELECT pg_reload_conf()::text";

/// Becomes primary; returns before it is.
pub(crate) const PROMOTE: &str = "SELECT pg_promote(false)::text";

/// Replays again.
pub(crate) const RESUME_REPLAY: &str = "SELECT pg_wal_replay_resume()::text";

/// The names of the physical slots from which a standby can stream.
pub(crate) const SLOTS: &str = "SELECT slot_name::text FROM pg_replication_slots \
    WHERE slot_type = 'physical' AND wal_status IS DISTINCT FROM 'lost'";

/// For what the process waits that tells all others whether commits wait for standbys at all.
pub(crate) const CHECKPOINTER: &str =
    "SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE backend_type = 'checkpointer'";

/// Its waits in which it has read the settings that were in force when the wait began.
pub(crate) const CHECKPOINTER_WAITS: [&str; 2] = ["CheckpointerMain", "CheckpointWriteDelay"];

/// Sets one parameter for good.
pub(crate) fn set(name: &str, value: &str) -> String {
    format!("ALTER SYSTEM SET {name} = {}", literal(value))
}

/// Ends every other session in which somebody acts for this service (rule S6).
pub(crate) fn close_others() -> String {
    format!(
        "SELECT pg_terminate_backend(pid)::text {}",
        others(Purpose::Act.name())
    )
}

/// Those of them that are not gone yet.
pub(crate) fn others_left() -> String {
    format!("SELECT pid::text {}", others(Purpose::Act.name()))
}

fn others(name: &str) -> String {
    format!(
        "FROM pg_stat_activity WHERE application_name = '{name}' \
         AND usename = current_user AND pid <> pg_backend_pid()"
    )
}

/// Ends the senders that still count for synchronous commits under another name than these.
pub(crate) fn close_senders(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| literal(name)).collect();
    let outside = if names.is_empty() {
        String::new()
    } else {
        format!("AND r.application_name NOT IN ({}) ", names.join(", "))
    };
    format!(
        "SELECT pg_terminate_backend(r.pid)::text FROM pg_stat_replication r \
         JOIN pg_roles u ON u.oid = r.usesysid \
         WHERE r.sync_priority > 0 {outside}AND {ALLOWED}"
    )
}

/// Ends the sessions of all clients.
pub(crate) fn close_clients() -> String {
    format!(
        "SELECT pg_terminate_backend(a.pid)::text FROM pg_stat_activity a \
         JOIN pg_roles u ON u.oid = a.usesysid \
         WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() \
         AND a.application_name <> '{}' AND {ALLOWED}",
        Purpose::Probe.name()
    )
}

/// Only a superuser may end a superuser's session, and one refusal would end the whole statement.
const ALLOWED: &str =
    "(NOT u.rolsuper OR (SELECT s.rolsuper FROM pg_roles s WHERE s.rolname = current_user))";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted() {
        assert_eq!(
            set("primary_conninfo", "host='a' password='it''s'"),
            "ALTER SYSTEM SET primary_conninfo = 'host=''a'' password=''it''''s'''"
        );
    }

    #[test]
    fn without_names_every_counting_sender_is_ended() {
        assert!(!close_senders(&[]).contains("NOT IN"));
        assert!(close_senders(&["a:1".into(), "b:2".into()]).contains("NOT IN ('a:1', 'b:2')"));
    }
}
