//! Waits for a condition with a bound: the one place in the tests that may sleep.
//!
//! Knows nothing of what it waits for. A bound that runs out fails the test and names the condition.

use std::time::{Duration, Instant};

/// Generous for everything that a healthy machine does within a second.
pub const BOUND: Duration = Duration::from_secs(20);

const PACE: Duration = Duration::from_millis(2);

/// Blocks until `probe` gives a value, and returns it.
///
/// # Panics
/// When [`BOUND`] runs out.
#[track_caller]
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < BOUND, "waited {BOUND:?} in vain: {what}");
        std::thread::sleep(PACE);
    }
}

/// The same without blocking the runtime.
///
/// # Panics
/// When [`BOUND`] runs out.
pub async fn until_async<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut probe: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(start.elapsed() < BOUND, "waited {BOUND:?} in vain: {what}");
        tokio::time::sleep(PACE).await;
    }
}
