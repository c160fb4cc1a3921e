//! Judges who may name whom: `core <- adapters <- daemon <- tests`, and inside the core the crates with one home each.
//!
//! Reads names in source lines and in manifests. Does not resolve paths, so it looks for the first segment only.

use crate::repository::{File, Violation};

const CORE: &str = "sentinel-core/src/";

/// The one place that touches the raft crate.
const LEDGER: &str = "sentinel-core/src/ledger/";

/// The engines, which the core must not know by name.
/// `PostgreSQL` falls into `postgre` and `sql` where words are told apart.
const ENGINE_NAMES: [&str; 4] = ["redis", "valkey", "postgres", "postgre"];

pub(crate) fn codec_named_twice(files: &[File]) -> Vec<Violation> {
    let namers: Vec<_> = files
        .iter()
        .filter(|file| file.path.starts_with(CORE))
        .filter_map(|file| {
            let (index, _) = file
                .code_lines()
                .find(|(_, line)| names_crate(line, "bincode"))?;
            Some(file.violation(
                index,
                "bincode is named in more than one file; only the codec may name it",
            ))
        })
        .collect();
    if namers.len() > 1 { namers } else { Vec::new() }
}

pub(crate) fn raft_outside_ledger(files: &[File]) -> Vec<Violation> {
    let outside = |file: &&File| file.path.starts_with(CORE) && !file.path.starts_with(LEDGER);
    let mut found = Vec::new();
    for file in files.iter().filter(outside) {
        for (index, line) in file.code_lines() {
            if names_crate(line, "raft") {
                found.push(file.violation(
                    index,
                    "the raft crate is touched below sentinel-core/src/ledger/ only",
                ));
            }
        }
    }
    found
}

/// `name::…` as the first segment of a path, `use name;` or `use name as …`. Not `self::name::…`, a module of ours.
fn names_crate(line: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let starts_path = line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let inner_segment = before
            .strip_suffix("::")
            .is_some_and(|head| head.ends_with(is_word));
        !before.ends_with(is_word) && !inner_segment && after.starts_with("::")
    });
    let whole = line
        .trim()
        .strip_prefix("use ")
        .and_then(|rest| rest.strip_prefix(name));
    starts_path || whole.is_some_and(|rest| rest == ";" || rest.starts_with(" as "))
}

pub(crate) fn engine_in_core(files: &[File]) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with(CORE)) {
        for (index, line) in file.code_lines() {
            if words(line)
                .iter()
                .any(|word| ENGINE_NAMES.contains(&word.as_str()))
            {
                found.push(file.violation(
                    index,
                    "the core names an engine; that word belongs to its adapter",
                ));
            }
        }
    }
    found
}

/// Lower-case words as people read identifiers: `redis_port` and `RedisPort` have two, `predispose` one.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_upper = false;
    for c in line.chars() {
        let boundary = !c.is_alphanumeric() || (c.is_uppercase() && !previous_upper);
        if boundary {
            words.push(String::new());
        }
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
        previous_upper = c.is_uppercase();
    }
    words
}

/// Reads the dependency tables of each manifest.
pub(crate) fn against_the_stream(manifests: &[File]) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in manifests
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"))
    {
        let mut in_dependencies = false;
        for (index, line) in file.text.lines().enumerate() {
            let dependency = if let Some(table) = line.strip_prefix('[') {
                let table = table.trim_end_matches(']');
                in_dependencies = table.ends_with("dependencies");
                // `[dependencies.name]` names one in its header.
                table.rsplit_once("dependencies.").map(|(_, name)| name)
            } else {
                in_dependencies.then(|| line.split(['=', '.', ' ']).next().unwrap_or_default())
            };
            if dependency.is_some_and(|name| is_forbidden(&file.path, name.trim_matches('"'))) {
                found.push(file.violation(
                    index,
                    "against the arrows core <- adapters <- daemon <- tests",
                ));
            }
        }
    }
    found
}

