//! The driver's clock: time since boot, suspended time included.
//!
//! `CLOCK_BOOTTIME` and not `CLOCK_MONOTONIC`, because the latter stands still while a machine is
//! suspended: a resumed leader would trust deadlines and contacts that have long expired.

use std::time::Duration;

use crate::time::Instant;

/// Reads the time since boot. Copies read the same clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {}

impl Clock {
    /// The clock of this machine.
    pub fn new() -> Self {
        Self {}
    }

    /// Now.
    pub fn now(&self) -> Instant {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        Instant::from_nanos(seconds * 1_000_000_000 + nanos)
    }

    /// Time left until a deadline; zero when it has passed.
    pub fn until(&self, deadline: Instant) -> Duration {
        deadline.since(self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_shrink() {
        let clock = Clock::new();
        let start = clock.now();
        assert!(clock.until(start + Duration::from_secs(60)) <= Duration::from_secs(60));
        assert_eq!(clock.until(Instant::ORIGIN), Duration::ZERO);
        assert!(clock.now() >= start);
    }
}
