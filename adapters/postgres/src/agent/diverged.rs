//! Keeps the write-ahead log that only this folder has, before a rewind or a rebuild throws it away.
//!
//! Says from where to where it goes, as far as whole records go, and finds what was kept before. Nothing is ever removed from
//! the folder where it is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::durable;
use super::programs::{ProgramError, Programs};
use super::relation::Parting;
use super::report::Diverged;
use super::settings::AgentSettings;
use super::wal::SegmentSize;
use crate::lsn::Lsn;

/// How far the log goes beyond a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// No whole record begins there.
    Nothing,
    /// Whole records go up to here.
    Upto(Lsn),
    /// It could not be told; everything from there on is kept.
    Unclear(String),
}

/// The description beside the kept log.
#[derive(Serialize, Deserialize)]
struct Description {
    service: String,
    instance: String,
    system_identifier: String,
    timeline: u32,
    from: String,
    to: Option<String>,
    bytes: Option<u64>,
    epoch: u64,
    saved_at: u64,
    files: Vec<String>,
}

/// A gigabyte of log is read within seconds; a hung disk is not waited for.
const LIMIT: Duration = Duration::from_secs(600);

/// Follows the log of a timeline from a record's beginning to its last whole record.
pub(super) async fn extent(programs: &Programs, data_dir: &Path, from: Parting) -> Extent {
    let mut command = programs.command("pg_waldump");
    command
        .arg("--quiet")
        .arg("-p")
        .arg(data_dir.join("pg_wal"));
    command.arg("-t").arg(from.timeline.0.to_string());
    command.arg("-s").arg(from.at.to_string());
    match programs.run("pg_waldump", command, LIMIT).await {
        // It ended at the end of a file behind which there is none.
        Ok(_) => Extent::Unclear("the log ends with a whole file".to_owned()),
        Err(ProgramError::Failed { text, .. }) => read_end(&text, from.at),
        Err(error) => Extent::Unclear(error.to_string()),
    }
}

/// The program always ends with a complaint: there is no more. It names the place where the log breaks off last.
fn read_end(complaint: &str, from: Lsn) -> Extent {
    if complaint.contains("could not find a valid record after") {
        return Extent::Nothing;
    }
    let places = complaint
        .split(|c: char| !(c.is_ascii_hexdigit() || c == '/'))
        .filter_map(|word| word.parse::<Lsn>().ok());
    match places.max() {
        Some(end) if end > from => Extent::Upto(end),
        Some(_) | None => Extent::Unclear(complaint.to_owned()),
    }
}

/// What is to be kept.
pub(super) struct Keep<'a> {
    pub(super) parting: Parting,
    pub(super) extent: &'a Extent,
    pub(super) segment_size: SegmentSize,
    pub(super) system_identifier: &'a str,
    pub(super) epoch: u64,
}

/// Name of the description. It is written last: without it, the copy is not whole.
const DESCRIPTION: &str = "diverged.json";

/// A folder for what is to be kept, which nobody has.
pub(super) fn folder(settings: &AgentSettings, epoch: u64) -> PathBuf {
    let instance = settings.instance.to_string();
    let name: String = instance
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let name = format!("{name}-{epoch}-{}", since_epoch().as_secs());
    settings.diverged_dir.join(name)
}

/// Whether everything that was to be kept there is.
pub(super) fn is_whole(folder: &Path) -> bool {
    folder.join(DESCRIPTION).exists()
}

/// What this instance kept last, whether by this agent or by one before it. What cannot be read is passed over.
pub(super) fn last(settings: &AgentSettings) -> Option<Diverged> {
    let entries = fs::read_dir(&settings.diverged_dir).ok()?;
    let described = entries.filter_map(|entry| {
        let folder = entry.ok()?.path();
        let text = fs::read(folder.join(DESCRIPTION)).ok()?;
        let found: Description = serde_json::from_slice(&text).ok()?;
        let ours = found.service == settings.service.as_str()
            && found.instance == settings.instance.to_string();
        ours.then_some((found.saved_at, folder, found))
    });
    let (_, folder, found) =
        described.max_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)))?;
    Some(Diverged {
        from: found.from,
        to: found.to,
        bytes: found.bytes,
        folder,
    })
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Copies the log beyond the parting into `folder`, again if that was broken off, and describes it. The copy is durable
/// when this returns.
pub(super) fn keep(
    settings: &AgentSettings,
    keep: &Keep<'_>,
    folder: &Path,
) -> io::Result<Diverged> {
    fs::create_dir_all(folder)?;
    let files = beyond(&settings.data_dir.join("pg_wal"), keep)?;
    for file in &files {
        durable::copy(file, &folder.join(file.file_name().unwrap_or_default()))?;
    }
    let (from, to) = (
        keep.parting.at,
        match keep.extent {
            Extent::Nothing => Some(keep.parting.at),
            Extent::Upto(end) => Some(*end),
            Extent::Unclear(_) => None,
        },
    );
    let diverged = Diverged {
        from: from.to_string(),
        to: to.map(|to| to.to_string()),
        bytes: to.map(|to| to.0.saturating_sub(from.0)),
        folder: folder.to_owned(),
    };
    let description = Description {
        service: settings.service.as_str().to_owned(),
        instance: settings.instance.to_string(),
        system_identifier: keep.system_identifier.to_owned(),
        timeline: keep.parting.timeline.0,
        from: diverged.from.clone(),
        to: diverged.to.clone(),
        bytes: diverged.bytes,
        epoch: keep.epoch,
        saved_at: since_epoch().as_secs(),
        files: names(&files),
    };
    let text = serde_json::to_vec_pretty(&description)?;
    durable::replace(&folder.join(DESCRIPTION), &text)?;
    durable::flush_folder(&settings.diverged_dir)?;
    Ok(diverged)
}

