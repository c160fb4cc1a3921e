//! Takes the crate's reply values apart. Knows their shapes in RESP2, and none of their meanings.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the crate's enum grows, and every other shape is equally unexpected"
)]

use std::collections::BTreeMap;

use redis::Value;

/// The text of a string reply; `None` where it is none or not UTF-8.
pub(crate) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::VerbatimString { text, .. } => Some(text),
        Value::Okay => Some("OK"),
        _ => None,
    }
}

/// The items of a list reply.
pub(crate) fn items(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

/// The value after a name in a flat list of names and values.
pub(crate) fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    items(value)?
        .chunks_exact(2)
        .find(|pair| text(&pair[0]) == Some(name))
        .map(|pair| &pair[1])
}

/// One setting out of a reply to `CONFIG GET`.
pub(crate) fn setting<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    text(field(value, name)?)
}

/// The `name:value` lines of a reply to `INFO`.
pub(crate) fn info(value: &Value) -> BTreeMap<&str, &str> {
    text(value)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect()
}

/// The first error reply, also inside the reply of a transaction.
pub(crate) fn first_error(replies: &[Value]) -> Option<&redis::ServerError> {
    replies.iter().find_map(|reply| match reply {
        Value::ServerError(error) => Some(error),
        Value::Array(items) => first_error(items),
        _ => None,
    })
}
