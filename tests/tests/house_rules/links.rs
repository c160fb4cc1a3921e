//! Finds links of the documents to files that do not exist.
//!
//! Reads inline links and link definitions outside code blocks. Does not follow web addresses or check headings.

use crate::repository::{File, Violation};

const TOP_DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"];

/// `exists` answers for a path from the root of the repository.
pub(crate) fn dangling(documents: &[File], exists: &dyn Fn(&str) -> bool) -> Vec<Violation> {
    let checked = |file: &&File| {
        TOP_DOCUMENTS.contains(&file.path.as_str()) || file.path.starts_with("docs/")
    };
    let mut found = Vec::new();
    for file in documents.iter().filter(checked) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut in_code = false;
        for (index, line) in file.text.lines().enumerate() {
            in_code ^= line.trim_start().starts_with("```");
            if in_code {
                continue;
            }
            for target in targets(line) {
                if !exists(&joined(folder, target)) {
                    found.push(file.violation(index, "a link to a file that does not exist"));
                }
            }
        }
    }
    found
}

/// The file part of each relative `](target)`, and of a `[name]: target` definition.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let inline = line
        .match_indices("](")
        .filter_map(|(at, _)| line[at + 2..].split([')', ' ']).next());
    let defined = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "))
        .map(|(_, target)| target.trim());
    inline
        .chain(defined)
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .map(|target| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty())
}

fn joined(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::{lines_of, planted};

    const PRESENT: [&str; 3] = ["docs/safety.md", "README.md", "docs/adr/0001.md"];

    fn judge(path: &str, text: &str) -> Vec<Violation> {
        dangling(&planted(path, text), &|target| PRESENT.contains(&target))
    }

    #[test]
    fn dangling_can_fail() {
        let bad = "[a](docs/gone.md)\n\n[b]: docs/gone.md\n[c](docs/safety.md) and [d](gone.rs)\n";
        assert_eq!(lines_of(&judge("ARCHITECTURE.md", bad)), [1, 3, 4]);
        assert_eq!(
            lines_of(&judge("docs/protocol.md", "[a](docs/safety.md)\n")),
            [1]
        );
    }

    #[test]
    fn links_that_exist_pass() {
        let top = "[a](docs/safety.md#seal) [b](https://x.org/y) [c](#here) [d](./README.md)\n```\n[e](gone)\n```\n";
        assert_eq!(judge("README.md", top), []);
        assert_eq!(
            judge(
                "docs/protocol.md",
                "[a](../README.md) [b](adr/0001.md)\n[c]: safety.md\n"
            ),
            []
        );
    }
}