/// Puts kept segments back that a rewind, broken off, has already removed: the next one reads them again.
pub(super) fn put_back(
    kept: &Path,
    data_dir: &Path,
    segment_size: SegmentSize,
    account: Option<super::account::Account>,
) -> io::Result<()> {
    for entry in fs::read_dir(kept)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let target = data_dir.join("pg_wal").join(name);
        if segment_size.parse_name(name).is_some() {
            durable::copy(&path, &target)?;
            super::account::Account::give(account, &target)?;
        }
    }
    durable::flush_folder(&data_dir.join("pg_wal"))
}

/// The segments that hold a byte beyond the parting, of its timeline and of the later ones, and the history files.
fn beyond(pg_wal: &Path, keep: &Keep<'_>) -> io::Result<Vec<PathBuf>> {
    let first = keep.segment_size.segment_of(keep.parting.at);
    let last = match keep.extent {
        Extent::Nothing => Some(first),
        Extent::Upto(end) => Some(keep.segment_size.segment_of(*end)),
        Extent::Unclear(_) => None,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(pg_wal)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let wanted = match name.and_then(|name| keep.segment_size.parse_name(name)) {
            // A later timeline of its own ends somewhere else.
            Some((timeline, segment)) if timeline > keep.parting.timeline => segment >= first,
            Some((timeline, segment)) => {
                timeline == keep.parting.timeline
                    && segment >= first
                    && last.is_none_or(|last| segment <= last)
            }
            None => name.is_some_and(|name| name.ends_with(".history")),
        };
        if wanted {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn names(files: &[PathBuf]) -> Vec<String> {
    files
        .iter()
        .filter_map(|file| Some(file.file_name()?.to_str()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::history::Timeline;

    #[test]
    fn the_end_of_the_log_is_read_from_the_complaint() {
        let from = Lsn(0x300_0000);
        for (complaint, wanted) in [
            (
                "pg_waldump: error: error in WAL record at 0/3000060: invalid record length at 0/3000098: wanted 24, got 0",
                Extent::Upto(Lsn(0x300_0098)),
            ),
            (
                "pg_waldump: error: could not find a valid record after 0/3000000",
                Extent::Nothing,
            ),
        ] {
            assert_eq!(read_end(complaint, from), wanted);
        }
        let odd = read_end("pg_waldump: error: no such luck", from);
        assert!(matches!(odd, Extent::Unclear(_)));
    }

    #[test]
    fn segments_from_the_fork_on_are_kept_and_described() {
        let root = tempfile::tempdir().unwrap();
        let settings = AgentSettings {
            data_dir: root.path().join("data"),
            diverged_dir: root.path().join("diverged"),
            ..super::super::settings::sample()
        };
        let pg_wal = settings.data_dir.join("pg_wal");
        fs::create_dir_all(&pg_wal).unwrap();
        for name in [
            "00000001000000000000000A",
            "00000001000000000000000B",
            "00000001000000000000000C",
            "00000001000000000000000D",
            "00000001.history",
        ] {
            fs::write(pg_wal.join(name), name).unwrap();
        }
        let (timeline, at) = (Timeline(1), Lsn(0xBF_FE78));
        let what = Keep {
            parting: Parting { timeline, at },
            extent: &Extent::Upto(Lsn(0xC0_0100)),
            segment_size: SegmentSize(1 << 20),
            system_identifier: "7",
            epoch: 4,
        };
        let place = folder(&settings, 4);
        assert!(!is_whole(&place));
        let kept = keep(&settings, &what, &place).unwrap();
        assert!(is_whole(&place));
        fs::create_dir(settings.diverged_dir.join("broken-off")).unwrap();
        assert_eq!(last(&settings).as_ref(), Some(&kept));
        let other = AgentSettings {
            instance: sentinel_core::id::InstanceId::new("10.0.0.9", 1),
            ..settings
        };
        assert_eq!(
            last(&other),
            None,
            "another instance may keep its own there"
        );
        assert_eq!(kept.bytes, Some(0xC0_0100 - 0xBF_FE78));
        let text = fs::read_to_string(kept.folder.join("diverged.json")).unwrap();
        let description: serde_json::Value = serde_json::from_str(&text).unwrap();
        let files = [
            "00000001.history",
            "00000001000000000000000B",
            "00000001000000000000000C",
        ];
        assert_eq!(description["files"], serde_json::json!(files));
        assert_eq!(description["from"], "0/BFFE78");
        for file in files {
            assert!(kept.folder.join(file).exists(), "{file}");
        }
    }
}
