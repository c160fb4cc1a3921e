//! Finds sleeps in the tests: each hides a race or wastes time.
//!
//! Knows the listed exceptions with their reasons. Sleeps outside `tests/` are not its business.

use crate::repository::{File, Violation, without_comment};

/// Files that may sleep, each with the reason: the one place that polls a condition, and waits that are themselves the
/// thing under test.
const SLEEPERS: &[(&str, &str)] = &[("tests/src/wait.rs", "the one place that polls a condition")];

pub(crate) fn sleeping_test(files: &[File]) -> Vec<Violation> {
    let listed = |file: &&File| SLEEPERS.iter().any(|(path, _)| *path == file.path);
    let mut found = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.path.starts_with("tests/") && !listed(file) && !file.is_a_house_rule())
    {
        for index in sleeping_lines(&file.text) {
            found.push(file.violation(index, "a sleep in a test; poll a condition with a bound, or list the file with its reason"));
        }
    }
    found
}

/// An exception that nobody needs any longer would cover the next sleep that slips in.
pub(crate) fn listed_without_need(files: &[File]) -> Vec<Violation> {
    unneeded(SLEEPERS, files)
}

fn unneeded(sleepers: &[(&str, &str)], files: &[File]) -> Vec<Violation> {
    let needed = |path: &str, reason: &str| {
        let file = files.iter().find(|file| file.path == path);
        !reason.is_empty() && file.is_some_and(|file| sleeping_lines(&file.text).next().is_some())
    };
    sleepers
        .iter()
        .filter(|(path, reason)| !needed(path, reason))
        .map(|(path, _)| Violation {
            path: (*path).to_owned(),
            line: 1,
            rule: "listed as sleeping without a sleep or a reason",
        })
        .collect()
}

fn sleeping_lines(text: &str) -> impl Iterator<Item = usize> {
    text.lines()
        .enumerate()
        .filter_map(|(index, line)| sleeps(without_comment(line)).then_some(index))
}

/// An imported `sleep(…)` is the same sleep under a shorter name; the definition of an own `fn sleep` is found by its body.
fn sleeps(line: &str) -> bool {
    let named = ["thread::sleep", "time::sleep", "sleep_until("]
        .iter()
        .any(|word| line.contains(word));
    let called = line.match_indices("sleep(").any(|(at, _)| {
        let before = &line[..at];
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_') && !before.ends_with("fn ")
    });
    named || called
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{lines_of, planted};

    const TEXT: &str = "std::thread::sleep(x);\ntokio::time::sleep(x).await;\nsleep(x);\nasleep(x); // thread::sleep\n";

    #[test]
    fn sleeping_test_can_fail() {
        assert_eq!(
            lines_of(&sleeping_test(&planted("tests/tests/e2e_a.rs", TEXT))),
            [1, 2, 3]
        );
        assert_eq!(
            sleeping_test(&planted("sentinel-daemon/src/a.rs", TEXT)),
            []
        );
    }

    #[test]
    fn listed_without_need_can_fail() {
        let sleeping = planted("tests/src/a.rs", TEXT);
        assert_eq!(unneeded(&[("tests/src/a.rs", "polls")], &sleeping), []);
        assert_eq!(unneeded(&[("tests/src/a.rs", "")], &sleeping).len(), 1);
        assert_eq!(
            unneeded(&[("tests/src/gone.rs", "polls")], &sleeping).len(),
            1
        );
        assert_eq!(
            unneeded(
                &[("tests/src/a.rs", "polls")],
                &planted("tests/src/a.rs", "//! A.\n")
            )
            .len(),
            1
        );
    }
}
