//! The initdb that all clusters start from: run once per server version and user, then copied. It stays in the system's
//! temporary directory for the next run.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;

use crate::server::Server;

/// Present in a template whose server has the allow-list of output plugins.
const OUTPUT_PLUGIN_LIST_MARK: &str = "has_output_plugin_libraries";

/// Keeps the threads of one process from running initdb at the same time for nothing. Processes do not need it: the
/// first rename wins.
static PREPARING: Mutex<()> = Mutex::new(());

pub(crate) struct Template {
    directory: PathBuf,
}

impl Template {
    pub(crate) fn prepare(server: &Server) -> Self {
        let _guard = PREPARING
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let template = Self {
            directory: temporary_base().join(directory_name(server)),
        };
        if !template.directory.exists() {
            template.create(server);
        }
        // The name is easy to guess, and what is in there will be run.
        let owner = fs::metadata(&template.directory)
            .unwrap_or_else(|error| panic!("{}: {error}", template.directory.display()))
            .uid();
        assert!(
            owner == server.user().uid(),
            "{} belongs to user id {owner}, not to {}: remove it",
            template.directory.display(),
            server.user().name()
        );
        template
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// `output_plugin_libraries` came with minor releases of 2026. A server without it refuses to start with it in its
    /// configuration; a server with it refuses pglogical without it.
    pub(crate) fn has_output_plugin_list(&self) -> bool {
        self.directory.join(OUTPUT_PLUGIN_LIST_MARK).exists()
    }

    fn create(&self, server: &Server) {
        let draft = new_directory(server, "replwarden-initdb");
        let data = draft.join("data");
        run(server
            .command("initdb")
            .args(["-N", "-U", "postgres", "--auth=trust", "--encoding=UTF8"])
            .args(["--locale=C.UTF-8", "-D"])
            .arg(&data));
        let knows_list = server
            .command("postgres")
            .args(["-C", "output_plugin_libraries", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if knows_list {
            let mark = draft.join(OUTPUT_PLUGIN_LIST_MARK);
            fs::write(&mark, "")
                .unwrap_or_else(|error| panic!("could not write {}: {error}", mark.display()));
        }
        if let Err(error) = fs::rename(&draft, &self.directory) {
            let _ = fs::remove_dir_all(&draft);
            assert!(
                self.directory.exists(),
                "could not rename {} to {}: {error}",
                draft.display(),
                self.directory.display()
            );
        }
    }
}

/// A new directory with an unused name, owned by the servers' user and closed to others.
pub(crate) fn new_directory(server: &Server, prefix: &str) -> PathBuf {
    loop {
        let path = temporary_base().join(format!("{prefix}-{:08x}", random() as u32));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {
                server.user().own(&path).unwrap_or_else(|error| {
                    panic!(
                        "could not give {} to {}: {error}",
                        path.display(),
                        server.user().name()
                    )
                });
                return path;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => panic!("could not create {}: {error}", path.display()),
        }
    }
}

/// Each `RandomState` has other keys, which is all the randomness that names and ports need.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Runs a program to its end and panics with its output when it fails.
pub(crate) fn run(command: &mut std::process::Command) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("could not run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The system's temporary directory, unless its name is so long that the path of a socket in it would exceed the 107
/// bytes that the kernel allows.
fn temporary_base() -> PathBuf {
    const LONGEST: usize = 50;
    let base = std::env::temp_dir();
    if base.as_os_str().len() > LONGEST {
        Path::new("/tmp").to_owned()
    } else {
        base
    }
}

fn directory_name(server: &Server) -> String {
    let version: String = server
        .version()
        .trim_start_matches("PostgreSQL ")
        .chars()
        .map(|character| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' => character,
            _ => '-',
        })
        .collect();
    format!(
        "replwarden-template-{}-{}",
        version.trim_matches('-'),
        server.user().name()
    )
}
