//! The boundary standby, on every PostgreSQL server of this machine: a primary dies while a record that straddles the end
//! of a segment is on its way, a standby is promoted, and its siblings, which hold a part of that record, are pointed at it.
//!
//! Shows for every place of the cut what a mere reload brings, that the coordinator's rule saw it coming, that an agent, or
//! its procedure by hand on versions of which there is the server alone, brings a standby over without an exit, and that no row is lost or different in the end. The table that it prints is the one
//! of `docs/boundary-standby.md`. The cut is made by a proxy: how often a real crash leaves a standby at one of these
//! places is not measured here.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod broken;
mod fate;
mod latent;
#[expect(dead_code, reason = "the agent's own tests ask more of it")]
#[path = "../e2e_postgres_agent/minded.rs"]
mod minded;
mod part;
mod place;
mod table;

use std::sync::Mutex;
use std::thread;

use sentinel_postgres::{Judgement, Places, judge_places};
use sentinel_tests::postgres_server::PostgresVersion;

use broken::{Broken, SEGMENT};
use fate::{Fate, FirstLook, Handled};
use place::{Cut, Place, Record};
use table::Row;

const PLACES: [Place; 16] = [
    Place(Record::OnePage, Cut::Fork(0)),
    Place(Record::OnePage, Cut::Fork(12)),
    Place(Record::OnePage, Cut::Fork(24)),
    Place(Record::OnePage, Cut::End(-40)),
    Place(Record::OnePage, Cut::End(0)),
    Place(Record::OnePage, Cut::End(8)),
    Place(Record::OnePage, Cut::End(1000)),
    Place(Record::Pages, Cut::Fork(0)),
    Place(Record::Pages, Cut::End(-16_424)),
    Place(Record::Pages, Cut::End(-12_000)),
    Place(Record::Pages, Cut::End(-8232)),
    Place(Record::Pages, Cut::End(-8100)),
    Place(Record::Pages, Cut::End(-40)),
    Place(Record::Pages, Cut::End(0)),
    Place(Record::Pages, Cut::End(1000)),
    Place(Record::Pages, Cut::End(9192)),
];

/// Enough for versions of which there is the server alone: all but one of them do harm by a mere reload.
const PLACES_TELLING: [Place; 6] = [
    Place(Record::OnePage, Cut::Fork(24)),
    Place(Record::OnePage, Cut::End(0)),
    Place(Record::OnePage, Cut::End(8)),
    Place(Record::Pages, Cut::End(-8100)),
    Place(Record::Pages, Cut::End(-40)),
    Place(Record::Pages, Cut::End(1000)),
];

/// Two at a time: each has servers that mostly wait for one another.
const AT_ONCE: usize = 2;

/// Major versions on which the hazard is documented to occur: there a run without an exit shows nothing.
const HAZARDOUS: [u32; 6] = [13, 14, 15, 16, 17, 18];

#[test]
fn no_place_of_the_cut_loses_a_standby_or_a_row() {
    let versions = PostgresVersion::all_servers();
    assert!(
        !versions.is_empty(),
        "PostgreSQL is installed (scripts/install-prerequisites test)"
    );
    let mut waiting = versions
        .iter()
        .flat_map(|version| places(version).iter().map(move |place| (version, *place)))
        .collect::<Vec<_>>();
    waiting.reverse();
    let waiting = Mutex::new(waiting);
    let rows = Mutex::new(Vec::new());
    thread::scope(|workers| {
        for _ in 0..AT_ONCE {
            workers.spawn(|| {
                while let Some((version, place)) = take(&waiting) {
                    let row = play(version, place);
                    rows.lock().unwrap().push(row);
                }
            });
        }
    });
    let rows = rows.into_inner().unwrap();
    table::print(&versions, &PLACES, &rows);
    for row in &rows {
        check(row);
    }
    for version in &versions {
        let mut here = rows.iter().filter(|row| row.version == *version);
        let exits = here.any(|row| matches!(row.fate, Fate::Exited(_)));
        let documented = HAZARDOUS.contains(&version.major());
        assert!(exits || !documented, "{version}: a mere reload did no harm");
    }
}

/// A standby that ends soon after it was pointed at a promoted server holds a beginning of the new timeline's file of
/// the fork's segment. That file is read first at the next start, and ends before the fork.
#[test]
fn a_part_of_the_new_timeline_before_the_fork_is_moved_aside_too() {
    for version in PostgresVersion::all_present() {
        let place = Place(Record::OnePage, Cut::Fork(0));
        let mut broken = Broken::at(&version, place);
        part::receive_a_part(&mut broken);
        let start = part::start_again(&mut broken);
        table::print_part(&version, start);
        let documented = HAZARDOUS.contains(&version.major());
        assert!(start == part::Start::Never || !documented, "{version}");
        let brought = [&broken.reloaded, &broken.handled]
            .map(|standby| fate::bring_over(standby, &broken.promoted));
        let end = broken.write_past_the_segment();
        for (standby, brought) in [&broken.reloaded, &broken.handled]
            .into_iter()
            .zip(&brought)
        {
            let handled = fate::of_handled(standby, brought, (broken.fork, end));
            assert_eq!(handled, Handled::Follows, "{version}");
        }
        broken.assert_equal_rows();
    }
}

fn places(version: &PostgresVersion) -> &'static [Place] {
    match version.has_every_program() {
        true => &PLACES,
        false => &PLACES_TELLING,
    }
}

/// The lock is not held while the place is played.
fn take<T>(waiting: &Mutex<Vec<T>>) -> Option<T> {
    waiting.lock().unwrap().pop()
}

fn play(version: &PostgresVersion, place: Place) -> Row {
    let mut broken = Broken::at(version, place);
    let judgement = judge_places(
        Places {
            received: Some(broken.received),
            replayed: broken.replayed,
        },
        broken.fork,
        SEGMENT,
    );
    fate::point_by_reload(&broken);
    let first = fate::first_look(&broken);
    if first == FirstLook::Latent {
        latent::assert_claims_nothing(&broken);
    }
    let brought = match version.has_every_program() {
        true => fate::bring_over(&broken.handled, &broken.promoted),
        false => fate::bring_over_by_hand(&mut broken),
    };
    let end = broken.write_past_the_segment();
    let fate = fate::of_reloaded(&mut broken, first, end);
    let handled = fate::of_handled(&broken.handled, &brought, (broken.fork, end));
    broken.assert_equal_rows();
    Row {
        version: version.clone(),
        place,
        judgement,
        fate,
        handled,
    }
}

/// What must hold on every version, also on one on which the hazard does not occur.
fn check(row: &Row) {
    let at = format!("{} {}", row.version, row.place);
    assert_eq!(row.handled, Handled::Follows, "{at}");
    match row.fate {
        Fate::Follows => assert_ne!(row.judgement, Judgement::Diverged, "{at}"),
        Fate::Stalled | Fate::Exited(_) => assert_eq!(
            row.judgement,
            Judgement::Hazard,
            "{at}: not seen beforehand"
        ),
    }
    if row.judgement == Judgement::Safe {
        assert_eq!(row.fate, Fate::Follows, "{at}");
    }
}
