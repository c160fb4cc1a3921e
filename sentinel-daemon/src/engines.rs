//! The registry of engines: one line for each adapter that this build has.
//!
//! Knows names and how an adapter is made. Does not know what an adapter does.

use sentinel_core::id::EngineName;

/// Names that `engine` can have in the settings.
const ENGINES: [&str; 1] = ["redis"];

/// Whether this build has an adapter of that name.
pub fn is_known(engine: &EngineName) -> bool {
    ENGINES.contains(&engine.as_str())
}

/// All names, for an error message.
pub fn known() -> String {
    ENGINES.map(|name| format!("\"{name}\"")).join(", ")
}
