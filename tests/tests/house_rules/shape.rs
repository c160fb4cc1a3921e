//! Judges the shape of a source file: length, header, name, unfinished parts, boolean parameters, and what a `mod.rs`
//! may hold.
//!
//! Looks at one file at a time. Does not know which crate may use which.

use crate::repository::{File, Violation, without_comment};

/// The hard limit; a seam is looked for much earlier.
const NON_TEST_LINES_MAX: usize = 700;

/// Names that say nothing about what a module decides.
const FORBIDDEN_NAMES: [&str; 7] = [
    "util", "utils", "common", "helper", "helpers", "manager", "managers",
];

pub(crate) fn too_long(files: &[File]) -> Vec<Violation> {
    files
        .iter()
        .filter(|file| file.non_test_lines().count() > NON_TEST_LINES_MAX)
        .map(|file| {
            file.violation(
                NON_TEST_LINES_MAX,
                "more than 700 non-test lines; find the seam",
            )
        })
        .collect()
}

/// Inner attributes may stand before the header.
pub(crate) fn missing_header(files: &[File]) -> Vec<Violation> {
    let lacks_header = |file: &&File| {
        let mut lines = file
            .text
            .lines()
            .filter(|line| !line.starts_with("#![") && !line.is_empty());
        !lines.next().is_some_and(|line| line.starts_with("//! "))
    };
    let rule =
        "the first line must be `//!`: what it decides, from what, and what it does not know";
    files
        .iter()
        .filter(lacks_header)
        .map(|file| file.violation(0, rule))
        .collect()
}

pub(crate) fn unfinished(files: &[File]) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| !file.is_a_house_rule()) {
        for (index, line) in file.text.lines().enumerate() {
            if ["todo!(", "unimplemented!(", "#[ignore"]
                .iter()
                .any(|word| line.contains(word))
            {
                found.push(file.violation(index, "unfinished code or an ignored test; assert what happens and say why it is wrong"));
            }
        }
    }
    found
}

/// Follows a `use` or an attribute over several lines to its end.
pub(crate) fn logic_in_mod_rs(files: &[File]) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with("/mod.rs")) {
        let mut end_awaited: Option<char> = None;
        for (index, line) in file.text.lines().enumerate() {
            let line = without_comment(line).trim();
            let end = match end_awaited {
                Some(end) => end,
                None if line.is_empty() => continue,
                None if line.starts_with("#[") || line.starts_with("#![") => ']',
                None if is_declaration(line) => ';',
                None => {
                    found.push(file.violation(index, "mod.rs holds declarations only"));
                    continue;
                }
            };
            end_awaited = (!line.ends_with(end)).then_some(end);
        }
    }
    found
}

/// `mod x;` or a `use`, both behind any `pub`; a `mod x {` with a body is no declaration.
fn is_declaration(line: &str) -> bool {
    let item = without_visibility(line);
    item.starts_with("use ") || (item.starts_with("mod ") && item.ends_with(';'))
}

fn without_visibility(line: &str) -> &str {
    let rest = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(')').map_or("", |(_, rest)| rest),
        Some(rest) if rest.starts_with(' ') => rest,
        Some(_) | None => line,
    };
    rest.trim_start()
}

pub(crate) fn forbidden_name(files: &[File]) -> Vec<Violation> {
    let rule = "a name that says nothing; name what it decides";
    let mut found = Vec::new();
    for file in files {
        if file
            .path
            .trim_end_matches(".rs")
            .split('/')
            .any(|part| FORBIDDEN_NAMES.contains(&part))
        {
            found.push(file.violation(0, rule));
        }
        for (index, line) in file.text.lines().enumerate() {
            let Some(rest) = without_visibility(line.trim_start()).strip_prefix("mod ") else {
                continue;
            };
            if FORBIDDEN_NAMES.contains(&rest.trim_end_matches([' ', ';', '{', '}'])) {
                found.push(file.violation(index, rule));
            }
        }
    }
    found
}

