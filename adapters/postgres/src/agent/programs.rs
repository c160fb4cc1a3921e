//! Runs PostgreSQL's own programs: which ones, as whom, in what language, and for how long at most.
//!
//! A password goes into the environment of the child that needs it only, never into its arguments. Of the agent's own
//! environment only what is harmless reaches a child: it may hold the passwords of services, and `PG…` variables would
//! lead a tool elsewhere. Does not know what a program is run for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use super::account::Account;
use crate::credentials::Credentials;

/// Where the programs are, and as whom they run.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    bin_dir: PathBuf,
    pub(super) account: Option<Account>,
    /// Held while the server of this agent is launched or stopped; see `server`.
    pub(super) launching: Arc<Mutex<()>>,
}

/// What went wrong with a program.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramError {
    /// It could not be started. Nothing was changed.
    #[error(
        "{name} could not be started: {source}; is PostgreSQL installed, and is bin_dir right?"
    )]
    Start {
        name: &'static str,
        source: io::Error,
    },
    /// It ended with an error. What it left behind is its own matter.
    #[error("{name} failed ({status}): {text}")]
    Failed {
        name: &'static str,
        status: ExitStatus,
        text: String,
    },
    /// It was still running at its limit and was killed.
    #[error("{name} was still running after {limit:?} and was stopped")]
    TooLong { name: &'static str, limit: Duration },
    /// No folder holds the programs.
    #[error(
        "no folder with PostgreSQL's programs was found (looked for {0}); name it as bin_dir in the agent's settings"
    )]
    NotFound(String),
}

/// What a child has of our environment. What a server inherits, whoever may run programs in it can read.
const INHERITED: [&str; 8] = [
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "PATH",
    "TMPDIR",
    "TZ",
    "USER",
];

/// What of a program's complaint is worth repeating.
const COMPLAINT_BYTES_MAX: usize = 600;
/// Output of a program is cut off here; none that we run has reason to say more.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

impl Programs {
    /// Finds the programs: where the settings say, by the data folder's version, or the newest installed.
    pub(super) fn find(
        bin_dir: Option<&Path>,
        data_dir: &Path,
        account: Option<Account>,
    ) -> Result<Self, ProgramError> {
        let version = fs::read_to_string(data_dir.join("PG_VERSION")).ok();
        let candidates = candidates(bin_dir, version.as_deref().map(str::trim));
        match candidates
            .iter()
            .find(|path| path.join("postgres").exists())
        {
            Some(found) => Ok(Self {
                bin_dir: found.clone(),
                account,
                launching: Arc::default(),
            }),
            None => {
                let looked: Vec<_> = candidates
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                Err(ProgramError::NotFound(looked.join(", ")))
            }
        }
    }

    /// A program of PostgreSQL, to be run as the server's user. Killed if it is not waited for.
    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = self.as_account(self.bin_dir.join(name));
        command.kill_on_drop(true);
        command
    }

    /// A program of PostgreSQL in a session of its own, which outlives the agent. `setsid` does not fork, because a
    /// fresh child never leads a process group: the child is the program itself.
    pub(super) fn lasting_command(&self, name: &str) -> Command {
        let inner = self.as_account(self.bin_dir.join(name));
        let mut command = plain("setsid");
        command.arg(inner.as_std().get_program());
        command.args(inner.as_std().get_args());
        let environment = inner.as_std().get_envs();
        command.env_clear();
        command.envs(environment.filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// A program of the host, run as ourselves.
    pub(super) fn of_host(name: &str) -> Command {
        plain(name)
    }

    /// `setpriv` keeps the user's supplementary groups, which decide whether a server may read its TLS key.
    fn as_account(&self, program: PathBuf) -> Command {
        match self.account {
            Some(account) => {
                let mut command = plain("setpriv");
                // Ours are root's. Without them, programs look up the account's own.
                for name in ["HOME", "LOGNAME", "USER"] {
                    command.env_remove(name);
                }
                command
                    .arg(format!("--reuid={}", account.uid))
                    .arg(format!("--regid={}", account.gid))
                    .arg("--init-groups")
                    .arg("--")
                    .arg(program);
                command
            }
            None => plain(program),
        }
    }

    /// Runs a program to its end and gives what it printed.
    pub(super) async fn run(
        &self,
        name: &'static str,
        mut command: Command,
        limit: Duration,
    ) -> Result<String, ProgramError> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(name, &mut command)?;
        let whole = async {
            let (stdout, stderr) =
                tokio::join!(all_of(child.stdout.take()), all_of(child.stderr.take()));
            (stdout, stderr, child.wait().await)
        };
        let Ok((stdout, stderr, status)) = tokio::time::timeout(limit, whole).await else {
            return Err(ProgramError::TooLong { name, limit });
        };
        judge(name, status, &stderr).map(|()| stdout)
    }

    /// Runs a program that may take hours, and shows each line that it says on its error output. Lines end in a
    /// carriage return too: that is how a progress line replaces the one before.
    pub(super) async fn follow(
        &self,
        name: &'static str,
        mut command: Command,
        mut line_seen: impl FnMut(&str) + Send,
    ) -> Result<(), ProgramError> {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = spawn(name, &mut command)?;
        let mut last = String::new();
        if let Some(stderr) = child.stderr.take() {
            let mut reader = BufReader::new(stderr);
            let mut bytes = Vec::new();
            while let Ok(read) = read_line(&mut reader, &mut bytes).await {
                if read == 0 {
                    break;
                }
                let text = String::from_utf8_lossy(&bytes);
                let text = text.trim();
                if !text.is_empty() {
                    line_seen(text);
                    last.push_str(text);
                    last.push('\n');
                    keep_end(&mut last);
                }
            }
        }
        judge(name, child.wait().await, &last)
    }
}

