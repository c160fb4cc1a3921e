//! Reads `postmaster.pid`: what a server wrote of itself into its data folder.
//!
//! A file proves nothing: the server may be gone and its number given to somebody else. Who it is, is judged elsewhere.

use std::path::PathBuf;

/// How far a server has got, as its file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// On the way up, in crash recovery, or a standby that is not consistent yet.
    Starting,
    /// On the way down.
    Stopping,
    /// Up, but without queries, because hot standby is off.
    Standby,
    /// It answers queries.
    Ready,
}

/// The lines that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PostmasterFile {
    pub(super) pid: i32,
    pub(super) data_dir: PathBuf,
    /// `None` while the server has not written that line yet.
    pub(super) readiness: Option<Readiness>,
}

/// Reads the file's text; `None` while it is incomplete, or where a single-user server wrote it (a negative number).
pub(super) fn parse(text: &str) -> Option<PostmasterFile> {
    let mut lines = text.lines();
    let pid: i32 = lines.next()?.trim().parse().ok()?;
    let data_dir = PathBuf::from(lines.next()?);
    // The start time, the port, the socket's folder, the address, and the shared memory stand between.
    let readiness = match lines.nth(5).map(str::trim) {
        Some("starting") => Some(Readiness::Starting),
        Some("stopping") => Some(Readiness::Stopping),
        Some("standby") => Some(Readiness::Standby),
        Some("ready") => Some(Readiness::Ready),
        Some(_) | None => None,
    };
    (pid > 1).then_some(PostmasterFile {
        pid,
        data_dir,
        readiness,
    })
}

/// The lock of the server's first socket, where it has one; relative paths begin at the data folder.
pub(super) fn socket_lock(text: &str) -> Option<PathBuf> {
    let mut lines = text.lines().skip(3);
    let port: u16 = lines.next()?.trim().parse().ok()?;
    let folder = lines.next().filter(|folder| !folder.is_empty())?;
    Some(PathBuf::from(folder).join(format!(".s.PGSQL.{port}.lock")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn the_lines_that_matter_are_read() {
        let text = "4711\n/srv/pg\n1700000000\n5432\n/tmp\nlocalhost\n   123   4\nready   \n";
        let file = parse(text).unwrap();
        assert_eq!((file.pid, file.data_dir), (4711, "/srv/pg".into()));
        assert_eq!(file.readiness, Some(Readiness::Ready));
        assert_eq!(socket_lock(text), Some("/tmp/.s.PGSQL.5432.lock".into()));
        let young = parse("4711\n/srv/pg\n1700000000\n5432\n/tmp\n").unwrap();
        assert_eq!(young.readiness, None);
    }

    #[test]
    fn nobody_is_signalled_on_a_bad_number() {
        for text in [
            "",
            "x\n/a\n",
            "-4711\n/srv/pg\n",
            "0\n/a\n",
            "1\n/a\n",
            "4711\n",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
            assert_eq!(socket_lock(text), None, "{text:?}");
        }
    }
}
