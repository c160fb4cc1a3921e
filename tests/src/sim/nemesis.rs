//! The nemesis: draws what breaks next, and when it is mended.
//!
//! Chooses among the kinds of the run's settings. Stays within the budget of lost memory, and within
//! nothing else: any number of other faults may overlap.

use std::time::Duration;

use sentinel_core::sentinel::{Ask, Input};
use sentinel_core::time::Instant;

use super::budget::CALM;
use super::chance::Chance;
use super::event::Event;
use super::instance::Process;
use super::network::{FAIR, Place, Weather};
use super::settings::Kind;
use super::world::World;

/// The end of a fault.
#[derive(Clone, Debug)]
pub enum Undo {
    /// A node starts again.
    StartNode(usize),
    /// A node goes on.
    ResumeNode(usize),
    /// A server goes on.
    ResumeInstance(usize),
    /// A server starts again with the oldest so many writes, now or as soon as that is within the budget.
    RestartInstance { instance: usize, kept: u64 },
    /// Links are mended.
    Mend(Vec<(Place, Place)>),
    /// Links are cut: a flapping link's next stroke.
    Cut(Vec<(Place, Place)>),
    /// The weather clears.
    Clear,
}

/// Draws faults.
#[derive(Debug)]
pub struct Nemesis {
    chance: Chance,
    calm_until: Instant,
    at_work: bool,
}

impl Nemesis {
    /// One that has not begun.
    pub fn new(chance: Chance) -> Self {
        Self {
            chance,
            calm_until: Instant::ORIGIN,
            at_work: false,
        }
    }
}

impl World {
    /// Lets the nemesis begin.
    pub fn begin_trouble(&mut self) {
        self.nemesis.at_work = !self.settings.kinds.is_empty();
        self.next_trouble();
    }

    /// No further faults; those that are there stay until [`World::mend_everything`].
    pub fn end_trouble(&mut self) {
        self.nemesis.at_work = false;
    }

    fn next_trouble(&mut self) {
        if self.nemesis.at_work {
            let (shortest, longest) = self.settings.fault_every_ms;
            let pace = self.nemesis.chance.millis(shortest, longest);
            self.schedule.after(pace, Event::Trouble);
        }
    }

    pub(super) fn trouble(&mut self) {
        if !self.nemesis.at_work {
            return;
        }
        self.next_trouble();
        if self.now() < self.nemesis.calm_until {
            return;
        }
        let kinds = self.settings.kinds.clone();
        let Some(kind) = self.nemesis.chance.pick(&kinds).copied() else {
            return;
        };
        self.trace
            .line(self.schedule.now(), || format!("fault: {kind:?}"));
        self.break_something(kind);
    }

    fn break_something(&mut self, kind: Kind) {
        match kind {
            Kind::NodeCrash => self.break_node(),
            Kind::NodePause => {
                let n = self.nemesis.chance.index(self.nodes.len());
                if self.nodes[n].is_running() {
                    self.pause_node(n);
                    self.undo_after((50, 8_000), Undo::ResumeNode(n));
                }
            }
            Kind::InstanceHang => {
                let i = self.drawn_instance();
                if self.instances[i].process == Process::Running {
                    self.hang_instance(i);
                    self.undo_after((100, 8_000), Undo::ResumeInstance(i));
                }
            }
            Kind::InstanceCrash => self.break_instance(),
            Kind::Partition => {
                let places = self.places();
                let side: Vec<bool> = places
                    .iter()
                    .map(|_| self.nemesis.chance.percent(50))
                    .collect();
                self.split(&places, &side, (200, 10_000));
            }
            Kind::PrimaryWithClient => {
                let places = self.places();
                let primary = self.primary_index();
                let aside = |place: &Place| match place {
                    Place::Instance(i) => *i == primary,
                    Place::Guard(_) => true,
                    Place::Node(_) => false,
                };
                let side: Vec<bool> = places.iter().map(aside).collect();
                self.split(&places, &side, (500, 10_000));
            }
            Kind::OneWay => {
                if let Some(link) = self.drawn_link() {
                    self.cut_for(vec![link], (200, 10_000));
                }
            }
            Kind::ReplicaCut => {
                let (primary, i) = (self.primary_index(), self.drawn_instance());
                if primary != i {
                    let (a, b) = (Place::Instance(primary), Place::Instance(i));
                    self.cut_for(vec![(a, b), (b, a)], (200, 8_000));
                }
            }
            Kind::Flapping => self.flap(),
            Kind::Weather => self.worsen_weather(),
            Kind::Switchover => self.ask_for_switchover(),
            Kind::SlowReplay => {
                let i = self.drawn_instance();
                if self.is_postgres() && self.is_standby(i) {
                    self.totals.faults += 1;
                    let lag = self.nemesis.chance.millis(200, 5_000);
                    self.slow_replay(i, lag);
                }
            }
            Kind::Backlog => {
                let i = self.primary_index();
                self.instances[i].backlog_start = self.instances[i].offset();
            }
        }
    }

