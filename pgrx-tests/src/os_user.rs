//! The operating system's user that runs the servers: `postgres` when we are root, because PostgreSQL refuses to run as
//! root, and ourselves otherwise.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

/// Who runs the servers, and owns their files.
#[derive(Clone, Debug)]
pub struct OsUser {
    name: String,
    uid: u32,
    gid: u32,
    /// True when we are root and each program has to be started as another user.
    switch: bool,
    /// The root directory of the system in which the programs are, unless it is this one.
    root: Option<PathBuf>,
}

impl OsUser {
    /// # Errors
    /// A text for people, when we are root and there is no user `postgres`.
    pub fn of_servers() -> Result<Self, String> {
        Self::of_servers_in(None)
    }

    /// `root`: the root directory of another system that shares the temporary directory with this one. Its users have
    /// other numbers.
    ///
    /// # Errors
    /// As [`OsUser::of_servers`], and when there is another system and we are not root.
    pub(crate) fn of_servers_in(root: Option<&Path>) -> Result<Self, String> {
        let id = |arguments: &[&str]| id(root, arguments);
        if self::id(None, &["-u"])? != "0" {
            if let Some(root) = root {
                return Err(format!("only root can run a program in {}", root.display()));
            }
            return Ok(Self {
                name: id(&["-un"])?,
                uid: number(&id(&["-u"])?)?,
                gid: number(&id(&["-g"])?)?,
                switch: false,
                root: None,
            });
        }
        let missing = |error| {
            format!(
                "PostgreSQL refuses to run as root, and there is no user postgres to run it as ({error}). \
                 Debian's postgresql package creates one; or run this as an ordinary user."
            )
        };
        Ok(Self {
            name: "postgres".to_owned(),
            uid: number(&id(&["-u", "postgres"]).map_err(missing)?)?,
            gid: number(&id(&["-g", "postgres"]).map_err(missing)?)?,
            switch: true,
            root: root.map(Path::to_owned),
        })
    }

    /// A command that runs as this user and is the program itself, not a wrapper, so that its pid is the program's.
    /// It inherits none of the caller's `PG…` variables, which libpq in the servers would obey, and none that make
    /// pgrx put a backtrace into an error's detail. The caller's home is closed to this user, and libpq looks for
    /// certificates there.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match &self.root {
            None => Command::new(program),
            Some(root) => {
                let mut command = Command::new("chroot");
                command
                    .arg(format!("--userspec={}:{}", self.uid, self.gid))
                    .arg(root)
                    .arg(program);
                command
            }
        };
        // The caller's directory may be closed to this user, and programs complain about that.
        command.current_dir("/").env("LC_ALL", "C");
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("PG") || text.ends_with("_BACKTRACE") {
                command.env_remove(name);
            }
        }
        if self.switch {
            command.env_remove("HOME");
        }
        // chroot itself needs root's rights.
        if self.switch && self.root.is_none() {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// What a person types before a command that has to run as this user: empty, or ends with a space.
    pub fn shell_prefix(&self) -> String {
        if self.switch {
            format!("runuser -u {} -- ", self.name)
        } else {
            String::new()
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Makes this user the owner of a file that we created.
    pub(crate) fn own(&self, path: &Path) -> io::Result<()> {
        if self.switch {
            std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))?;
        }
        Ok(())
    }
}

/// `id` asks every source of users that the system knows, not only `/etc/passwd`.
fn id(root: Option<&Path>, arguments: &[&str]) -> Result<String, String> {
    let mut command = match root {
        None => Command::new("id"),
        Some(root) => {
            let mut command = Command::new("chroot");
            command.arg(root).arg("id");
            command
        }
    };
    let output = command
        .args(arguments)
        .output()
        .map_err(|error| format!("could not run id: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn number(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| format!("id printed \"{text}\" where a number was expected"))
}
