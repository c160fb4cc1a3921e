//! One line to each instance, made when it is first asked for and dropped when nobody has asked for it in a while.
//!
//! Does not know what a line is: whatever an adapter keeps of one instance between its answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::id::{InstanceId, ServiceName};

/// Lines that nobody asked for in so long are dropped, and their connections with them.
const UNUSED_MAX: Duration = Duration::from_secs(60);

/// The lines of an adapter.
#[derive(Debug)]
pub struct Lines<L>(Mutex<Used<L>>);

/// Each with the time of its last use.
type Used<L> = BTreeMap<(ServiceName, InstanceId), (Instant, Arc<L>)>;

impl<L> Default for Lines<L> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<L> Lines<L> {
    /// The line to this instance, made now if there is none.
    pub fn to(
        &self,
        service: &ServiceName,
        instance: &InstanceId,
        make: impl FnOnce() -> L,
    ) -> Arc<L> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let key = (service.clone(), instance.clone());
        if let Some((used, line)) = lines.get_mut(&key) {
            *used = now;
            return Arc::clone(line);
        }
        lines.retain(|_, (used, _)| now.duration_since(*used) < UNUSED_MAX);
        let line = Arc::new(make());
        lines.insert(key, (now, Arc::clone(&line)));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instance_has_one() {
        let lines = Lines::default();
        let service = ServiceName::new("s");
        let [a, b] = [1, 2].map(|port| InstanceId::new("h", port));
        let first = lines.to(&service, &a, || 'a');
        let other = lines.to(&service, &b, || 'b');
        assert!(Arc::ptr_eq(&first, &lines.to(&service, &a, || 'c')));
        assert_eq!((*first, *other), ('a', 'b'));
    }
}
