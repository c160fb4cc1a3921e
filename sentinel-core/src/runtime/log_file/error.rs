//! Why a data folder cannot be used, or can no longer be: each with what to do about it.

use std::io;
use std::path::PathBuf;

use crate::codec::ENCODED_BYTES_MAX;
use crate::id::{ClusterName, NodeName};

/// Why the data folder or the Raft log file failed. Except for [`LogError::Sync`], the folder is as it was, or
/// ends in a record that the next start recognises as torn.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another process has the folder.
    #[error(
        "data folder {} is in use by another process: stop it, or give each node its own data_dir",
        .folder.display()
    )]
    InUse {
        /// The data folder.
        folder: PathBuf,
    },
    /// Everybody can write into it. The operator's fault; nothing was changed.
    #[error(
        "data folder {} has mode {mode:04o}, so that everybody on this machine can alter what this node promised: run chmod 700 on it",
        .folder.display()
    )]
    WritableByAll {
        /// The folder.
        folder: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to a node of another cluster.
    #[error(
        "{} belongs to cluster `{found}`, this node is of cluster `{wanted}`: correct node.cluster or node.data_dir",
        .file.display()
    )]
    OtherCluster {
        /// The segment.
        file: PathBuf,
        /// The cluster that wrote it.
        found: ClusterName,
        /// The cluster of this node.
        wanted: ClusterName,
    },
    /// It belongs to another node of the cluster. Voting with its memory would break what it promised.
    #[error(
        "{} belongs to node `{found}`, this node is `{wanted}`: correct node.name or node.data_dir",
        .file.display()
    )]
    OtherNode {
        /// The segment.
        file: PathBuf,
        /// The node that wrote it.
        found: NodeName,
        /// This node.
        wanted: NodeName,
    },
    /// A newer sentinel wrote it.
    #[error(
        "{} has format version {found}, this build reads up to {supported}: run the version of the sentinel that wrote it, or a newer one",
        .file.display()
    )]
    Newer {
        /// The segment.
        file: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version that this build reads.
        supported: u32,
    },
    /// Records that were durable cannot be read. The disk's fault; nothing was changed.
    #[error(
        "{} is damaged at byte {offset} ({problem}): this node may have forgotten a vote and must not start with it; \
         check the disk, and only while a majority of the other voters is healthy move `raft` and `has_log` out of the data folder and \
         start again, so that this node learns everything from them",
        .file.display()
    )]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where the first unreadable record begins.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// A log was kept here, and there is none. The disk's fault, or a mistaken deletion; nothing was changed.
    #[error(
        "{} has no log, and this node kept one there: it has forgotten its votes and must not start without them; \
         check the disk, and only while a majority of the other voters is healthy move `raft` and `has_log` out of the data folder and \
         start again, so that this node learns everything from them",
        .folder.display()
    )]
    Missing {
        /// Where the segments were.
        folder: PathBuf,
    },
    /// The node's identity is not what this program writes.
    #[error(
        "{} does not hold 40 hex digits: restore it from a backup, or remove it and accept that clients see a new node",
        .file.display()
    )]
    Identity {
        /// The file.
        file: PathBuf,
    },
    /// One value is larger than any reader would accept. Ours, or a table far beyond its limits.
    #[error(
        "a value of {bytes} bytes does not fit the log, which takes up to {ENCODED_BYTES_MAX}: guard fewer services with one cluster"
    )]
    TooLarge {
        /// Encoded bytes.
        bytes: usize,
    },
    /// The file system refused a call. A record may be torn; the log takes nothing more.
    #[error(
        "{doing} {} failed: {source}; check free space, permissions and the disk, then start again",
        .path.display()
    )]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The disk did not confirm a write. What is on it is unknown, and asking again would lie: a kernel may
    /// forget the pages that it failed to write. The process must end at once.
    #[error(
        "the disk did not confirm a write to {}: {source}; ending at once, because what is stored is unknown; check the disk, then start again",
        .path.display()
    )]
    Sync {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl LogError {
    /// For `map_err`: what was tried, and on what.
    pub(super) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}
