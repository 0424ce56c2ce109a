//! The server process: starting it, knowing when it is ready, ending it in four ways.
//!
//! The postmaster is started directly rather than through pg_ctl: as our own child its pid cannot be reused before we
//! have seen it end, so no signal ever hits a stranger.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::evidence;
use crate::server::Server;
use crate::wait::{DEFAULT_DEADLINE, holds_within};

/// The line of `postmaster.pid` that holds the status: `LOCK_FILE_LINE_PM_STATUS` in PostgreSQL's `pidfile.h`.
const STATUS_LINE: usize = 8;

/// How long the server processes may take to notice that their postmaster is gone before they are killed too.
const ORPHANS_DEADLINE: Duration = Duration::from_secs(5);

/// The server's ways to shut down, as in `pg_ctl stop -m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// Waits until the clients have gone.
    Smart,
    /// Ends the clients' sessions and writes a checkpoint.
    Fast,
    /// Writes nothing; the next start does a crash recovery.
    Immediate,
}

impl ShutdownMode {
    fn signal(self) -> &'static str {
        match self {
            Self::Smart => "TERM",
            Self::Fast => "INT",
            Self::Immediate => "QUIT",
        }
    }
}

pub(super) enum StartFailure {
    /// Another process was quicker.
    PortTaken,
    /// What is wrong, with the end of the log.
    Other(String),
}

impl fmt::Display for StartFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PortTaken => formatter.write_str("its port is in use"),
            Self::Other(message) => formatter.write_str(message),
        }
    }
}

pub(super) struct Postmaster {
    process: Child,
}

impl Postmaster {
    /// Returns when the server accepts connections.
    pub(super) fn start(server: &Server, data: &Path, log: &Path) -> Result<Self, StartFailure> {
        let other = |what: &str, error: io::Error| StartFailure::Other(format!("{what}: {error}"));
        let log_file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|error| other("could not open its log", error))?;
        let old_log_length = log_file.metadata().map_or(0, |metadata| metadata.len());
        let second_handle = log_file
            .try_clone()
            .map_err(|error| other("could not open its log twice", error))?;
        let process = server
            .command("postgres")
            .arg("-D")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(log_file)
            .stderr(second_handle)
            // A group of its own, so that Ctrl-C does not reach the servers before us.
            .process_group(0)
            .spawn()
            .map_err(|error| other("could not run postgres", error))?;
        let mut postmaster = Self { process };
        let mut ended = None;
        let ready = holds_within(DEFAULT_DEADLINE, || {
            ended = postmaster.process.try_wait().ok().flatten();
            ended.is_some() || is_ready(data, postmaster.pid())
        });
        if ready && ended.is_none() {
            return Ok(postmaster);
        }
        let new_log = fs::read(log).unwrap_or_default();
        let new_log = new_log
            .get(usize::try_from(old_log_length).unwrap_or(usize::MAX)..)
            .unwrap_or_default();
        let new_log = String::from_utf8_lossy(new_log);
        match ended {
            Some(_) if new_log.contains("Address already in use") => Err(StartFailure::PortTaken),
            Some(status) => Err(StartFailure::Other(format!(
                "postgres ended with {status}; its log ends with\n{}",
                evidence::tail(&new_log)
            ))),
            None => {
                // The caller gets no value that could end it later.
                let _ = postmaster.kill(server, data);
                Err(StartFailure::Other(format!(
                    "not ready after {DEFAULT_DEADLINE:?}; its log ends with\n{}",
                    evidence::tail(&new_log)
                )))
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn stop(&mut self, server: &Server, mode: ShutdownMode) -> Result<(), String> {
        self.signal(server, mode.signal())?;
        self.wait_for_end()
    }

    pub(super) fn kill(&mut self, server: &Server, data: &Path) -> Result<(), String> {
        self.process.kill().map_err(|error| error.to_string())?;
        self.wait_for_end()?;
        // They look for their postmaster whenever they wait for something; one that computes does not.
        if holds_within(ORPHANS_DEADLINE, || processes_in(data).is_empty()) {
            return Ok(());
        }
        for pid in processes_in(data) {
            send(server, "KILL", pid)?;
        }
        if holds_within(DEFAULT_DEADLINE, || processes_in(data).is_empty()) {
            Ok(())
        } else {
            Err(format!(
                "server processes {:?} do not end",
                processes_in(data)
            ))
        }
    }

    fn signal(&mut self, server: &Server, signal: &str) -> Result<(), String> {
        match self.process.try_wait() {
            Ok(Some(_)) => Ok(()), // nobody left to hear it
            _ => send(server, signal, self.pid()),
        }
    }

    fn wait_for_end(&mut self) -> Result<(), String> {
        if holds_within(DEFAULT_DEADLINE, || {
            !matches!(self.process.try_wait(), Ok(None))
        }) {
            Ok(())
        } else {
            Err(format!(
                "postmaster {} is still there after {DEFAULT_DEADLINE:?}",
                self.pid()
            ))
        }
    }
}

/// The file is the postmaster's own word; connecting instead could reach another server on that port.
fn is_ready(data: &Path, pid: u32) -> bool {
    let Ok(lock_file) = fs::read_to_string(data.join("postmaster.pid")) else {
        return false;
    };
    let mut lines = lock_file.lines();
    lines.next() == Some(pid.to_string().as_str())
        && lines
            .nth(STATUS_LINE - 2)
            .is_some_and(|status| status.trim() == "ready")
}

/// Every server process has the data directory as its current directory; the path of it is another one for those that see
/// another root directory.
fn processes_in(data: &Path) -> Vec<u32> {
    let place = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino()));
    let (Ok(entries), Ok(data)) = (fs::read_dir("/proc"), place(data)) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            place(Path::new(&format!("/proc/{pid}/cwd"))).is_ok_and(|directory| directory == data)
        })
        .collect()
}

/// The standard library sends nothing but SIGKILL; `pg_ctl kill` is there wherever a server is.
fn send(server: &Server, signal: &str, pid: u32) -> Result<(), String> {
    let mut command: Command = server.command("pg_ctl");
    command.args(["kill", signal, &pid.to_string()]);
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("could not run {command:?}: {error}")),
    }
}