/// Puts a role's password where only the child sees it.
pub(super) fn lend_password(command: &mut Command, role: &Credentials) {
    if let Some(password) = &role.password {
        command.env("PGPASSWORD", password.reveal());
    }
}

fn candidates(bin_dir: Option<&Path>, version: Option<&str>) -> Vec<PathBuf> {
    if let Some(bin_dir) = bin_dir {
        return vec![bin_dir.to_owned()];
    }
    let mut found = Vec::new();
    if let Some(version) = version {
        found.push(PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
        found.push(PathBuf::from(format!("/usr/pgsql-{version}/bin")));
    } else {
        let mut installed: Vec<u32> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        installed.sort_unstable();
        found.extend(
            installed
                .iter()
                .rev()
                .map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))),
        );
    }
    found.extend(
        std::env::var_os("PATH")
            .iter()
            .flat_map(std::env::split_paths),
    );
    found
}

fn plain(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

fn spawn(name: &'static str, command: &mut Command) -> Result<Child, ProgramError> {
    command
        .spawn()
        .map_err(|source| ProgramError::Start { name, source })
}

fn judge(
    name: &'static str,
    status: io::Result<ExitStatus>,
    stderr: &str,
) -> Result<(), ProgramError> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let mut text = stderr.trim().replace('\n', "; ");
            keep_end(&mut text);
            Err(ProgramError::Failed { name, status, text })
        }
        Err(source) => Err(ProgramError::Start { name, source }),
    }
}

fn keep_end(text: &mut String) {
    if text.len() > COMPLAINT_BYTES_MAX {
        let mut cut = text.len() - COMPLAINT_BYTES_MAX;
        while !text.is_char_boundary(cut) {
            cut += 1;
        }
        text.drain(..cut);
    }
}

async fn all_of(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let kept = (&mut pipe)
            .take(OUTPUT_BYTES_MAX)
            .read_to_end(&mut bytes)
            .await;
        // A program whose pipe nobody reads would wait for ever.
        if kept.is_ok() {
            drop(tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads up to a line feed or a carriage return; gives how many bytes were read.
async fn read_line<R: AsyncRead + Unpin>(
    reader: &mut BufReader<R>,
    line: &mut Vec<u8>,
) -> io::Result<usize> {
    line.clear();
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(line.len());
        }
        let end = available
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'));
        let used = end.map_or(available.len(), |end| end + 1);
        line.extend_from_slice(&available[..used]);
        reader.consume(used);
        if end.is_some() {
            return Ok(line.len());
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = plain("sh");
        command.args(["-c", script]);
        command
    }

    fn programs() -> Programs {
        Programs {
            bin_dir: "/usr/bin".into(),
            account: None,
            launching: Arc::default(),
        }
    }

    #[tokio::test]
    async fn output_is_given_and_complaints_are_repeated() {
        let programs = programs();
        let limit = Duration::from_secs(10);
        let text = programs
            .run("sh", shell("echo one; echo two >&2"), limit)
            .await;
        assert_eq!(text.unwrap(), "one\n");
        let error = programs
            .run("sh", shell("echo bad luck >&2; exit 3"), limit)
            .await;
        let text = error.unwrap_err().to_string();
        assert!(text.contains("bad luck") && text.contains('3'), "{text}");
    }

    #[tokio::test]
    async fn a_child_has_none_of_our_secrets() {
        let not_inherited = |name: &str| !INHERITED.contains(&name);
        // Cargo sets some; without one of those, this test would show nothing.
        assert!(std::env::vars().any(|(name, _)| not_inherited(&name)));
        let limit = Duration::from_secs(10);
        let text = programs().run("env", plain("env"), limit).await.unwrap();
        let names = || text.lines().filter_map(|line| line.split('=').next());
        assert!(names().any(|name| name == "PATH"), "{text}");
        assert!(
            !names().any(|name| not_inherited(name) && name != "LC_ALL"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn another_account_is_not_given_our_home() {
        let account = Some(Account { uid: 1, gid: 1 });
        let programs = Programs {
            account,
            ..programs()
        };
        for command in [programs.command("x"), programs.lasting_command("x")] {
            let mut set = command
                .as_std()
                .get_envs()
                .filter(|(_, value)| value.is_some());
            assert!(!set.any(|(name, _)| name == "HOME"), "{command:?}");
        }
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_given_up() {
        let programs = programs();
        let result = programs.run("sh", shell("exec sleep 600"), Duration::from_millis(50));
        assert!(matches!(result.await, Err(ProgramError::TooLong { .. })));
    }

    #[tokio::test]
    async fn progress_lines_end_in_a_carriage_return_too() {
        let mut lines = Vec::new();
        let command = shell("printf '1%%\\r2%%\\r\\ndone\\n' >&2");
        let programs = programs();
        let followed = programs.follow("sh", command, |line| lines.push(line.to_owned()));
        followed.await.unwrap();
        assert_eq!(lines, ["1%", "2%", "done"]);
    }
}
