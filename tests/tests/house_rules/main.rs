//! Checks the rules of the house that no compiler and no lint checks.
//!
//! Decides from the text of the repository's files alone; does not parse Rust and does not know what the code does. Each
//! rule is a function from files to violations, and its own file plants a violation to show that it can fail.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod arrows;
mod links;
mod repository;
mod shape;
mod sleeps;

use repository::{File, Violation, root, tracked_files};

type Rule = fn(&[File]) -> Vec<Violation>;

#[test]
fn source_files_keep_the_house_rules() {
    let files = tracked_files("rs");
    assert!(
        files
            .iter()
            .any(|file| file.path == "sentinel-core/src/lib.rs"),
        "the walk missed the core"
    );
    let rules: [Rule; 10] = [
        shape::too_long,
        shape::missing_header,
        shape::unfinished,
        shape::logic_in_mod_rs,
        shape::forbidden_name,
        shape::boolean_parameter,
        sleeps::sleeping_test,
        arrows::codec_named_twice,
        arrows::raft_outside_ledger,
        arrows::engine_in_core,
    ];
    let violations: Vec<_> = rules.iter().flat_map(|rule| rule(&files)).collect();
    assert_none(&violations);
}

#[test]
fn every_sleeper_exists_and_sleeps() {
    assert_none(&sleeps::listed_without_need(&tracked_files("rs")));
}

#[test]
fn manifests_keep_the_arrows() {
    let manifests = tracked_files("toml");
    assert!(
        manifests
            .iter()
            .any(|file| file.path == "sentinel-core/Cargo.toml"),
        "the walk missed the core"
    );
    assert_none(&arrows::against_the_stream(&manifests));
}

#[test]
fn documents_link_to_what_exists() {
    assert_none(&links::dangling(&tracked_files("md"), &|path| {
        root().join(path).exists()
    }));
}

fn assert_none(violations: &[Violation]) {
    let lines: Vec<_> = violations
        .iter()
        .map(|Violation { path, line, rule }| format!("{path}:{line}: {rule}"))
        .collect();
    assert!(
        lines.is_empty(),
        "{} broken house rules:\n{}",
        lines.len(),
        lines.join("\n")
    );
}
