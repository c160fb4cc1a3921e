//! A server of the small world: what it is, and what of it a script may break.

use sentinel_core::action::Outcome;
use sentinel_core::id::InstanceId;
use sentinel_core::observation::WriteQuorum;

use super::instance;

pub(crate) struct Server {
    pub(crate) life: u32,
    pub(crate) alive: bool,
    pub(crate) hung: bool,
    /// It answers probes, and orders get lost.
    pub(crate) deaf: bool,
    /// It takes no writes, for a switchover.
    pub(crate) paused: bool,
    /// It can pause only by ending, as the engine does that needs an agent.
    pub(crate) stops_to_pause: bool,
    /// It is down for its pause, and has not ended yet as its agent sees it.
    pub(crate) stopping: bool,
    /// It does not pause, and answers so.
    pub(crate) pause_answer: Option<Outcome>,
    /// It has lost the agent that could end its pause.
    pub(crate) unminded: bool,
    pub(crate) primary: bool,
    pub(crate) upstream: Option<InstanceId>,
    pub(crate) lineage: u32,
    pub(crate) fork: Option<(u32, u64)>,
    pub(crate) offset: u64,
    pub(crate) synced: bool,
    pub(crate) holds_data: bool,
    pub(crate) quorum: Option<WriteQuorum>,
    pub(crate) orders: Vec<&'static str>,
    /// It receives nothing more, and looks as if it did.
    pub(crate) lagging: bool,
    /// It carries out this order, and hangs before it answers.
    pub(crate) hang_on: Option<&'static str>,
    /// It cannot be frozen as a primary.
    pub(crate) stubborn: bool,
    /// So many bytes of what it received last are no whole record.
    pub(crate) torn: u64,
    /// Its upstream no longer has what it needs.
    pub(crate) stranded: bool,
    /// So many orders to rebuild it find it at work, before one finds it done.
    pub(crate) copy_takes: u32,
}

impl Server {
    /// A life that is not meant any more stays.
    pub(super) fn become_copy(&mut self, is_meant: bool) {
        if is_meant {
            (self.life, self.stranded) = (self.life + 1, false);
        }
        self.primary = false;
    }

    /// The first is primary, the others stream from it.
    pub(super) fn new(n: u16) -> Self {
        Self {
            life: 1,
            alive: true,
            hung: false,
            deaf: false,
            paused: false,
            stops_to_pause: false,
            stopping: false,
            pause_answer: None,
            unminded: false,
            primary: n == 0,
            upstream: (n != 0).then(|| instance(0)),
            lineage: 1,
            fork: None,
            offset: 100,
            synced: true,
            holds_data: true,
            quorum: None,
            orders: Vec::new(),
            lagging: false,
            hang_on: None,
            stubborn: false,
            torn: 0,
            stranded: false,
            copy_takes: 0,
        }
    }
}
