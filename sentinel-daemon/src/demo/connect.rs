//! Connections of the demonstration's own to servers and endpoints.

use sentinel_core::id::InstanceId;

/// A client of that server; connects when it is asked for a connection.
pub(super) fn client(server: &InstanceId) -> redis::RedisResult<redis::Client> {
    redis::Client::open(format!("redis://{}:{}/", server.host(), server.port()))
}