/// A call `stop(true)` does not say what is true. Clippy counts booleans, and cannot tell public functions from others.
pub(crate) fn boolean_parameter(files: &[File]) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in files {
        let lines: Vec<_> = file.code_lines().collect();
        for (position, (index, line)) in lines.iter().enumerate() {
            let line = line.trim_start();
            if !(line.starts_with("pub ") && line.contains("fn ")) {
                continue;
            }
            let rest = lines[position..]
                .iter()
                .map(|(_, line)| *line)
                .collect::<Vec<_>>()
                .join(" ");
            let signature = rest.split(['{', ';']).next().unwrap_or_default();
            let parameters = signature
                .rsplit_once("->")
                .map_or(signature, |(parameters, _)| parameters);
            if parameters.contains(": bool") {
                found.push(file.violation(
                    *index,
                    "a boolean parameter in a public function; name the two cases in an enum",
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{lines_of, planted};

    #[test]
    fn too_long_can_fail() {
        assert_eq!(
            lines_of(&too_long(&planted("a/src/b.rs", &"//! A.\n".repeat(701)))),
            [701]
        );
        let with_tests = format!(
            "{}#[cfg(test)]\n{}",
            "//! A.\n".repeat(700),
            "x\n".repeat(900)
        );
        assert_eq!(too_long(&planted("a/src/b.rs", &with_tests)), []);
    }

    #[test]
    fn an_indented_test_attribute_does_not_hide_the_rest() {
        let text = format!("    #[cfg(test)]\n{}", "x\n".repeat(700));
        assert_eq!(lines_of(&too_long(&planted("a/src/b.rs", &text))), [701]);
    }

    #[test]
    fn missing_header_can_fail() {
        for bad in [
            "",
            "use a;\n",
            "/// Not of the file.\nuse a;\n",
            "// A.\n//! A.\n",
        ] {
            assert_eq!(
                missing_header(&planted("a/src/b.rs", bad)).len(),
                1,
                "{bad:?}"
            );
        }
        for good in [
            "//! A.\n",
            "#![expect(x)]\n//! A.\n",
            "\n#![deny(x)]\n\n//! A.\n",
        ] {
            assert_eq!(missing_header(&planted("a/src/b.rs", good)), [], "{good:?}");
        }
    }

    #[test]
    fn unfinished_can_fail() {
        let text = "fn a() { todo!() }\nfn b() {}\nfn c() { unimplemented!(\"x\") }\n#[ignore = \"flaky\"]\n";
        assert_eq!(
            lines_of(&unfinished(&planted("a/src/b.rs", text))),
            [1, 3, 4]
        );
    }

    #[test]
    fn logic_in_mod_rs_can_fail() {
        let good = "//! A.\n#![expect(\n    x,\n    reason = \"y\"\n)]\n\nmod a;\npub mod b;\npub(crate) mod c;\n\
                    pub use a::{\n    B,\n    C,\n};\nuse d;\n";
        assert_eq!(logic_in_mod_rs(&planted("a/src/b/mod.rs", good)), []);
        let bad = "//! A.\nmod a;\nfn b() {}\npub struct C;\nmod d {\n";
        assert_eq!(
            lines_of(&logic_in_mod_rs(&planted("a/src/b/mod.rs", bad))),
            [3, 4, 5]
        );
        assert_eq!(logic_in_mod_rs(&planted("a/src/b.rs", bad)), []);
    }

    #[test]
    fn boolean_parameter_can_fail() {
        let bad = "pub fn a(b: bool) {}\npub async fn c(\n    d: u8,\n    e: bool,\n) -> u8 {\n";
        assert_eq!(
            lines_of(&boolean_parameter(&planted("a/src/b.rs", bad))),
            [1, 2]
        );
        let good = "fn a(b: bool) {}\npub fn c(d: u8) -> bool { let e: bool = f; }\npub struct G { pub h: bool }\n";
        assert_eq!(boolean_parameter(&planted("a/src/b.rs", good)), []);
    }

    #[test]
    fn forbidden_name_can_fail() {
        assert_eq!(
            lines_of(&forbidden_name(&planted("a/src/utils.rs", "//! A.\n"))),
            [1]
        );
        assert_eq!(
            lines_of(&forbidden_name(&planted("a/src/helper/b.rs", "//! A.\n"))),
            [1]
        );
        let inside = "//! A.\npub(super) mod common;\nmod manager {\n";
        assert_eq!(
            lines_of(&forbidden_name(&planted("a/src/b.rs", inside))),
            [2, 3]
        );
        assert_eq!(
            forbidden_name(&planted("a/src/utility.rs", "mod communal;\n")),
            []
        );
    }
}
