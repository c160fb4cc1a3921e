//! Waits for a condition with a bound, without blocking the runtime.
//!
//! Knows nothing of what it waits for.

use std::future::Future;
use std::time::{Duration, Instant};

use super::error::DemoError;

const PACE: Duration = Duration::from_millis(20);

/// Asks until there is a value; an error of the probe says what was seen instead.
pub(super) async fn until<T, F>(
    what: &str,
    bound: Duration,
    mut probe: impl FnMut() -> F,
) -> Result<T, DemoError>
where
    F: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= bound => {
                let what = what.to_owned();
                return Err(DemoError::InVain { what, bound, last });
            }
            Err(_) => tokio::time::sleep(PACE).await,
        }
    }
}
