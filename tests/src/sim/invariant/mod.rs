//! What must hold whatever breaks: one safety property a file, looked at after every step.

mod authority;
mod check;
mod durability;
mod eligibility;
mod epochs;
mod frozen;
mod histories;
mod majority;
mod memory;
mod seal;
mod switchover;
mod tokens;

pub use check::{Happening, Invariant, Invariants, Violation, Was};
