//! `sentinel quorum [N]`: how many votes decide among n voters, and how many failures that tolerates. Asks nobody.

use sentinel_core::quorum::{failures_tolerated, majority};
use serde::Serialize;

use super::age::aligned;
use super::args::Format;
use crate::exit::ExitCode;
use crate::output;

/// The table goes up to here; more voters than this only slow the commits down.
const VOTERS_SHOWN: u32 = 9;

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    voters: usize,
    votes: usize,
    tolerated: usize,
}

pub(super) fn run(voters: Option<u32>, format: Format) -> ExitCode {
    let rows: Vec<Row> = match voters {
        Some(voters) => vec![row(voters)],
        None => (1..=VOTERS_SHOWN).map(row).collect(),
    };
    match format {
        Format::Text => lines(&rows).iter().for_each(|line| output::result(line)),
        Format::Json => output::json(&rows),
    }
    ExitCode::Done
}

fn row(voters: u32) -> Row {
    let voters = voters as usize;
    Row {
        voters,
        votes: majority(voters),
        tolerated: failures_tolerated(voters),
    }
}

fn lines(rows: &[Row]) -> Vec<String> {
    let title = ["voters", "votes needed", "failures tolerated"].map(str::to_owned);
    let numbers = rows
        .iter()
        .map(|row| [row.voters, row.votes, row.tolerated].map(|number| number.to_string()));
    aligned(&std::iter::once(title).chain(numbers).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_as_documented() {
        assert_eq!(
            lines(&[row(3), row(5)]),
            [
                "  voters  votes needed  failures tolerated",
                "  3       2             1",
                "  5       3             2",
            ]
        );
    }
}
