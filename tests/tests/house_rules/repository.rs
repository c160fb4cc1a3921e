//! Reads the repository's text files, and gives the rules the parts of a file that they judge.
//!
//! Knows folders, extensions and where inline tests begin. Does not know any rule.

use std::fs;
use std::path::{Path, PathBuf};

/// One text file: its path from the root of the repository, with forward slashes, and its text.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// One broken rule; `line` counts from one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) rule: &'static str,
}

impl File {
    /// A violation at a line that counts from zero, as `enumerate` does.
    pub(crate) fn violation(&self, line_index: usize, rule: &'static str) -> Violation {
        Violation {
            path: self.path.clone(),
            line: line_index + 1,
            rule,
        }
    }

    /// The rules themselves name what they forbid.
    pub(crate) fn is_a_house_rule(&self) -> bool {
        self.path.starts_with("tests/tests/house_rules/")
    }

    /// The lines before the inline tests.
    pub(crate) fn non_test_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| !begins_tests(line))
    }

    /// The same without comments.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.non_test_lines()
            .map(|(index, line)| (index, without_comment(line)))
    }
}

/// `#[cfg(test)]` in the first column: the inline test module. An indented one is a single item and ends nothing.
fn begins_tests(line: &str) -> bool {
    line.starts_with("#[cfg(test)]")
}

/// A `//` inside a string ends the line too early, which these rules can bear.
pub(crate) fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// All files of one extension in path order. Build results and hidden folders are left out.
pub(crate) fn tracked_files(extension: &str) -> Vec<File> {
    let root = root();
    let mut folders = vec![root.clone()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = fs::read_to_string(&path).unwrap();
                let path = path
                    .strip_prefix(&root)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                files.push(File { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// A repository of one file, for the tests of the rules.
#[cfg(test)]
pub(crate) fn planted(path: &str, text: &str) -> Vec<File> {
    vec![File {
        path: path.to_owned(),
        text: text.to_owned(),
    }]
}

#[cfg(test)]
pub(crate) fn lines_of(violations: &[Violation]) -> Vec<usize> {
    violations.iter().map(|violation| violation.line).collect()
}
