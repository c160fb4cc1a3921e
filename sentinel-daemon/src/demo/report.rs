//! How a demonstration went: one object for machines, one table for people, and the exit code.
//!
//! Measured values only; what was not seen is null.

use std::path::PathBuf;
use std::time::Duration;

use sentinel_core::id::InstanceId;
use serde::Serialize;

use super::options::{DemoOptions, Durability, Engine, Fault};
use super::plan::ServicePlan;
use crate::exit::ExitCode;

/// The object on the last line of stdout.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) service: &'static str,
    pub(super) engine: Engine,
    pub(super) durability: Durability,
    pub(super) fault: Fault,
    /// The leader of the voters was killed too.
    pub(super) with_leader: bool,
    pub(super) old_primary: Option<InstanceId>,
    /// Who was promoted.
    pub(super) new_primary: Option<InstanceId>,
    /// Epoch of the primary at the end.
    pub(super) epoch: Option<u64>,
    #[serde(flatten)]
    pub(super) times: Times,
    pub(super) writes_sent: u64,
    pub(super) writes_acked: u64,
    /// Acknowledged writes that are missing on at least one server; null where that could not be found out.
    pub(super) writes_lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// Only where everything stays.
    #[serde(flatten)]
    pub(super) stay: Option<Stay>,
}

/// What stands on the last line of stdout: the report, or, where several services were shown, all of them.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Object<'a> {
    /// Of the only service.
    One(&'a Report),
    /// In the order in which they were started.
    All {
        /// One report a service.
        services: &'a [Report],
    },
}

impl<'a> Object<'a> {
    /// What is printed of these reports.
    pub(super) fn of(reports: &'a [Report]) -> Self {
        match reports {
            [report] => Self::One(report),
            services => Self::All { services },
        }
    }
}

/// Milliseconds, counted from the fault where nothing else is said.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Times {
    /// A quorum of voters agreed that the primary is down.
    pub(super) detected_ms: Option<f64>,
    /// The replica to promote was committed.
    pub(super) decided_ms: Option<f64>,
    /// It was primary, and every client was told so.
    pub(super) promoted_ms: Option<f64>,
    /// It acknowledged a write.
    pub(super) first_write_ms: Option<f64>,
    /// The longest time between two acknowledgements, of all writers together.
    pub(super) write_gap_ms: Option<f64>,
}

/// Where a cluster that stays can be reached.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stay {
    pub(super) endpoints: Endpoints,
    /// A file with every acknowledged key, one a line.
    pub(super) acknowledged: PathBuf,
}

/// Of the voters.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Endpoints {
    pub(super) resp: Vec<InstanceId>,
    pub(super) http: Vec<InstanceId>,
}

/// The exit code of a demonstration: that of the service that fared worst.
pub(super) fn worst(reports: &[Report]) -> ExitCode {
    let severity = |code: &ExitCode| match code {
        ExitCode::Done => 0,
        ExitCode::NoPrimary => 1,
        ExitCode::NoQuorum | ExitCode::Usage | ExitCode::Failed => 2,
        ExitCode::WriteLost => 3,
    };
    let codes = reports.iter().map(Report::code);
    codes.max_by_key(severity).unwrap_or(ExitCode::Failed)
}

/// To a tenth of a millisecond.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

impl Report {
    /// What is known before anything is found out.
    pub(super) fn empty(plan: &ServicePlan, options: &DemoOptions) -> Self {
        Self {
            service: plan.name,
            engine: plan.engine,
            durability: options.durability,
            fault: plan.fault,
            with_leader: options.with_leader,
            old_primary: None,
            new_primary: None,
            epoch: None,
            times: Times::default(),
            writes_sent: 0,
            writes_acked: 0,
            writes_lost: None,
            error: None,
            stay: None,
        }
    }

    /// Lost writes weigh most; then whatever went wrong; then that nobody was promoted.
    pub(super) fn code(&self) -> ExitCode {
        match (self.writes_lost, &self.new_primary, &self.error) {
            (Some(1..), _, _) => ExitCode::WriteLost,
            (None, _, _) | (_, Some(_), Some(_)) => ExitCode::Failed,
            (Some(0), None, _) => ExitCode::NoPrimary,
            (Some(0), Some(_), None) if self.times.first_write_ms.is_none() => ExitCode::Failed,
            (Some(0), Some(_), None) => ExitCode::Done,
        }
    }

