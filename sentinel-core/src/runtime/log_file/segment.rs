//! One segment: a header that says whose it is, then records.
//!
//! Decides from a segment's bytes whether they can be believed, and what they hold. Does not know folders.
//! Header: magic (8), format version (4), length of the header (4), body, CRC32C of all before (4); little endian.
//! The first sixteen bytes and the place of the checksum stay so in every future version.

use serde::{Deserialize, Serialize};
use std::path::Path;

use crate::codec::{self, CodecError};
use crate::id::{ClusterName, NodeName};
use crate::peer::Restored;

use super::error::LogError;
use super::record::{End, scan};
use super::replay::{snapshot_index, take};

const MAGIC: [u8; 8] = *b"QFRAFT\r\n";
/// Raised with every change of the header, of the records' frame, or of what a record means.
pub(super) const SEGMENT_VERSION: u32 = 1;
const PREAMBLE_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
const HEADER_BYTES_MAX: usize = 4096;

/// Whose segment it is, and what was in it when it got its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) cluster: ClusterName,
    pub(super) node: NodeName,
    /// Number of the segment, as in its file name.
    pub(super) segment: u64,
    /// Index of the first entry that it can hold: 1, or the one after its snapshot.
    pub(super) first_index: u64,
    /// Bytes of records that were durable before the segment got its name. A bad record among them is damage, even if
    /// nothing valid follows: no crash can have torn it.
    pub(super) sealed_bytes: u64,
}

/// A segment that can be believed.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) restored: Restored,
    /// Where the next record goes; what the file has beyond it is torn.
    pub(super) valid_bytes: u64,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let body = codec::encode(self);
        let length = PREAMBLE_BYTES + body.len() + CHECKSUM_BYTES;
        let length = u32::try_from(length).expect("names are short");
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&SEGMENT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header and its length.
    fn decode(file: &Path, bytes: &[u8]) -> Result<(Self, usize), LogError> {
        let damaged = |problem: &str| LogError::Damaged {
            file: file.into(),
            offset: 0,
            problem: problem.into(),
        };
        let newer = |found| LogError::Newer {
            file: file.into(),
            found,
            supported: SEGMENT_VERSION,
        };
        let parts = header_parts(bytes).ok_or_else(|| damaged("no valid header"))?;
        if parts.version > SEGMENT_VERSION {
            return Err(newer(parts.version));
        }
        match codec::decode(parts.body) {
            Ok(header) => Ok((header, parts.length)),
            Err(CodecError::Version { found }) if found > codec::FORMAT_VERSION => {
                Err(newer(found.into()))
            }
            Err(error) => Err(damaged(&error.to_string())),
        }
    }
}

struct HeaderParts<'a> {
    version: u32,
    length: usize,
    body: &'a [u8],
}

/// The parts of a header whose checksum matches, whatever its version.
fn header_parts(bytes: &[u8]) -> Option<HeaderParts<'_>> {
    let (&version, rest) = bytes.strip_prefix(&MAGIC)?.split_first_chunk::<4>()?;
    let (&length, _) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(length) as usize;
    if !(PREAMBLE_BYTES + CHECKSUM_BYTES..=HEADER_BYTES_MAX).contains(&length) {
        return None;
    }
    let (covered, checksum) = bytes.get(..length)?.split_last_chunk::<CHECKSUM_BYTES>()?;
    let sound = crc32c::crc32c(covered) == u32::from_le_bytes(*checksum);
    sound.then_some(HeaderParts {
        version: u32::from_le_bytes(version),
        length,
        body: &covered[PREAMBLE_BYTES..],
    })
}

/// Reads a whole segment on behalf of a node; `segment` is the number in its file name.
pub(super) fn read(
    file: &Path,
    bytes: &[u8],
    owner: (&ClusterName, &NodeName),
    segment: u64,
) -> Result<Segment, LogError> {
    let (header, header_bytes) = Header::decode(file, bytes)?;
    check_owner(file, &header, owner)?;
    let damaged = |offset: u64, problem: String| LogError::Damaged {
        file: file.into(),
        offset,
        problem,
    };
    if header.segment != segment {
        return Err(damaged(
            0,
            format!("it was written as segment {}", header.segment),
        ));
    }
    let scan = scan(bytes, segment, header_bytes);
    let sealed_until = header_bytes as u64 + header.sealed_bytes;
    let valid_bytes = match scan.end {
        End::Clean => bytes.len() as u64,
        End::Torn { offset } => offset,
        End::Damaged { offset, problem } => return Err(damaged(offset, problem)),
        End::Newer { found } => {
            let supported = codec::FORMAT_VERSION.into();
            return Err(LogError::Newer {
                file: file.into(),
                found,
                supported,
            });
        }
    };
    if valid_bytes < sealed_until {
        let problem = format!("records up to byte {sealed_until} were durable");
        return Err(damaged(valid_bytes, problem));
    }
    let mut restored = Restored::default();
    for (offset, record) in scan.records {
        take(&mut restored, record).map_err(|problem| damaged(offset, problem))?;
    }
    if snapshot_index(&restored) + 1 != header.first_index {
        return Err(damaged(
            header_bytes as u64,
            "the snapshot is missing".into(),
        ));
    }
    Ok(Segment {
        restored,
        valid_bytes,
    })
}

fn check_owner(
    file: &Path,
    header: &Header,
    (cluster, node): (&ClusterName, &NodeName),
) -> Result<(), LogError> {
    if header.cluster != *cluster {
        return Err(LogError::OtherCluster {
            file: file.into(),
            found: header.cluster.clone(),
            wanted: cluster.clone(),
        });
    }
    if header.node != *node {
        return Err(LogError::OtherNode {
            file: file.into(),
            found: header.node.clone(),
            wanted: node.clone(),
        });
    }
    Ok(())
}
