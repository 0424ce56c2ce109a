//! One throw-away cluster: its directory, its settings, and its life from `start` to `Drop`.

mod evidence;
mod postmaster;
mod sql;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::janitor::Janitor;
use crate::server::Server;
use crate::template::{Template, new_directory, random, run};
use postmaster::{Postmaster, StartFailure};

pub use postmaster::ShutdownMode;

/// Small and quick, and with room for many subscriptions. No fsync: a crash of a server process loses nothing that the
/// kernel has, and the machine's own crash takes the whole cluster with it.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("wal_level", "logical"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "32MB"),
    ("max_connections", "50"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("max_worker_processes", "20"),
    ("max_logical_replication_workers", "10"),
    ("wal_retrieve_retry_interval", "100ms"),
    ("autovacuum_naptime", "20s"),
    ("restart_after_crash", "on"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_line_prefix", "%m [%p] %a: "),
];

/// Below the range from which the kernel takes the ports of outgoing connections, so that a cluster that is down for a
/// moment finds its port free.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const PORT_ATTEMPTS: u32 = 50;

/// What a cluster shall be like.
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    name: String,
    server: Option<Server>,
    settings: Vec<(String, String)>,
}

impl ClusterBuilder {
    /// A line of `postgresql.conf`; the last one of a name counts.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another server than the one of the environment.
    #[must_use]
    pub fn server(mut self, server: Server) -> Self {
        self.server = Some(server);
        self
    }

    /// Makes the cluster and returns when it accepts connections.
    pub fn start(self) -> Cluster {
        let server = self
            .server
            .unwrap_or_else(|| Server::find().unwrap_or_else(|message| panic!("{message}")));
        let template = Template::prepare(&server);
        let directory = new_directory(&server, &format!("replwarden-{}", self.name));
        let data = directory.join("data");
        let cluster = Cluster {
            janitor: Mutex::new(Janitor::watch(&server, &directory, &data)),
            name: self.name,
            directory,
            data,
            port: 0,
            postmaster: Mutex::new(None),
            kept: AtomicBool::new(false),
            server,
        };
        let mut copy = cluster.server.user().command(Path::new("cp"));
        run(copy.arg("-a").arg(template.data()).arg(&cluster.data));
        cluster.configure(&template, &self.settings);
        cluster.start_on_free_port()
    }
}

/// A running cluster (or one that a test has stopped). Dropping it removes it; while its thread is panicking, its server
/// log is saved and its end printed first.
pub struct Cluster {
    name: String,
    server: Server,
    directory: PathBuf,
    data: PathBuf,
    port: u16,
    postmaster: Mutex<Option<Postmaster>>,
    janitor: Mutex<Janitor>,
    kept: AtomicBool,
}

impl Cluster {
    /// `name` appears in the directory's name and in messages: letters, digits and hyphens.
    pub fn builder(name: &str) -> ClusterBuilder {
        assert!(
            (1..=20).contains(&name.len())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
            "\"{name}\" is no name for a cluster: 1 to 20 letters, digits and hyphens"
        );
        ClusterBuilder {
            name: name.to_owned(),
            server: None,
            settings: Vec::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// The postmaster's process id, none while the cluster is down.
    pub fn postmaster_pid(&self) -> Option<u32> {
        self.postmaster().as_ref().map(Postmaster::pid)
    }

    /// Starts a cluster that is down, on its old port, and returns when it accepts connections.
    #[track_caller]
    pub fn start(&self) {
        let mut postmaster = self.postmaster();
        assert!(postmaster.is_none(), "{} is already running", self.name);
        match Postmaster::start(&self.server, &self.data, &self.log_path()) {
            Ok(started) => *postmaster = Some(started),
            Err(failure) => panic!("{} did not start: {failure}", self.name),
        }
    }

    /// Stops a running cluster and returns when all its processes are gone.
    #[track_caller]
    pub fn stop(&self, mode: ShutdownMode) {
        let running = self.postmaster().take();
        let mut running = running.unwrap_or_else(|| panic!("{} is not running", self.name));
        if let Err(message) = running.stop(&self.server, mode) {
            panic!("{} did not stop: {message}", self.name);
        }
    }

    /// Ends the postmaster with SIGKILL, as a crash of the machine would end it, and returns when the server processes
    /// have noticed and are gone too.
    #[track_caller]
    pub fn kill(&self) {
        let running = self.postmaster().take();
        let mut running = running.unwrap_or_else(|| panic!("{} is not running", self.name));
        if let Err(message) = running.kill(&self.server, &self.data) {
            panic!("{} did not end: {message}", self.name);
        }
    }

    /// A fast shutdown and a start.
    #[track_caller]
    pub fn restart(&self) {
        self.stop(ShutdownMode::Fast);
        self.start();
    }

    /// Leaves the cluster up, and its directory in place, when this process ends. Returns the shell commands that stop
    /// and remove it.
    pub fn keep(&self) -> Vec<String> {
        self.kept.store(true, Ordering::Relaxed);
        self.janitor().dismiss();
        vec![
            format!(
                "{}{} stop -m fast -D {}",
                self.server.user().shell_prefix(),
                self.server.program("pg_ctl").display(),
                self.data.display()
            ),
            format!("rm -rf {}", self.directory.display()),
        ]
    }

    fn configure(&self, template: &Template, settings: &[(String, String)]) {
        let mut lines = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(lines, "{name} = '{}'", value.replace('\'', "''"));
        };
        for (name, value) in SETTINGS {
            line(name, value);
        }
        line(
            "unix_socket_directories",
            &self.directory.display().to_string(),
        );
        if template.has_output_plugin_list() {
            line(
                "output_plugin_libraries",
                "pglogical_output, pgoutput, test_decoding",
            );
        }
        for (name, value) in settings {
            line(name, value);
        }
        self.append_settings(&lines);
    }

    fn append_settings(&self, lines: &str) {
        let path = self.data.join("postgresql.conf");
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(lines.as_bytes()))
            .unwrap_or_else(|error| panic!("could not write {}: {error}", path.display()));
    }

    /// Nothing can reserve a port for another process, so a port that was free a moment ago is only a good guess.
    fn start_on_free_port(mut self) -> Self {
        for _ in 0..PORT_ATTEMPTS {
            self.port = free_port();
            self.append_settings(&format!("port = {}\n", self.port));
            match Postmaster::start(&self.server, &self.data, &self.log_path()) {
                Ok(started) => {
                    *self.postmaster() = Some(started);
                    return self;
                }
                Err(StartFailure::PortTaken) => {}
                Err(failure) => panic!("{} did not start: {failure}", self.name),
            }
        }
        panic!("{}: found no free port in {PORTS:?}", self.name);
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    fn postmaster(&self) -> MutexGuard<'_, Option<Postmaster>> {
        self.postmaster
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn janitor(&self) -> MutexGuard<'_, Janitor> {
        self.janitor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    /// Never panics: that would abort a test run that is already reporting a failure.
    fn drop(&mut self) {
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        if thread::panicking() {
            evidence::save(&self.name, &self.log_path());
        }
        let running = self.postmaster().take();
        if let Some(mut running) = running
            && let Err(message) = running.stop(&self.server, ShutdownMode::Immediate)
        {
            eprintln!("{} did not stop: {message}", self.name);
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("could not remove {}: {error}", self.directory.display());
        }
        self.janitor().dismiss();
    }
}

fn free_port() -> u16 {
    let count = u64::from(PORTS.end - PORTS.start);
    for _ in 0..1000 {
        let port = PORTS.start + u16::try_from(random() % count).expect("fits: below PORTS.end");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("found no free port in {PORTS:?}");
}
