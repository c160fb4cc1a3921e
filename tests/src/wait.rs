//! Waits for a condition with a bound: the one place in the tests that may sleep.
//!
//! Knows nothing of what it waits for. A bound that runs out fails the test and names the condition.

use std::time::{Duration, Instant};

/// Generous for everything that a healthy machine does within a second.
pub const BOUND: Duration = Duration::from_secs(20);

/// Generous for what a whole cluster does within seconds, on a machine that runs two of them.
pub const BOUND_CLUSTER: Duration = Duration::from_secs(30);

const PACE: Duration = Duration::from_millis(2);

/// Asking a whole cluster costs it processor time.
const PACE_CLUSTER: Duration = Duration::from_millis(20);

/// Blocks until `probe` gives a value, and returns it.
///
/// # Panics
/// When [`BOUND`] runs out.
#[track_caller]
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    until_within(BOUND, what, probe)
}

/// The same with a bound of its own, for what a healthy machine takes longer for.
///
/// # Panics
/// When the bound runs out.
#[track_caller]
pub fn until_within<T>(bound: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < bound, "waited {bound:?} in vain: {what}");
        std::thread::sleep(PACE);
    }
}

/// The same with a bound of the caller's, who says what it means when `None` comes back.
pub fn within<T>(bound: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let found = probe();
        if found.is_some() || start.elapsed() >= bound {
            return found;
        }
        std::thread::sleep(PACE_CLUSTER);
    }
}

/// Checks for this long, again and again, what must hold all the time; `check` fails the test itself. For what
/// must not happen there is no event to wait for.
pub fn throughout(period: Duration, mut check: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < period {
        check();
        std::thread::sleep(PACE_CLUSTER);
    }
}

/// The same as [`throughout`] without blocking the runtime.
pub async fn throughout_async<F: Future<Output = ()>>(period: Duration, check: impl Fn() -> F) {
    let end = Instant::now() + period;
    while Instant::now() < end {
        check().await;
        tokio::time::sleep(PACE_CLUSTER).await;
    }
}

/// The same as [`until`] without blocking the runtime.
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
