//! Watches whether a server can still write to the disk that holds its data.
//!
//! Knows what earlier tries came to, and the time. A server whose data disk is full answers every question and writes its
//! log as long as that lies elsewhere or has old files to use again; its own next checkpoint ends it, and nothing but a
//! write to that disk tells so before. What is tried takes no transaction number, writes no log, and works on a standby
//! too: it needs no right that a role can lack.
//!
//! Rejected: counting rolled back transactions, whose statistics cost more to read than the try itself.

use std::time::Duration;

use tokio::time::Instant;

/// The usual try: one small file in the data folder, gone when the statement ends, and named in no statistic. It stays
/// there empty, until the server's next start, when there is no room for it.
const FILE: &str = "SELECT pg_export_snapshot()";

/// The try for a disk that was found full: leaves nothing behind, but shows among the server's temporary files. It needs
/// some 70 kB, in the database's own place, because the others may be other disks. It is also the first of all, because
/// it makes a folder that can no longer be made on a full disk.
const SPILL: &str = "SET LOCAL work_mem = '64kB'; SET LOCAL temp_tablespaces = ''; \
                     SELECT count(*)::text FROM generate_series(1, 5000)";

/// How often the disk is tried while it has room, and while it has none.
const PACE_CALM: Duration = Duration::from_secs(5);
const PACE_FULL: Duration = Duration::from_secs(1);

/// What a try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// It was written.
    Written,
    /// There was no room; what the server said.
    Full(String),
    /// It failed for another reason, such as a limit of the role's, and tells nothing.
    Untold,
}

/// What is known of one server's disk.
#[derive(Debug)]
pub(crate) struct Room {
    tried: Option<Instant>,
    next: &'static str,
    /// What the server said when there was none.
    none: Option<String>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            tried: None,
            next: SPILL,
            none: None,
        }
    }
}

/// Whether the last news are news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It was as it is.
    None,
    /// It has just been found full.
    Full,
    /// There is room again.
    Free,
}

impl Room {
    /// What to try now, if anything.
    pub(crate) fn due(&mut self, now: Instant) -> Option<&'static str> {
        let pace = match self.none {
            Some(_) => PACE_FULL,
            None => PACE_CALM,
        };
        let due = self
            .tried
            .is_none_or(|tried| now.duration_since(tried) >= pace);
        due.then(|| {
            self.tried = Some(now);
            self.next
        })
    }

    /// Takes what the try came to.
    pub(crate) fn learn(&mut self, tried: Tried) -> News {
        match tried {
            Tried::Written => {
                self.next = FILE;
                self.none.take().map_or(News::None, |_| News::Free)
            }
            Tried::Full(said) => {
                self.next = SPILL;
                match self.none.replace(said) {
                    Some(_) => News::None,
                    None => News::Full,
                }
            }
            Tried::Untold => {
                self.next = if self.next == FILE { SPILL } else { FILE };
                News::None
            }
        }
    }

    /// For people: what is the matter, and what to do.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.none.as_ref().map(|said| {
            format!(
                "the disk that holds its data is full (`{said}`): it answers, but writes fail, and its next checkpoint \
                 ends it: make room on that disk"
            )
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    /// What is tried in these seconds, by ten probes each, when every try comes to this.
    fn tries(room: &mut Room, seconds: [u32; 2], come_to: &Tried) -> Vec<&'static str> {
        // A fixed zero for all calls is no part of the rule, only differences are.
        static ZERO: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let zero = *ZERO.get_or_init(Instant::now);
        let mut tries = Vec::new();
        for tenth in seconds[0] * 10..seconds[1] * 10 {
            if let Some(statement) = room.due(zero + Duration::from_millis(100) * tenth) {
                room.learn(come_to.clone());
                tries.push(statement);
            }
        }
        tries
    }

    #[test]
    fn a_disk_with_room_is_tried_now_and_then_and_a_full_one_once_a_second() {
        let mut room = Room::default();
        let full = Tried::Full("No space left on device".into());
        let found = tries(&mut room, [0, 10], &Tried::Written);
        assert_eq!(found, [SPILL, FILE]);
        assert_eq!(room.trouble(), None);
        assert_eq!(tries(&mut room, [10, 13], &full), [FILE, SPILL, SPILL]);
        let trouble = room.trouble().unwrap();
        assert!(trouble.contains("No space left on device"), "{trouble}");
        assert_eq!(tries(&mut room, [13, 17], &Tried::Written), [SPILL]);
        assert_eq!(room.trouble(), None);
    }

    #[test]
    fn a_try_that_tells_nothing_changes_nothing_but_the_next_one() {
        let mut room = Room::default();
        let found = tries(&mut room, [0, 10], &Tried::Untold);
        assert_eq!(found, [SPILL, FILE]);
        assert_eq!(room.learn(Tried::Full("full".into())), News::Full);
        assert_eq!(room.learn(Tried::Untold), News::None);
        assert!(room.trouble().is_some());
        assert_eq!(tries(&mut room, [15, 16], &Tried::Written), [FILE]);
    }

    #[test]
    fn only_a_change_is_news() {
        let mut room = Room::default();
        let full = || Tried::Full("full".into());
        let come_to = [
            Tried::Written,
            full(),
            full(),
            Tried::Written,
            Tried::Written,
        ];
        let news = [News::None, News::Full, News::None, News::Free, News::None];
        assert_eq!(come_to.map(|tried| room.learn(tried)), news);
    }
}
