//! The machine, the versions and the settings that figures belong to.

use std::fs;
use std::process::Command;
use std::thread;

use replwarden_tests::Cluster;

/// The settings that matter for the figures, as the servers have them.
const SETTINGS: &[&str] = &[
    "shared_buffers",
    "wal_level",
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "autovacuum",
    "max_wal_size",
    "checkpoint_timeout",
    "logical_decoding_work_mem",
    "jit",
    "shared_preload_libraries",
];

/// From here on, something else was at work when the benchmark began, if only its own build.
const BUSY: f64 = 1.0;

pub(crate) struct Environment {
    lines: Vec<String>,
}

/// Of the last minute.
pub(crate) fn load_average() -> Result<f64, String> {
    let text = read("/proc/loadavg")?;
    text.split_whitespace()
        .next()
        .and_then(|load| load.parse().ok())
        .ok_or_else(|| format!("/proc/loadavg: {text}"))
}

impl Environment {
    /// `load` is the load average from before the benchmark, `publisher` the other server where there is one.
    pub(crate) fn look(
        server: &Cluster,
        publisher: Option<&Cluster>,
        load: f64,
    ) -> Result<Self, String> {
        let extension: String = server.query_one_value(
            "postgres",
            "select default_version from pg_available_extensions where name = 'replwarden'",
        );
        let settings = settings_of(server);
        let whose = match publisher.map(settings_of) {
            None => "server",
            Some(of_publisher) if of_publisher == settings => "servers",
            Some(_) => "subscriber",
        };
        let busy = if load < BUSY {
            ""
        } else {
            ": the machine was not idle, so take the figures as noisy"
        };
        Ok(Self {
            lines: vec![
                format!("{}, replwarden {extension}", server.server().version()),
                format!(
                    "{}, {} CPUs, {}, Linux {}, data directories on {}",
                    cpu_model()?,
                    thread::available_parallelism().map_err(|error| error.to_string())?,
                    memory()?,
                    read("/proc/sys/kernel/osrelease")?.trim(),
                    file_system(server)?
                ),
                format!("Load average of the minute before: {load:.2}{busy}"),
                format!("Settings of the {whose}: {settings}"),
            ],
        })
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

fn settings_of(cluster: &Cluster) -> String {
    SETTINGS
        .iter()
        .map(|name| {
            let value: String =
                cluster.query_one_value("postgres", &format!("select current_setting('{name}')"));
            format!("{name} = {value}")
        })
        .collect::<Vec<_>>()
        .join(", ")
}

fn cpu_model() -> Result<String, String> {
    Ok(field(&read("/proc/cpuinfo")?, "model name")
        .unwrap_or("unknown CPU")
        .to_owned())
}

fn memory() -> Result<String, String> {
    let text = read("/proc/meminfo")?;
    let kilobytes: f64 = field(&text, "MemTotal")
        .and_then(|value| value.split_whitespace().next())
        .and_then(|value| value.parse().ok())
        .ok_or("/proc/meminfo has no MemTotal")?;
    Ok(format!("{:.0} GB of memory", kilobytes / 1024.0 / 1024.0))
}

fn file_system(cluster: &Cluster) -> Result<String, String> {
    let output = Command::new("stat")
        .args(["-f", "-c", "%T"])
        .arg(cluster.data_directory())
        .output()
        .map_err(|error| format!("could not run stat: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The value of a line `name : value`, the first of that name.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}
