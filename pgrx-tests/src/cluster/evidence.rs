//! What a failed test leaves behind: the server's log, in `target/test-logs`, and its end on the terminal.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

const TAIL_LINES: usize = 60;

/// Copies the log to `target/test-logs/<test>/<cluster>.log` and prints its end.
pub(super) fn save(cluster: &str, log: &Path) {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let directory = target_directory()
        .join("test-logs")
        .join(thread_name().replace("::", "."));
    let copy = directory.join(format!("{cluster}.log"));
    let saved = fs::create_dir_all(&directory).and_then(|()| fs::write(&copy, &text));
    match saved {
        Ok(()) => eprintln!("--- log of {cluster}, in full in {}:", copy.display()),
        Err(error) => eprintln!(
            "--- log of {cluster} (not saved to {}: {error}):",
            copy.display()
        ),
    }
    eprintln!("{}", tail(&text));
}

pub(super) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// libtest gives each test's thread the test's name.
fn thread_name() -> String {
    thread::current().name().unwrap_or("unnamed").to_owned()
}

fn target_directory() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}
