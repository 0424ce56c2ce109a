//! A network between two servers that can stop delivering: what is sent is taken, and nothing comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::cluster::Cluster;

/// How soon a connection notices that the network was frozen, or goes on.
const TICK: Duration = Duration::from_millis(20);

/// More than the first packet of a client takes.
const STARTUP: usize = 4096;

/// A port before that of a cluster. Dropping it closes all its connections.
pub struct Proxy {
    port: u16,
    network: Arc<Network>,
    acceptor: Option<JoinHandle<()>>,
}

struct Network {
    /// The cluster's.
    port: u16,
    frozen: AtomicBool,
    closed: AtomicBool,
    connections: Mutex<Vec<Connection>>,
}

struct Connection {
    /// The first that the client has said, which tells who it is.
    said: Vec<u8>,
    open: bool,
}

impl Proxy {
    /// Passes everything on until it is frozen.
    pub fn before(cluster: &Cluster) -> Self {
        Self::start(cluster, false)
    }

    /// Accepts connections and says nothing until it is thawed.
    pub fn frozen(cluster: &Cluster) -> Self {
        Self::start(cluster, true)
    }

    fn start(cluster: &Cluster, frozen: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let network = Arc::new(Network {
            port: cluster.port(),
            frozen: AtomicBool::new(frozen),
            closed: AtomicBool::new(false),
            connections: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&network);
        let acceptor = thread::spawn(move || shared.accept(&listener));
        Self {
            port,
            network,
            acceptor: Some(acceptor),
        }
    }

    /// libpq's connection string. Without encryption, so that the first packet can be read here.
    pub fn conninfo(&self, database: &str) -> String {
        format!(
            "host=127.0.0.1 port={} user=postgres dbname={database} sslmode=disable gssencmode=disable",
            self.port
        )
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing is delivered, in either direction; nothing is lost.
    pub fn freeze(&self) {
        self.network.frozen.store(true, Ordering::SeqCst);
    }

    pub fn thaw(&self) {
        self.network.frozen.store(false, Ordering::SeqCst);
    }

    /// How many connections a client of this application name has begun.
    pub fn begun_by(&self, application_name: &str) -> usize {
        self.count(application_name, |_| true)
    }

    /// How many of them the client has not closed.
    pub fn held_by(&self, application_name: &str) -> usize {
        self.count(application_name, |connection| connection.open)
    }

    fn count(&self, application_name: &str, accept: impl Fn(&Connection) -> bool) -> usize {
        let startup = format!("application_name\0{application_name}\0");
        self.network.with_connections(|connections| {
            connections
                .iter()
                .filter(|connection| contains(&connection.said, startup.as_bytes()))
                .filter(|connection| accept(connection))
                .count()
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.network.closed.store(true, Ordering::SeqCst);
        // Wakes the acceptor up.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Network {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.is_closed() {
                return;
            }
            let Ok((client, _)) = accepted else { continue };
            let number = self.with_connections(|connections| {
                connections.push(Connection {
                    said: Vec::new(),
                    open: true,
                });
                connections.len() - 1
            });
            let network = Arc::clone(self);
            thread::spawn(move || network.carry_from_client(number, client));
        }
    }

    /// Connects to the cluster when there is something to deliver.
    fn carry_from_client(self: Arc<Self>, number: usize, mut client: TcpStream) {
        let Ok(answers_to) = client.try_clone() else {
            return;
        };
        let mut server = None;
        let listen = |bytes: &[u8]| {
            self.with_connections(|connections| {
                let said = &mut connections[number].said;
                if said.len() < STARTUP {
                    said.extend_from_slice(bytes);
                }
            });
        };
        self.carry(&mut client, listen, |bytes| {
            let mut to = match server.take() {
                Some(server) => server,
                None => self.reach_cluster(&answers_to)?,
            };
            to.write_all(bytes)?;
            server = Some(to);
            Ok(())
        });
        self.with_connections(|connections| connections[number].open = false);
        for stream in [Some(client), server].into_iter().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// A connection whose answers go to the client.
    fn reach_cluster(self: &Arc<Self>, client: &TcpStream) -> io::Result<TcpStream> {
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        let (mut answers, mut client) = (server.try_clone()?, client.try_clone()?);
        let network = Arc::clone(self);
        thread::spawn(move || {
            network.carry(&mut answers, |_| {}, |bytes| client.write_all(bytes));
            let _ = client.shutdown(Shutdown::Both);
        });
        Ok(server)
    }

    /// Reads what comes until the end, and delivers it while the network is not frozen.
    fn carry(
        &self,
        from: &mut TcpStream,
        listen: impl Fn(&[u8]),
        mut deliver: impl FnMut(&[u8]) -> io::Result<()>,
    ) {
        let mut pending = Vec::new();
        let mut buffer = [0; 8192];
        if from.set_read_timeout(Some(TICK)).is_err() {
            return;
        }
        while !self.is_closed() {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    listen(&buffer[..length]);
                    pending.extend_from_slice(&buffer[..length]);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(_) => return,
            }
            if !pending.is_empty() && !self.frozen.load(Ordering::SeqCst) {
                if deliver(&pending).is_err() {
                    return;
                }
                pending.clear();
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn with_connections<T>(&self, use_them: impl FnOnce(&mut Vec<Connection>) -> T) -> T {
        use_them(
            &mut self
                .connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
