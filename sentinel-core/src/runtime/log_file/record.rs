//! The frame around one record, and what the bytes of a segment amount to.
//!
//! Layout: mark (4), length of the payload (4), kind (1), CRC32C (4), payload; little endian. The checksum also
//! covers the segment's number and the record's offset, so that a record is valid in its own place only: stale
//! blocks of a deleted segment, or a record inside another's payload, are never taken for one.
//! Does not know files.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, ENCODED_BYTES_MAX};
use crate::peer::{HardState, LogEntry, SnapshotRecord};

/// Begins every record, so that a search for valid records beyond a bad one is cheap.
const MARK: [u8; 4] = [0xa7, 0x5e, 0x1b, 0xd3];
const FRAME_BYTES: usize = 13;

/// One record: as much as became durable in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The table; only ever the first record of a segment.
    Snapshot(SnapshotRecord),
    /// What one `Persist` brought. Entries and hard state share a record, so that a torn write loses both.
    Batch(Batch),
}

/// Entries in order, and the hard state that holds with them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) entries: Vec<LogEntry>,
    pub(super) hard_state: Option<HardState>,
}

/// Where in which segment a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// What a run of bytes holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// The valid records from the beginning on, each with its offset.
    pub(super) records: Vec<(u64, Record)>,
    /// What follows them.
    pub(super) end: End,
}

/// What follows the last valid record of an unbroken run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing.
    Clean,
    /// From this offset on, nothing valid: a write that a crash cut short.
    Torn { offset: u64 },
    /// A bad record at this offset, and a valid one somewhere after it.
    Damaged { offset: u64, problem: String },
    /// A sound record of a newer build.
    Newer { found: u32 },
}

impl Record {
    /// Frames the record for its place; the error is the number of bytes that are too many.
    pub(super) fn encode(&self, place: Place) -> Result<Vec<u8>, usize> {
        let (kind, payload) = match self {
            Self::Snapshot(snapshot) => (1, codec::encode(snapshot)),
            Self::Batch(batch) => (2, codec::encode(batch)),
        };
        if payload.len() > ENCODED_BYTES_MAX {
            return Err(payload.len());
        }
        let length = u32::try_from(payload.len()).expect("the limit of a value is far below 4 GiB");
        let mut bytes = Vec::with_capacity(FRAME_BYTES + payload.len());
        bytes.extend_from_slice(&MARK);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&checksum(place, length, kind, &payload).to_le_bytes());
        bytes.extend_from_slice(&payload);
        Ok(bytes)
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, CodecError> {
        match kind {
            1 => codec::decode(payload).map(Self::Snapshot),
            2 => codec::decode(payload).map(Self::Batch),
            unknown => Err(CodecError::Malformed(format!(
                "unknown kind of record {unknown}"
            ))),
        }
    }
}

/// Reads the records in `bytes[from..]`, where `bytes` is the whole segment.
pub(super) fn scan(bytes: &[u8], segment: u64, from: usize) -> Scan {
    let mut records = Vec::new();
    let mut at = from;
    let end = loop {
        if at == bytes.len() {
            break End::Clean;
        }
        let Some(frame) = sound_frame(bytes, segment, at) else {
            break end_at_bad_record(bytes, segment, at);
        };
        match Record::decode(frame.kind, frame.payload) {
            Ok(record) => records.push((at as u64, record)),
            Err(CodecError::Version { found }) if found > codec::FORMAT_VERSION => {
                break End::Newer {
                    found: found.into(),
                };
            }
            Err(error) => {
                break End::Damaged {
                    offset: at as u64,
                    problem: error.to_string(),
                };
            }
        }
        at = frame.next;
    };
    Scan { records, end }
}

fn end_at_bad_record(bytes: &[u8], segment: u64, at: usize) -> End {
    let offset = at as u64;
    match (at + 1..bytes.len()).find(|&later| sound_frame(bytes, segment, later).is_some()) {
        None => End::Torn { offset },
        Some(later) => End::Damaged {
            offset,
            problem: format!("checksum does not match, yet a valid record follows at byte {later}"),
        },
    }
}

struct Frame<'a> {
    kind: u8,
    payload: &'a [u8],
    next: usize,
}

/// The record at an offset, if it is whole and its checksum matches.
fn sound_frame(bytes: &[u8], segment: u64, at: usize) -> Option<Frame<'_>> {
    let rest = bytes[at..].strip_prefix(&MARK)?;
    let (&length, rest) = rest.split_first_chunk::<4>()?;
    let (&kind, rest) = rest.split_first()?;
    let (&wanted, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(length);
    let payload = rest.get(..length as usize)?;
    let place = Place {
        segment,
        offset: at as u64,
    };
    (checksum(place, length, kind, payload) == u32::from_le_bytes(wanted)).then_some(Frame {
        kind,
        payload,
        next: at + FRAME_BYTES + length as usize,
    })
}

fn checksum(place: Place, length: u32, kind: u8, payload: &[u8]) -> u32 {
    let mut crc = crc32c::crc32c(&place.segment.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &place.offset.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &length.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &[kind]);
    crc32c::crc32c_append(crc, payload)
}
