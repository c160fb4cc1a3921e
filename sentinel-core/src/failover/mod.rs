//! From verdicts and facts to plans: one file for each stage of the protocol.

pub mod adoption;
pub mod check;
pub mod desk;
pub mod freezing;
pub mod plan;
pub mod promoting;
pub mod repointing;
pub mod steady;

pub use desk::Desk;
pub use plan::{Order, Plan, Sight};
