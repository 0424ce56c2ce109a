//! A database of its own for each test of what happens on one server, nearly all of them on one cluster.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use postgres::error::DbError;
use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use replwarden_tests::Cluster;

use crate::backfill_state::Backfills;

/// Roles of the shared cluster, without any rights but those of PUBLIC.
pub(crate) const OWNER: &str = "table_owner";
pub(crate) const STRANGER: &str = "stranger";

const LOG_LINES: usize = 20;

/// A static is never dropped: the cluster's janitor removes it when this process ends. It does not preload the library.
static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| shared("local", &[]));

/// Another one, on which backfills are queued and nobody works on them.
static PAUSED: LazyLock<Cluster> =
    LazyLock::new(|| shared("paused", &[("replwarden.max_backfill_workers", "0")]));

/// Another one, on which backfills take a row or a block at a time.
static SMALL_BATCHES: LazyLock<Cluster> =
    LazyLock::new(|| shared("small-batches", &[("replwarden.backfill_batch_time", "1")]));

/// Another one, on which backfills stop for a minute after each small batch.
static SLOW: LazyLock<Cluster> = LazyLock::new(|| {
    shared(
        "slow",
        &[
            ("replwarden.backfill_batch_time", "3"),
            ("replwarden.backfill_delay", "60000"),
        ],
    )
});

fn shared(name: &str, settings: &[(&str, &str)]) -> Cluster {
    // Each database may have a backfill at work.
    let mut builder = Cluster::builder(name)
        .setting("max_worker_processes", "64")
        .setting("max_prepared_transactions", "20");
    for (setting, value) in settings {
        builder = builder.setting(setting, value);
    }
    let cluster = builder.start();
    create_roles(&cluster);
    cluster
}

#[track_caller]
pub(crate) fn create_roles(cluster: &Cluster) {
    cluster.execute(
        "postgres",
        &format!("create role {OWNER} login; create role {STRANGER} login"),
    );
}

static COUNT: AtomicU32 = AtomicU32::new(1);

/// A database that is gone when this is dropped.
pub(crate) struct Database {
    name: String,
    cluster: &'static Cluster,
}

impl Database {
    /// With the extension, where everybody may create tables.
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self::on(&CLUSTER)
    }

    /// As [`Database::new`], where backfills are queued and nobody works on them.
    #[track_caller]
    pub(crate) fn paused() -> Self {
        Self::on(&PAUSED)
    }

    /// As [`Database::new`], where a batch of a backfill is as small as it can be.
    #[track_caller]
    pub(crate) fn with_small_batches() -> Self {
        Self::on(&SMALL_BATCHES)
    }

    /// As [`Database::new`], where backfills stop for a minute after each small batch.
    #[track_caller]
    pub(crate) fn slow() -> Self {
        Self::on(&SLOW)
    }

    #[track_caller]
    fn on(cluster: &'static Cluster) -> Self {
        let database = Self::create(cluster);
        database.run("create extension replwarden; grant all on schema public to public");
        database
    }

    #[track_caller]
    pub(crate) fn without_extension() -> Self {
        Self::create(&CLUSTER)
    }

    #[track_caller]
    fn create(cluster: &'static Cluster) -> Self {
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        cluster.execute("postgres", &format!("create database {name}"));
        Self { name, cluster }
    }

    /// With the table `item (id, a, b)`, whose column b is twice a.
    #[track_caller]
    pub(crate) fn with_item() -> Self {
        let database = Self::new();
        database.run(
            "create table item (id int primary key, a int, b int);
             select repl_set_expression('item', 'b', 'a * 2')",
        );
        database
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it shares with the other tests.
    pub(crate) fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// Its backfills.
    pub(crate) fn backfills(&self) -> Backfills<'_> {
        Backfills::of(self.cluster, &self.name)
    }

    /// Waits until no backfill is queued or running; one that has failed is a panic.
    #[track_caller]
    pub(crate) fn backfilled(&self) {
        self.backfills().wait_done();
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        self.cluster.connect(&self.name)
    }

    /// Runs statements. Several in one text are one transaction.
    #[track_caller]
    pub(crate) fn run(&self, sql: &str) {
        self.cluster.execute(&self.name, sql);
    }

    /// Runs statements as another role than the superuser.
    #[track_caller]
    pub(crate) fn run_as(&self, role: &str, sql: &str) {
        self.run(&format!("set role {role}; {sql}"));
    }

    /// Runs a statement that has to fail.
    #[track_caller]
    pub(crate) fn error(&self, sql: &str) -> DbError {
        self.cluster.expect_error(&self.name, sql)
    }

    #[track_caller]
    pub(crate) fn lines(&self, sql: &str) -> Vec<String> {
        lines(&mut self.connect(), sql)
    }

    /// Runs statements and returns the warnings that came.
    #[track_caller]
    pub(crate) fn warnings(&self, sql: &str) -> Vec<DbError> {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        let mut client = Config::new()
            .host("127.0.0.1")
            .port(self.cluster.port())
            .user("postgres")
            .dbname(&self.name)
            .notice_callback(move |notice| {
                if notice.severity() == "WARNING" {
                    ears.lock().expect("no test panics here").push(notice);
                }
            })
            .connect(NoTls)
            .expect("the cluster accepts connections");
        client.batch_execute(sql).expect(sql);
        drop(client);
        heard.lock().expect("no test panics here").clone()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.cluster.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            eprintln!("--- the end of the cluster's log:\n{end}");
        }
        if let Ok(mut client) = self.cluster.try_connect("postgres") {
            let _ = client.batch_execute(&format!("drop database {} with (force)", self.name));
        }
    }
}

/// A query's rows as `psql -At` prints them, NULL as `NULL`. Of several statements, the rows of all.
#[track_caller]
pub(crate) fn lines(client: &mut Client, sql: &str) -> Vec<String> {
    let answer = client
        .simple_query(sql)
        .unwrap_or_else(|error| match error.as_db_error() {
            Some(answer) => panic!("{answer}\n  in: {sql}"),
            None => panic!("{error}\n  in: {sql}"),
        });
    answer
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let values: Vec<&str> = (0..row.len())
                    .map(|column| row.get(column).unwrap_or("NULL"))
                    .collect();
                Some(values.join("|"))
            }
            _ => None,
        })
        .collect()
}
