//! Quorum failover for replicated databases: the machine without IO, and its tokio driver.
