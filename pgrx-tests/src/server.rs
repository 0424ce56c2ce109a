//! An installed PostgreSQL server: where its programs are, which version it is.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::os_user::OsUser;

const DEFAULT_MAJOR: &str = "15";

/// The programs of one installed server and the user that runs them.
#[derive(Clone, Debug)]
pub struct Server {
    bin_dir: PathBuf,
    library_dir: PathBuf,
    version: String,
    major: u32,
    user: OsUser,
}

impl Server {
    /// The server that `PG_CONFIG` names, else Debian's server of major version `PG` (15 when unset).
    ///
    /// # Errors
    /// A text for people that says what is missing and how to get it.
    pub fn find() -> Result<Self, String> {
        match env::var_os("PG_CONFIG").filter(|path| !path.is_empty()) {
            Some(path) => Self::of_pg_config(Path::new(&path)),
            None => {
                let major = env::var("PG")
                    .ok()
                    .filter(|major| !major.is_empty())
                    .unwrap_or_else(|| DEFAULT_MAJOR.to_owned());
                Self::of_pg_config(Path::new(&format!(
                    "/usr/lib/postgresql/{major}/bin/pg_config"
                )))
            }
        }
    }

    /// A server to replicate from, whose version is another one: its programs are in `PUBLISHER_BIN`, in the system whose
    /// root directory is `PUBLISHER_ROOT`, if that is set. None where the environment names none.
    ///
    /// # Errors
    /// A text for people, if there is none where the environment says.
    pub fn publisher() -> Result<Option<Self>, String> {
        let path = |name: &str| {
            env::var_os(name)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        let Some(bin_dir) = path("PUBLISHER_BIN") else {
            return Ok(None);
        };
        let user = OsUser::of_servers_in(path("PUBLISHER_ROOT").as_deref())?;
        let mut server = Self {
            library_dir: bin_dir.join("../lib"),
            version: String::new(),
            major: 0,
            user,
            bin_dir,
        };
        let postgres = server.program("postgres");
        let said = output_of(server.command("postgres").arg("--version")).map_err(|reason| {
            format!(
                "no publisher found: {} --version: {reason}",
                postgres.display()
            )
        })?;
        server.version = said.replacen("postgres (PostgreSQL)", "PostgreSQL", 1);
        server.major = major_of(&server.version)
            .ok_or_else(|| format!("postgres prints no version number: \"{said}\""))?;
        Ok(Some(server))
    }

    /// The server that this `pg_config` belongs to.
    ///
    /// # Errors
    /// As [`Server::find`].
    pub fn of_pg_config(pg_config: &Path) -> Result<Self, String> {
        let ask = |argument: &str| -> Result<String, String> {
            let missing = |reason: String| {
                format!(
                    "no PostgreSQL server found: {} {argument}: {reason}. \
                     Install one (Debian: apt-get install postgresql-{DEFAULT_MAJOR}), \
                     set PG to the major version to use, or PG_CONFIG to the path of its pg_config.",
                    pg_config.display()
                )
            };
            output_of(Command::new(pg_config).arg(argument)).map_err(missing)
        };
        let bin_dir = PathBuf::from(ask("--bindir")?);
        let version = ask("--version")?;
        let server = Self {
            major: major_of(&version)
                .ok_or_else(|| format!("pg_config prints no version number: \"{version}\""))?,
            library_dir: PathBuf::from(ask("--pkglibdir")?),
            version,
            user: OsUser::of_servers()?,
            bin_dir,
        };
        // pg_config also comes with a client's development package, without a server.
        for program in ["postgres", "initdb", "pg_ctl"] {
            if !server.program(program).is_file() {
                return Err(format!(
                    "no PostgreSQL server found: {} is missing. Debian: apt-get install postgresql-{}",
                    server.program(program).display(),
                    server.major
                ));
            }
        }
        Ok(server)
    }

    pub fn major(&self) -> u32 {
        self.major
    }

    /// Version and package revision, for example `PostgreSQL 15.20 (Debian 15.20-0+deb12u1)`.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn user(&self) -> &OsUser {
        &self.user
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    /// One of the server's programs, to be run as the servers' user.
    pub fn command(&self, program: &str) -> Command {
        self.command_of(&self.program(program))
    }

    /// A program that may start those of the server, likewise.
    pub(crate) fn command_of(&self, program: &Path) -> Command {
        let mut command = self.user.command(program);
        // A server that no package has installed brings its libraries along.
        let libraries = self.bin_dir.join("../lib");
        if libraries.join("libpq.so.5").exists() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    /// Whether a library that can be preloaded or loaded by an extension is installed.
    pub fn has_library(&self, name: &str) -> bool {
        self.library_dir.join(format!("{name}.so")).is_file()
    }
}

/// What a program prints, without the end of its line; its failure as a text for people.
fn output_of(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stderr),
            output.status
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `PostgreSQL 15.20 (Debian …)`, `PostgreSQL 19beta1` → 15, 19.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(1)?;
    let end = number
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(number.len());
    number[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn major_version_of_releases_and_betas() {
        assert_eq!(
            major_of("PostgreSQL 15.20 (Debian 15.20-0+deb12u1)"),
            Some(15)
        );
        assert_eq!(major_of("PostgreSQL 19beta1"), Some(19));
        assert_eq!(major_of("PostgreSQL"), None);
    }
}
