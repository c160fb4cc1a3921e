//! What happened, as a running hash (always) and as text (when asked for).
//!
//! Two runs are the same run iff their hashes agree; a failing seed is replayed with its text.

use std::collections::VecDeque;
use std::fmt::Write as _;

use sentinel_core::time::Instant;

/// Lines kept: enough for the last minutes before a violation.
const LINES_MAX: usize = 20_000;

/// Whether lines are kept besides the hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Text {
    /// The hash alone, which costs next to nothing.
    #[default]
    Off,
    /// The newest lines as well.
    On,
}

/// A running record.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    text: Text,
    lines: VecDeque<String>,
}

impl Trace {
    /// An empty record.
    pub fn new(text: Text) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            text,
            lines: VecDeque::new(),
        }
    }

    /// Folds bytes into the hash (FNV-1a).
    pub fn fold(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Folds numbers into the hash.
    pub fn fold_numbers(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3);
            self.hash ^= self.hash >> 29;
        }
    }

    /// Adds a line; the text is made only when it is kept.
    pub fn line(&mut self, now: Instant, text: impl FnOnce() -> String) {
        match self.text {
            Text::Off => {}
            Text::On => {
                if self.lines.len() == LINES_MAX {
                    self.lines.pop_front();
                }
                self.lines.push_back(format!("{now:?} {}", text()));
            }
        }
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The newest lines, at most so many.
    pub fn tail(&self, lines: usize) -> String {
        let skipped = self.lines.len().saturating_sub(lines);
        self.lines
            .iter()
            .skip(skipped)
            .fold(String::new(), |mut text, line| {
                let _ = writeln!(text, "{line}");
                text
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_matters_and_text_does_not() {
        let hash = |numbers: &[u64], text| {
            let mut trace = Trace::new(text);
            trace.fold_numbers(numbers);
            trace.line(Instant::ORIGIN, || "a line".to_owned());
            trace.hash()
        };
        assert_eq!(hash(&[1, 2], Text::Off), hash(&[1, 2], Text::On));
        assert_ne!(hash(&[1, 2], Text::Off), hash(&[2, 1], Text::Off));
    }

    #[test]
    fn only_the_newest_lines_are_given() {
        let mut trace = Trace::new(Text::On);
        for n in 0..5 {
            trace.line(Instant::ORIGIN, || format!("line {n}"));
        }
        assert_eq!(trace.tail(2), "0.000000s line 3\n0.000000s line 4\n");
    }
}