    /// An operator asks whoever leads, at times for somebody who cannot be had.
    pub(super) fn ask_for_switchover(&mut self) {
        let leads = |node: &super::node::Node| node.is_leader() && node.is_running();
        let Some(n) = self.nodes.iter().position(leads) else {
            return;
        };
        let named = self.nemesis.chance.percent(50);
        let i = self.nemesis.chance.index(self.instances.len());
        let to = named.then(|| self.addresses[i].clone());
        let service = super::settings::service_name();
        let id = self.number();
        let ask = Ask::Switchover { service, to };
        self.feed(n, Input::Ask { id, ask });
    }

    fn worsen_weather(&mut self) {
        let weather = Weather {
            loss_percent: self.nemesis.chance.below(30),
            doubled_percent: self.nemesis.chance.below(20),
            delay_micros_max: 1_000 + self.nemesis.chance.below(99_000),
        };
        self.totals.faults += 1;
        self.network.set_weather(weather);
        self.undo_after((500, 8_000), Undo::Clear);
    }

    fn break_node(&mut self) {
        // One in six takes all of them, as a power cut does.
        let all = self.nemesis.chance.percent(16);
        let one = self.nemesis.chance.index(self.nodes.len());
        for n in 0..self.nodes.len() {
            if (all || n == one) && self.nodes[n].is_alive() {
                self.crash_node(n);
                self.undo_after((10, 6_000), Undo::StartNode(n));
            }
        }
    }

    fn break_instance(&mut self) {
        let i = self.drawn_instance();
        if self.is_postgres() {
            return self.break_server(i);
        }
        if !self.may_lose_memory() {
            return;
        }
        let offset = self.instances[i].offset();
        let chance = &mut self.nemesis.chance;
        let kept = match chance.below(3) {
            0 => 0,
            1 => chance.below(offset + 1),
            2.. => offset.saturating_sub(chance.below(5)),
        };
        let undo = Undo::RestartInstance { instance: i, kept };
        let quick = self.nemesis.chance.percent(40);
        if quick && self.is_calm() {
            self.nemesis.calm_until = self.now() + CALM;
            self.kill_instance(i);
            self.undo_after((50, 1_500), undo);
        } else {
            self.kill_instance(i);
            self.undo_after((3_000, 15_000), undo);
        }
    }

    /// Nothing flushed is lost, so that any number of servers may die.
    fn break_server(&mut self, i: usize) {
        if self.instances[i].process == Process::Dead {
            return;
        }
        let kept = u64::MAX;
        let undo = Undo::RestartInstance { instance: i, kept };
        self.kill_instance(i);
        let millis = if self.nemesis.chance.percent(40) {
            (50, 1_500)
        } else {
            (3_000, 15_000)
        };
        self.undo_after(millis, undo);
    }

    fn drawn_instance(&mut self) -> usize {
        if self.nemesis.chance.percent(50) {
            self.primary_index()
        } else {
            self.nemesis.chance.index(self.instances.len())
        }
    }