fn is_forbidden(manifest: &str, dependency: &str) -> bool {
    let core = manifest.starts_with("sentinel-core/");
    let own_adapter = manifest
        .strip_prefix("adapters/")
        .and_then(|rest| rest.split('/').next());
    let tests = manifest.starts_with("tests/");
    match dependency {
        "sentinel-tests" => true,
        "sentinel-daemon" => !tests,
        "sentinel-core" => core,
        _ => match dependency.strip_prefix("sentinel-") {
            // Every other crate of ours is an adapter.
            Some(adapter) => core || own_adapter.is_some_and(|own| own != adapter),
            None => {
                core && ENGINE_NAMES
                    .iter()
                    .any(|engine| dependency.contains(engine))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::planted;

    #[test]
    fn codec_named_twice_can_fail() {
        let mut files = planted("sentinel-core/src/codec.rs", "use bincode::Options;\n");
        let tested = "// bincode::x\n#[cfg(test)]\nmod tests { use bincode::x; }\n";
        files.extend(planted("sentinel-core/src/a.rs", tested));
        assert_eq!(codec_named_twice(&files), []);
        files.extend(planted(
            "sentinel-core/src/b.rs",
            "let a = bincode::serialize(&b);\n",
        ));
        assert_eq!(codec_named_twice(&files).len(), 2);
    }

    #[test]
    fn raft_outside_ledger_can_fail() {
        for bad in [
            "use raft::RawNode;",
            "let a: ::raft::Config = b;",
            "use raft as c;",
            "use raft;",
        ] {
            assert_eq!(
                raft_outside_ledger(&planted("sentinel-core/src/sentinel.rs", bad)).len(),
                1,
                "{bad:?}"
            );
            assert_eq!(
                raft_outside_ledger(&planted("sentinel-core/src/ledger/raft.rs", bad)),
                []
            );
        }
        for good in [
            "use crate::ledger::raft::Log;",
            "mod raft;",
            "use craft::A;",
            "/// raft::A",
            "draft::A",
        ] {
            assert_eq!(
                raft_outside_ledger(&planted("sentinel-core/src/sentinel.rs", good)),
                [],
                "{good:?}"
            );
        }
    }

    #[test]
    fn engine_in_core_can_fail() {
        for bad in [
            "let a = \"redis\";",
            "struct RedisAdapter;",
            "fn redis_port()",
            "Engine::PostgreSQL",
            "// x\nPostgres",
        ] {
            assert_eq!(
                engine_in_core(&planted("sentinel-core/src/a.rs", bad)).len(),
                1,
                "{bad:?}"
            );
            assert_eq!(engine_in_core(&planted("adapters/redis/src/a.rs", bad)), []);
        }
        let good = "/// On Redis this is the offset.\nlet predispose = rediscover;\n#[cfg(test)]\nlet b = \"redis\";\n";
        assert_eq!(engine_in_core(&planted("sentinel-core/src/a.rs", good)), []);
    }

    #[test]
    fn against_the_stream_can_fail() {
        let cases = [
            (
                "adapters/redis/Cargo.toml",
                "[dependencies]\nsentinel-daemon.workspace = true\n",
                1,
            ),
            (
                "adapters/redis/Cargo.toml",
                "[dev-dependencies]\nsentinel-postgres = { path = \"x\" }\n",
                1,
            ),
            (
                "adapters/redis/Cargo.toml",
                "[dependencies.sentinel-daemon]\npath = \"x\"\n",
                1,
            ),
            (
                "adapters/redis/Cargo.toml",
                "[dependencies]\nsentinel-core.workspace = true\nredis = \"1\"\n",
                0,
            ),
            (
                "sentinel-core/Cargo.toml",
                "[dependencies]\nredis.workspace = true\n",
                1,
            ),
            (
                "sentinel-core/Cargo.toml",
                "[target.'cfg(unix)'.dependencies]\ntokio-postgres = \"1\"\n",
                1,
            ),
            (
                "sentinel-core/Cargo.toml",
                "[dev-dependencies]\nsentinel-redis.workspace = true\n",
                1,
            ),
            (
                "sentinel-core/Cargo.toml",
                "[package]\nname = \"sentinel-core\"\n[features]\nredis = []\n",
                0,
            ),
            (
                "sentinel-daemon/Cargo.toml",
                "[dependencies]\nsentinel-redis.workspace = true\n",
                0,
            ),
            (
                "sentinel-daemon/Cargo.toml",
                "[dev-dependencies]\nsentinel-tests.workspace = true\n",
                1,
            ),
            (
                "tests/Cargo.toml",
                "[dependencies]\nsentinel-daemon.workspace = true\n",
                0,
            ),
        ];
        for (path, text, count) in cases {
            assert_eq!(
                against_the_stream(&planted(path, text)).len(),
                count,
                "{path}: {text}"
            );
        }
    }
}
