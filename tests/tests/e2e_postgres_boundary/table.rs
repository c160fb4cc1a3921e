//! The table of what happened, a line for each place, a column for each version, ready for the documentation.

use sentinel_postgres::Judgement;
use sentinel_tests::postgres_server::PostgresVersion;

use crate::fate::{Fate, Handled, Recovery};
use crate::part::Start;
use crate::place::Place;

/// One place on one version.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) version: PostgresVersion,
    pub(crate) place: Place,
    pub(crate) judgement: Judgement,
    pub(crate) fate: Fate,
    pub(crate) handled: Handled,
}

/// Prints it.
#[expect(clippy::print_stdout, reason = "the table is a result of the test")]
pub(crate) fn print(versions: &[PostgresVersion], places: &[Place], rows: &[Row]) {
    let heads = versions.iter().map(|version| format!(" {version} |"));
    println!("| record, R | rule |{}", heads.collect::<String>());
    println!("|---|---|{}", "---|".repeat(versions.len()));
    for place in places {
        let here = rows.iter().filter(|row| row.place == *place);
        let here = here.collect::<Vec<_>>();
        let rule = here.first().map_or("", |row| rule(row.judgement));
        let cells = versions.iter().map(|version| {
            let row = here.iter().find(|row| row.version == *version);
            format!(" {} |", row.map_or(String::new(), |row| cell(row)))
        });
        println!("| {place} | {rule} |{}", cells.collect::<String>());
    }
    for version in versions {
        let occurs = rows
            .iter()
            .any(|row| row.version == *version && row.fate != Fate::Follows);
        if !occurs {
            println!("The hazard does not occur on {version} at any of these places.");
        }
    }
}

/// Prints what became of a standby that holds a part of the new timeline before the fork.
#[expect(clippy::print_stdout, reason = "a line of the table")]
pub(crate) fn print_part(version: &PostgresVersion, start: Start) {
    let start = match start {
        Start::Once => "starts",
        Start::Never => "**does not start any more**; handled: follows",
    };
    println!("| part of the new timeline before the fork, {version} | {start} |");
}

fn rule(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Safe => "safe",
        Judgement::Diverged => "diverged",
        Judgement::Hazard => "hazard",
    }
}

fn cell(row: &Row) -> String {
    let fate = match row.fate {
        Fate::Follows => "follows",
        Fate::Stalled => "stalls, then follows",
        Fate::Exited(Recovery::ByStart) => "**exits**; second start follows",
        Fate::Exited(Recovery::ByHandling) => "**exits, again at the second start**",
    };
    let handled = match row.handled {
        Handled::Follows => "handled: follows",
        Handled::Exited => "handled: **exits**",
    };
    format!("{fate}; {handled}")
}
