//! The Redis and Valkey adapter.
