//! A small process beside each cluster that stops the server and removes its directory when we end without doing so:
//! Ctrl-C, a killed test run, an abort. It waits on a pipe that only closes with us.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::server::Server;

/// `$1` is the data directory, `$2` the cluster's directory, `$3` pg_ctl. End of file means that we are gone.
const SCRIPT: &str = r#"
trap '' INT HUP TERM
if ! read -r _; then
    "$3" stop -D "$1" -m immediate
    rm -rf "$2"
fi
"#;

pub(crate) struct Janitor {
    process: Child,
}

impl Janitor {
    pub(crate) fn watch(server: &Server, directory: &Path, data: &Path) -> Self {
        let process = server
            .command_of(Path::new("/bin/sh"))
            .args(["-c", SCRIPT, "janitor"])
            .arg(data)
            .arg(directory)
            .arg(server.program("pg_ctl"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own, so that a signal for our group leaves it alone.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("could not start the clean-up process /bin/sh: {error}")
            });
        Self { process }
    }

    /// Nothing is left to do: the cluster is gone, or is to stay. Used in clean-up, hence without complaints.
    pub(crate) fn dismiss(&mut self) {
        if let Some(mut pipe) = self.process.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.process.wait();
    }
}