    /// The primary as the newest table has it.
    pub fn primary_index(&self) -> usize {
        self.service()
            .and_then(|service| service.primary.as_ref())
            .and_then(|primary| self.index_of(&primary.instance))
            .unwrap_or(0)
    }

    fn places(&self) -> Vec<Place> {
        let nodes = (0..self.nodes.len()).map(Place::Node);
        let instances = (0..self.instances.len()).map(Place::Instance);
        nodes.chain(instances).chain(self.guard_places()).collect()
    }

    fn drawn_link(&mut self) -> Option<(Place, Place)> {
        let places = self.places();
        let from = *self.nemesis.chance.pick(&places)?;
        let to = *self.nemesis.chance.pick(&places)?;
        (from != to).then_some((from, to))
    }

    fn split(&mut self, places: &[Place], side: &[bool], millis: (u64, u64)) {
        let mut links = Vec::new();
        for (a, one) in places.iter().zip(side) {
            for (b, other) in places.iter().zip(side) {
                if one != other {
                    links.push((*a, *b));
                }
            }
        }
        self.cut_for(links, millis);
    }

    fn cut_for(&mut self, links: Vec<(Place, Place)>, millis: (u64, u64)) {
        for (from, to) in &links {
            self.network.cut(*from, *to);
        }
        self.undo_after(millis, Undo::Mend(links));
    }

    fn flap(&mut self) {
        let Some((from, to)) = self.drawn_link() else {
            return;
        };
        let links = vec![(from, to), (to, from)];
        let mut at = Duration::ZERO;
        for _ in 0..10 {
            at += self.nemesis.chance.millis(20, 400);
            let cut = Undo::Cut(links.clone());
            self.schedule.after(at, Event::Undo(cut));
            at += self.nemesis.chance.millis(20, 400);
            let mend = Undo::Mend(links.clone());
            self.schedule.after(at, Event::Undo(mend));
        }
    }

    fn undo_after(&mut self, millis: (u64, u64), undo: Undo) {
        self.totals.faults += 1;
        let delay = self.nemesis.chance.millis(millis.0, millis.1);
        self.schedule.after(delay, Event::Undo(undo));
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::StartNode(n) => {
                if !self.nodes[n].is_alive() && !self.nodes[n].is_retired() {
                    self.start_node(n);
                }
            }
            Undo::ResumeNode(n) => self.resume_node(n),
            Undo::ResumeInstance(i) => self.resume_instance(i),
            Undo::RestartInstance { instance, kept } if self.is_postgres() => {
                if self.restart_server(instance) {
                    let undo = Undo::RestartInstance { instance, kept };
                    let again = Duration::from_secs(1);
                    self.schedule.after(again, Event::Undo(undo));
                }
            }
            Undo::RestartInstance { instance, kept } => {
                let calm = self.now() < self.nemesis.calm_until;
                if calm || self.may_restart(instance) {
                    self.restart_instance(instance, kept);
                } else {
                    let undo = Undo::RestartInstance { instance, kept };
                    let again = Duration::from_secs(1);
                    self.schedule.after(again, Event::Undo(undo));
                }
            }
            Undo::Mend(links) => {
                for (from, to) in links {
                    self.network.mend(from, to);
                }
            }
            Undo::Cut(links) => {
                for (from, to) in links {
                    if self.nemesis.at_work {
                        self.network.cut(from, to);
                    }
                }
            }
            Undo::Clear => self.network.set_weather(FAIR),
        }
    }

    /// Mends everything for good; dead servers come back as the budget allows.
    pub fn mend_everything(&mut self) {
        self.end_trouble();
        self.network.heal();
        for n in 0..self.nodes.len() {
            self.resume_node(n);
            if !self.nodes[n].is_alive() && !self.nodes[n].is_retired() {
                self.start_node(n);
            }
        }
        for i in 0..self.instances.len() {
            self.resume_instance(i);
        }
        self.trace
            .line(self.schedule.now(), || "everything is mended".to_owned());
    }
}
