//! A database of its own for each test of what happens on one server, all of them on one cluster.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use postgres::error::DbError;
use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use replwarden_tests::Cluster;

/// Roles of the shared cluster, without any rights but those of PUBLIC.
pub(crate) const OWNER: &str = "table_owner";
pub(crate) const STRANGER: &str = "stranger";

const LOG_LINES: usize = 20;

/// A static is never dropped: the cluster's janitor removes it when this process ends.
static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
    let cluster = Cluster::builder("local").start();
    cluster.execute(
        "postgres",
        &format!("create role {OWNER} login; create role {STRANGER} login"),
    );
    cluster
});

static COUNT: AtomicU32 = AtomicU32::new(1);

/// A database that is gone when this is dropped.
pub(crate) struct Database {
    name: String,
}

impl Database {
    /// With the extension, where everybody may create tables.
    #[track_caller]
    pub(crate) fn new() -> Self {
        let database = Self::without_extension();
        database.run("create extension replwarden; grant all on schema public to public");
        database
    }

    #[track_caller]
    pub(crate) fn without_extension() -> Self {
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        CLUSTER.execute("postgres", &format!("create database {name}"));
        Self { name }
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
        &CLUSTER
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        CLUSTER.connect(&self.name)
    }

    /// Runs statements. Several in one text are one transaction.
    #[track_caller]
    pub(crate) fn run(&self, sql: &str) {
        CLUSTER.execute(&self.name, sql);
    }

    /// Runs statements as another role than the superuser.
    #[track_caller]
    pub(crate) fn run_as(&self, role: &str, sql: &str) {
        self.run(&format!("set role {role}; {sql}"));
    }

    /// Runs a statement that has to fail.
    #[track_caller]
    pub(crate) fn error(&self, sql: &str) -> DbError {
        CLUSTER.expect_error(&self.name, sql)
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
            .port(CLUSTER.port())
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
            let log = CLUSTER.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            eprintln!("--- the end of the shared cluster's log:\n{end}");
        }
        if let Ok(mut client) = CLUSTER.try_connect("postgres") {
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
