//! Rules that `sentinel run --plant` and `sentinel demo --plant` can leave out, so that a test sees what they prevent.
//!
//! Only in builds with the feature `planted-bugs`. Names the rules; what leaving one out does is the core's knowledge.

use clap::ValueEnum as _;
use sentinel_core::planted::{Bug, Bugs};

/// A rule left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PlantedBug {
    /// A replica is promoted although others can still acknowledge writes of the old primary.
    SkipSeal,
}

impl PlantedBug {
    /// As the command line spells it.
    pub(crate) fn name(self) -> String {
        let value = self
            .to_possible_value()
            .expect("no variant is hidden from the command line");
        value.get_name().to_owned()
    }

    /// As the core takes it.
    pub(crate) fn bugs(self) -> Bugs {
        match self {
            Self::SkipSeal => Bugs::planted([Bug::SkipSeal]),
        }
    }
}
