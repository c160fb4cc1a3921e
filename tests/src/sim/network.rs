//! The network: which directed links are cut, and how long a message takes.
//!
//! Knows places and nothing of what they say. Datagrams (between nodes) are lost, doubled and
//! overtake one another; streams (to database servers) only come late, as TCP's do.

use std::collections::BTreeSet;
use std::time::Duration;

use super::chance::Chance;

/// Where something is; an index into the world's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// One of our nodes.
    Node(usize),
    /// A database server.
    Instance(usize),
    /// A write guard's host.
    Guard(usize),
}

/// How bad the weather is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Datagrams lost, and stream segments that need a second attempt.
    pub loss_percent: u64,
    /// Datagrams that arrive twice.
    pub doubled_percent: u64,
    /// Longest delay in microseconds.
    pub delay_micros_max: u64,
}

/// No fault.
pub const FAIR: Weather = Weather {
    loss_percent: 0,
    doubled_percent: 0,
    delay_micros_max: 900,
};

const DELAY_MICROS_MIN: u64 = 100;

/// After so long a sender repeats what was not received.
const RETRANSMIT_MILLIS: (u64, u64) = (200, 400);

/// All links.
#[derive(Debug)]
pub struct Network {
    cut: BTreeSet<(Place, Place)>,
    weather: Weather,
    chance: Chance,
}

impl Network {
    /// No link is cut, and the weather is fair.
    pub fn new(chance: Chance) -> Self {
        Self {
            cut: BTreeSet::new(),
            weather: FAIR,
            chance,
        }
    }

    /// Changes the weather everywhere.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to));
    }

    /// Cuts both directions.
    pub fn cut_both(&mut self, one: Place, other: Place) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Mends one direction.
    pub fn mend(&mut self, from: Place, to: Place) {
        self.cut.remove(&(from, to));
    }

    /// Mends every link and clears the weather.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.weather = FAIR;
    }

    /// Whether no link is cut and the weather is fair.
    pub fn is_whole(&self) -> bool {
        self.cut.is_empty() && self.weather == FAIR
    }

    /// Whether messages get through in this direction.
    pub fn open(&self, from: Place, to: Place) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Whether a conversation is possible.
    pub fn open_both(&self, one: Place, other: Place) -> bool {
        self.open(one, other) && self.open(other, one)
    }

    /// Delays of the copies of one datagram: none when it is lost.
    pub fn datagram(&mut self, from: Place, to: Place) -> Vec<Duration> {
        if !self.open(from, to) || self.chance.percent(self.weather.loss_percent) {
            return Vec::new();
        }
        let copies = 1 + usize::from(self.chance.percent(self.weather.doubled_percent));
        (0..copies).map(|_| self.delay()).collect()
    }

    /// How long one segment of a stream takes; lost ones are repeated.
    pub fn segment(&mut self) -> Duration {
        let mut delay = self.delay();
        if self.chance.percent(self.weather.loss_percent) {
            delay += self.retransmit();
        }
        delay
    }

    /// How long a sender waits before it repeats a segment.
    pub fn retransmit(&mut self) -> Duration {
        self.chance.millis(RETRANSMIT_MILLIS.0, RETRANSMIT_MILLIS.1)
    }

    fn delay(&mut self) -> Duration {
        self.chance
            .micros(DELAY_MICROS_MIN, self.weather.delay_micros_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Place = Place::Node(0);
    const B: Place = Place::Instance(0);

    #[test]
    fn a_cut_has_a_direction() {
        let mut network = Network::new(Chance::new(1));
        network.cut(A, B);
        assert!(!network.open(A, B) && network.open(B, A) && !network.open_both(B, A));
        assert!(network.datagram(A, B).is_empty());
        assert_eq!(network.datagram(B, A).len(), 1);
        network.heal();
        assert!(network.is_whole() && network.open_both(A, B));
    }

    #[test]
    fn bad_weather_loses_and_doubles() {
        let mut network = Network::new(Chance::new(1));
        network.set_weather(Weather {
            loss_percent: 30,
            doubled_percent: 30,
            delay_micros_max: 50_000,
        });
        let copies: Vec<usize> = (0..200).map(|_| network.datagram(A, B).len()).collect();
        for wanted in [0, 1, 2] {
            assert!(copies.contains(&wanted), "never {wanted} copies");
        }
        let late = (0..200).filter(|_| network.segment() >= Duration::from_millis(200));
        assert!(late.count() > 20);
    }
}
