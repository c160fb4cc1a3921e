//! Fetches a server's whole data set into a file, over the replication protocol.
//!
//! The server itself cannot keep a second copy: since 7.0 the name of its own file cannot be
//! changed at run time, and its next full sync overwrites that file. So we ask for a full sync as a
//! replica would, and write what comes. Without the capability `eof` the server saves to its disk
//! first and sends at once, without the delay of diskless syncs. A replica without a link to its
//! primary refuses this (`NOMASTERLINK`): only a primary can be copied.
//!
//! Does not know why a copy is wanted, and never removes one.

use std::io;
use std::path::{Path, PathBuf};

use redis::Cmd;
use sentinel_core::id::{InstanceId, ServiceName};
use sentinel_core::position::{Lineage, Offset, Position};
use tokio::fs::{self, File};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::credentials::Credentials;

/// What is fetched, and into which folder.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) service: ServiceName,
    pub(crate) instance: InstanceId,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) folder: PathBuf,
}

/// A finished copy: on disk, synced, and exactly the data set at `position`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) path: PathBuf,
    pub(crate) position: Position,
    pub(crate) bytes: u64,
}

/// Why there is no copy. At most an unfinished `.part` file is left behind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The connection or the disk failed.
    #[error("copying failed: {0}; look at the disk space of this node and at the server's log")]
    Io(#[from] io::Error),
    /// The server does not give a copy now.
    #[error("the server answers `{0}` when asked for a copy")]
    Answer(String),
}

/// Fetches the copy; as long as the data are large.
pub(crate) async fn fetch(source: Source) -> Result<Copy, CopyError> {
    fs::create_dir_all(&source.folder).await?;
    let stream = TcpStream::connect((source.instance.host(), source.instance.port())).await?;
    let mut stream = BufReader::new(stream);
    if let Some(credentials) = &source.credentials {
        let mut auth = redis::cmd("AUTH");
        if let Some(username) = &credentials.username {
            auth.arg(username);
        }
        auth.arg(credentials.password.reveal());
        ask(&mut stream, &auth).await?;
    }
    let mut sync = redis::cmd("PSYNC");
    sync.arg("?").arg("-1");
    let position = full_sync(&ask(&mut stream, &sync).await?)?;
    let header = line(&mut stream).await?;
    let bytes: u64 = header
        .strip_prefix('$')
        .and_then(|length| length.parse().ok())
        .ok_or(CopyError::Answer(header))?;
    let path = source.folder.join(file_name(&source, &position));
    write(&mut stream, bytes, &path).await?;
    Ok(Copy {
        path,
        position,
        bytes,
    })
}

async fn ask(stream: &mut BufReader<TcpStream>, command: &Cmd) -> Result<String, CopyError> {
    stream.write_all(&command.get_packed_command()).await?;
    let answer = line(stream).await?;
    if answer.starts_with('-') {
        return Err(CopyError::Answer(answer));
    }
    Ok(answer)
}

/// The next line that is not empty: a server that is still saving sends empty ones as a sign of life.
async fn line(stream: &mut BufReader<TcpStream>) -> Result<String, CopyError> {
    const BYTES_MAX: u64 = 1024;
    loop {
        let mut text = String::new();
        if stream.take(BYTES_MAX).read_line(&mut text).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if !text.trim_end().is_empty() {
            return Ok(text.trim_end().to_owned());
        }
    }
}

/// `+FULLRESYNC <replication id> <offset>`.
fn full_sync(answer: &str) -> Result<Position, CopyError> {
    let mut words = answer.split(' ');
    let position = (|| {
        (words.next()? == "+FULLRESYNC").then_some(())?;
        Some(Position {
            lineage: Lineage::new(words.next()?),
            offset: Offset(words.next()?.parse().ok()?),
        })
    })();
    position.ok_or_else(|| CopyError::Answer(answer.to_owned()))
}

async fn write(
    stream: &mut BufReader<TcpStream>,
    bytes: u64,
    path: &Path,
) -> Result<(), CopyError> {
    let unfinished = path.with_extension("part");
    let mut file = File::create(&unfinished).await?;
    let written = tokio::io::copy(&mut stream.take(bytes), &mut file).await?;
    if written < bytes {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    file.flush().await?;
    file.sync_all().await?;
    fs::rename(&unfinished, path).await?;
    if let Some(folder) = path.parent() {
        File::open(folder).await?.sync_all().await?;
    }
    Ok(())
}

fn file_name(source: &Source, position: &Position) -> String {
    let id: String = position.lineage.as_str().chars().take(8).collect();
    let instance = format!("{}-{}", source.instance.host(), source.instance.port());
    let name = format!("{}-{instance}-{id}-{}.rdb", source.service, position.offset);
    name.replace(['/', ':'], "_")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn the_answer_gives_the_position() {
        let position = full_sync("+FULLRESYNC abcdef0123456789 42").unwrap();
        assert_eq!(position.offset, Offset(42));
        for bad in ["+CONTINUE", "+FULLRESYNC ab", "+FULLRESYNC ab x", ""] {
            assert!(full_sync(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_name_says_whose_data_and_where_they_end() {
        let source = Source {
            service: "orders".into(),
            instance: InstanceId::new("2001:db8::1", 6379),
            credentials: None,
            folder: PathBuf::new(),
        };
        let position = full_sync("+FULLRESYNC abcdef0123456789 42").unwrap();
        assert_eq!(
            file_name(&source, &position),
            "orders-2001_db8__1-6379-abcdef01-42.rdb"
        );
    }
}
