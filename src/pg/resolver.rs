//! Waiting for the system's resolver without standing still: libpq looks up host names by itself and waits for the answer,
//! which may take half a minute when no name server answers. So a thread asks first, and libpq is not called before there is
//! an answer.

use super::libpq::Keyword;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;

/// A look-up that is under way in a thread of its own, which calls nothing of the server and receives no signals.
pub(crate) struct Lookup(UnixStream);

impl Lookup {
    /// `None` if no thread can be started.
    pub(crate) fn start(hosts: Vec<String>) -> Option<Self> {
        let (ours, mut theirs) = UnixStream::pair().ok()?;
        ours.set_nonblocking(true).ok()?;
        let look_up = move || {
            let failures: Vec<String> = hosts
                .iter()
                .filter_map(|host| {
                    let outcome = (host.as_str(), 0).to_socket_addrs();
                    let error = outcome.err()?;
                    Some(format!("could not look up host \"{host}\": {error}"))
                })
                .collect();
            if failures.len() == hosts.len() {
                // Nobody listens any more if it was given up.
                let _ = theirs.write_all(failures.join("; ").as_bytes());
            }
            // The other end becomes readable when this one is closed.
            drop(theirs);
        };
        without_signals(|| thread::Builder::new().spawn(look_up)).ok()?;
        Some(Self(ours))
    }

    /// Becomes readable when the look-up is over.
    pub(crate) fn socket(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// `None`: not over yet. An error: not one of the hosts was found.
    pub(crate) fn result(&self) -> Option<Result<(), String>> {
        let mut message = [0; 1024];
        let length = (&self.0).read(&mut message).ok()?;
        Some(match &message[..length] {
            [] => Ok(()),
            text => Err(String::from_utf8_lossy(text).into_owned()),
        })
    }
}

/// The hosts of a connection string that have to be looked up. (Those that a service file names are not known here.)
pub(crate) fn hosts_to_look_up(keywords: &[Keyword]) -> Vec<String> {
    let value = |name| {
        let keyword = keywords.iter().find(|one| one.name == name);
        keyword.map_or("", |one| one.value.as_str())
    };
    if !value("hostaddr").is_empty() {
        return Vec::new();
    }
    let hosts = value("host").split(',').map(str::trim);
    hosts
        .filter(|host| !host.is_empty() && !host.starts_with(['/', '@']))
        .filter(|host| host.parse::<IpAddr>().is_err())
        .map(str::to_owned)
        .collect()
}

/// A thread inherits which signals are blocked from whoever starts it, and the server's signal handlers must run in the
/// main thread only.
fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: both sets are written before they are read; the mask of this thread is put back below.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    let started = start();
    // SAFETY: as it was before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(pairs: &[(&str, &str)]) -> Vec<String> {
        let keywords: Vec<Keyword> = pairs
            .iter()
            .map(|(name, value)| Keyword {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
                is_secret: false,
            })
            .collect();
        hosts_to_look_up(&keywords)
    }

    #[test]
    fn addresses_and_sockets_need_no_resolver() {
        let list = "10.0.0.1,db.example,/tmp,@abstract,::1, other.example,";
        assert_eq!(hosts(&[("host", list)]), ["db.example", "other.example"]);
        assert!(hosts(&[("host", "db.example"), ("hostaddr", "10.0.0.1")]).is_empty());
        assert!(hosts(&[("dbname", "shop")]).is_empty());
    }

    /// What comes of looking up a host.
    fn wait_for(host: &str) -> Result<(), String> {
        let lookup = Lookup::start(vec![host.to_owned()]);
        let lookup = lookup.unwrap_or_else(|| unreachable!("a thread can be started"));
        let begun = std::time::Instant::now();
        loop {
            if let Some(result) = lookup.result() {
                return result;
            }
            assert!(begun.elapsed().as_secs() < 120);
            thread::yield_now();
        }
    }

    #[test]
    fn look_up_comes_to_an_end() {
        assert_eq!(wait_for("localhost"), Ok(()));
        let failed = wait_for("no such host");
        assert!(failed.is_err_and(|text| text.contains("\"no such host\"")));
    }
}
