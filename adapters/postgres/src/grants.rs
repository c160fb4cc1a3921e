//! The SQL that gives the coordinator's role what it and its agents need, and no more.
//!
//! From 15 on the role is no superuser. Before, `ALTER SYSTEM` cannot be granted, and it has to be one.
//! Does not know the password: who runs the SQL sets it.

use postgres_protocol::escape::escape_identifier;

use crate::conninfo::literal;

/// The SQL to run once on the primary, as a superuser; standbys get it by replication.
pub fn grants(role: &str) -> String {
    let name = escape_identifier(role);
    let text = literal(role);
    let text = text.trim_start();
    format!(
        r"-- Run once on the primary, as a superuser; standbys get it by replication.
-- Then set a password: \password {name}
DO $sentinel$
DECLARE
    parameter text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {text}) THEN
        CREATE ROLE {name};
    END IF;
    ALTER ROLE {name} LOGIN REPLICATION;
    GRANT pg_monitor, pg_signal_backend TO {name};
    GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer) TO {name};
    GRANT EXECUTE ON FUNCTION pg_reload_conf() TO {name};
    GRANT EXECUTE ON FUNCTION pg_wal_replay_resume() TO {name};
    GRANT EXECUTE ON FUNCTION pg_stat_file(text) TO {name};
    -- For agents: pg_rewind, and reading of timeline histories. The last two read any file of the data folder, which
    -- REPLICATION may copy as a whole anyway. All four may be left out where no agent runs.
    GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean) TO {name};
    GRANT EXECUTE ON FUNCTION pg_stat_file(text, boolean) TO {name};
    GRANT EXECUTE ON FUNCTION pg_read_binary_file(text) TO {name};
    GRANT EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint, boolean) TO {name};
    IF current_setting('server_version_num')::int >= 150000 THEN
        FOREACH parameter IN ARRAY ARRAY['primary_conninfo', 'primary_slot_name',
                'synchronous_standby_names', 'default_transaction_read_only'] LOOP
            -- Servers before 15 do not know the words, so they are not read there.
            EXECUTE format('GRANT ALTER SYSTEM ON PARAMETER %I TO %I', parameter, {text});
        END LOOP;
        -- For agents too: a rewind needs a checkpoint of the new primary.
        GRANT pg_checkpoint TO {name};
    ELSE
        -- Before 15 only a superuser may change the server's settings.
        ALTER ROLE {name} SUPERUSER;
    END IF;
END
$sentinel$;
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_quoted() {
        let sql = grants(r#"it's "odd""#);
        assert!(sql.contains(r"rolname = 'it''s "), "{sql}");
        assert!(sql.contains(r#"CREATE ROLE "it's ""odd""""#), "{sql}");
    }

    #[test]
    fn both_kinds_of_version_are_served() {
        let sql = grants("sentinel");
        assert!(sql.contains("'primary_conninfo'"));
        assert!(sql.contains("SUPERUSER"));
    }

    #[test]
    fn no_empty_line_ends_it_early() {
        // Single-user mode takes a semicolon before an empty line for the end of a statement.
        assert!(!grants("sentinel").contains("\n\n"));
    }
}