    /// For people.
    pub(super) fn table(&self) -> Vec<String> {
        let ms = |value: Option<f64>| match value {
            Some(value) => format!("{value:.1} ms"),
            None => "not seen".to_owned(),
        };
        let text = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        let lost = match self.writes_lost {
            Some(lost) => lost.to_string(),
            None => "unknown".to_owned(),
        };
        let rows = [
            ("service", self.service.to_owned()),
            (
                "primary before",
                text(self.old_primary.as_ref().map(ToString::to_string)),
            ),
            (
                "promoted",
                text(self.new_primary.as_ref().map(ToString::to_string)),
            ),
            ("epoch", text(self.epoch.map(|epoch| epoch.to_string()))),
            ("fault to detected", ms(self.times.detected_ms)),
            ("fault to decided", ms(self.times.decided_ms)),
            ("fault to promoted", ms(self.times.promoted_ms)),
            ("fault to first write", ms(self.times.first_write_ms)),
            ("longest gap in writes", ms(self.times.write_gap_ms)),
            ("writes sent", self.writes_sent.to_string()),
            ("writes acknowledged", self.writes_acked.to_string()),
            ("acknowledged and lost", lost),
        ];
        rows.map(|(name, value)| format!("{name:<22} {value:>20}"))
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let at = |port| Some(InstanceId::new("127.0.0.1", port));
        Report {
            service: "demo",
            engine: Engine::Redis,
            durability: Durability::Quorum,
            fault: Fault::Kill,
            with_leader: false,
            old_primary: at(1),
            new_primary: at(2),
            epoch: Some(2),
            times: Times {
                first_write_ms: Some(millis(Duration::from_micros(312_345))),
                ..Times::default()
            },
            writes_sent: 11,
            writes_acked: 10,
            writes_lost: Some(0),
            error: None,
            stay: None,
        }
    }

    #[test]
    fn the_exit_code_says_the_worst() {
        let mut report = report();
        assert_eq!(report.code(), ExitCode::Done);
        report.times.first_write_ms = None;
        assert_eq!(report.code(), ExitCode::Failed);
        report.new_primary = None;
        assert_eq!(report.code(), ExitCode::NoPrimary);
        report.error = Some("no primary".into());
        assert_eq!(report.code(), ExitCode::NoPrimary);
        report.writes_lost = None;
        assert_eq!(report.code(), ExitCode::Failed);
        report.writes_lost = Some(3);
        assert_eq!(report.code(), ExitCode::WriteLost);
    }

    #[test]
    fn of_several_services_the_worst_counts() {
        let done = report();
        let mut unpromoted = report();
        unpromoted.new_primary = None;
        let mut lost = report();
        lost.writes_lost = Some(1);
        assert_eq!(worst(&[]), ExitCode::Failed);
        assert_eq!(worst(&[done.clone(), done.clone()]), ExitCode::Done);
        let reports = [unpromoted, done];
        assert_eq!(worst(&reports), ExitCode::NoPrimary);
        let [unpromoted, done] = reports;
        assert_eq!(worst(&[lost, unpromoted, done]), ExitCode::WriteLost);
    }

    #[test]
    fn several_reports_are_still_one_object() {
        let text =
            |reports: &[Report]| serde_json::to_string(&Object::of(reports)).unwrap_or_default();
        let one = text(&[report()]);
        assert!(one.starts_with(r#"{"service":"demo""#), "{one}");
        assert_eq!(
            text(&[report(), report()]),
            format!(r#"{{"services":[{one},{one}]}}"#)
        );
    }

    #[test]
    fn the_object_has_null_where_nothing_was_seen() {
        let text = serde_json::to_string(&report()).unwrap_or_default();
        assert_eq!(
            text,
            r#"{"service":"demo","engine":"redis","durability":"quorum","fault":"kill","with_leader":false,"old_primary":"127.0.0.1:1","new_primary":"127.0.0.1:2","epoch":2,"detected_ms":null,"decided_ms":null,"promoted_ms":null,"first_write_ms":312.3,"write_gap_ms":null,"writes_sent":11,"writes_acked":10,"writes_lost":0}"#
        );
    }
}
