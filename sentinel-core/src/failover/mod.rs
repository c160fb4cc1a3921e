//! From verdicts and facts to plans: one file for each stage of the protocol.

pub mod adoption;
pub mod check;
pub mod desk;
pub mod freezing;
mod membership;
pub mod plan;
pub mod promoting;
mod reattach;
pub mod repointing;
pub mod sight;
pub mod standing;
mod steady;
mod stranded;
pub mod switching;
mod write_quorum;
mod writes;

pub use desk::Desk;
pub use plan::{Order, Plan};
pub use sight::Sight;
