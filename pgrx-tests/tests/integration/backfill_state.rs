//! What `repl_backfills` says, and waiting until it says something.

use postgres::Client;
use postgres::error::SqlState;
use replwarden_tests::{Cluster, DEFAULT_DEADLINE, wait_for_value};

/// The table `item (id, a, b, pad)` with 7000 rows on 1000 pages, so that no small batch takes them all. None of them
/// is as the rule `a * 2` for column b would have it.
pub(crate) const LARGE_ITEM: &str = "
    create table item (id int primary key, a int, b int, pad text);
    alter table item alter pad set storage plain;
    insert into item select n, n, 0, repeat('x', 1000) from generate_series(1, 7000) n;";

/// Our settings with their defaults. ALTER SYSTEM knows a setting of a library that is not preloaded only where it is
/// in the configuration file already, or after LOAD.
pub(crate) const DEFAULTS: [(&str, &str); 3] = [
    ("replwarden.backfill_batch_time", "200ms"),
    ("replwarden.backfill_delay", "0"),
    ("replwarden.max_backfill_workers", "2"),
];

/// The backfills of a database.
#[derive(Clone, Copy)]
pub(crate) struct Backfills<'a> {
    cluster: &'a Cluster,
    database: &'a str,
}

/// A row of `repl_backfills`.
#[derive(Clone, Debug)]
pub(crate) struct Backfill {
    pub(crate) id: i64,
    pub(crate) state: String,
    pub(crate) blocks_total: i64,
    pub(crate) blocks_done: i64,
    pub(crate) rows_changed: i64,
    pub(crate) error: Option<String>,
}

impl Backfill {
    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.state.as_str(), "queued" | "running")
    }

    /// Some batch has been committed and some has not. One of a millisecond may end within the first block.
    pub(crate) fn is_in_the_middle(&self) -> bool {
        let has_begun = self.blocks_done > 0 || self.rows_changed > 0;
        self.state == "running" && has_begun && self.blocks_done < self.blocks_total
    }

    /// The text of its error, empty if there is none.
    pub(crate) fn error(&self) -> &str {
        self.error.as_deref().unwrap_or_default()
    }
}

impl<'a> Backfills<'a> {
    pub(crate) fn of(cluster: &'a Cluster, database: &'a str) -> Self {
        Self { cluster, database }
    }

    /// Runs a query that returns the id of a new backfill.
    #[track_caller]
    pub(crate) fn queue(self, sql: &str) -> i64 {
        self.cluster
            .query_one_value::<Option<i64>>(self.database, sql)
            .unwrap_or_else(|| panic!("no backfill came of: {sql}"))
    }

    /// All of them, the oldest first. None while the server is down or restarts after a crash.
    #[track_caller]
    fn try_all(self) -> Option<Vec<Backfill>> {
        let mut client = self.cluster.try_connect(self.database).ok()?;
        match read(&mut client) {
            Ok(backfills) => Some(backfills),
            Err(error) if ended_with_the_server(&error) => None,
            Err(error) => match error.as_db_error() {
                Some(answer) => panic!("repl_backfills: {answer:?}"),
                None => panic!("repl_backfills: {error}"),
            },
        }
    }

    /// All of them, the oldest first.
    #[track_caller]
    pub(crate) fn all(self) -> Vec<Backfill> {
        self.try_all().expect("the server is up")
    }

    #[track_caller]
    pub(crate) fn get(self, id: i64) -> Backfill {
        find(&self.all(), id)
    }

    /// Waits until a backfill is as `accept` wants it, also while the server restarts. `what` completes the sentence
    /// "waited in vain until backfill 7 …".
    #[track_caller]
    pub(crate) fn wait_for(
        self,
        id: i64,
        what: &str,
        accept: impl Fn(&Backfill) -> bool,
    ) -> Backfill {
        wait_for_value(
            &format!("backfill {id} {what}"),
            DEFAULT_DEADLINE,
            || self.try_all().map(|all| find(&all, id)),
            |seen| seen.as_ref().is_some_and(&accept),
        )
        .expect("accepted as some")
    }

    #[track_caller]
    pub(crate) fn wait_in_the_middle(self, id: i64) -> Backfill {
        self.wait_for(id, "is in the middle", |backfill| {
            assert!(!backfill.has_ended(), "it has ended: {backfill:?}");
            backfill.is_in_the_middle()
        })
    }

    /// Waits until it is done, cancelled or failed.
    #[track_caller]
    pub(crate) fn wait_ended(self, id: i64) -> Backfill {
        self.wait_for(id, "has ended", Backfill::has_ended)
    }

    /// Waits until it has ended, which must be well, and returns it.
    #[track_caller]
    pub(crate) fn wait_done_with(self, id: i64) -> Backfill {
        let ended = self.wait_ended(id);
        assert_eq!(ended.state, "done", "{ended:?}");
        ended
    }

    /// Waits until it has failed.
    #[track_caller]
    pub(crate) fn wait_failed(self, id: i64) -> Backfill {
        let ended = self.wait_ended(id);
        assert_eq!(ended.state, "failed", "{ended:?}");
        ended
    }

    /// Waits until none is queued or running. That the last one of a table has failed is a panic.
    #[track_caller]
    pub(crate) fn wait_done(self) {
        wait_for_value(
            "no backfill is queued or running",
            DEFAULT_DEADLINE,
            || self.try_all(),
            |seen| {
                seen.as_ref()
                    .is_some_and(|all| all.iter().all(Backfill::has_ended))
            },
        );
        let schema = schema(&mut self.cluster.connect(self.database)).expect("the server is up");
        let failed = self.cluster.rows_text(
            self.database,
            &format!(
                "select id, relation, error from {schema}.repl_backfills b
                  where state = 'failed' and not exists
                        (select from {schema}.repl_backfills later
                          where later.relation = b.relation and later.id > b.id)"
            ),
        );
        assert!(failed.is_empty(), "failed backfills: {failed:?}");
    }

    /// Writes the WAL of all that has been committed. A worker does not wait for that when it commits a batch, and what a
    /// crash takes from it, it does again.
    #[track_caller]
    pub(crate) fn flush(self) {
        // A commit that waits flushes what others have committed before.
        self.cluster
            .execute(self.database, "create table flushed (); drop table flushed");
    }

    /// The process ids of the workers that are at backfills of this database.
    #[track_caller]
    pub(crate) fn worker_pids(self) -> Vec<i32> {
        self.cluster
            .connect(self.database)
            .query(
                "select pid from pg_stat_activity
                  where backend_type = 'replwarden backfill' and datname = current_database()",
                &[],
            )
            .expect("pg_stat_activity can be read")
            .iter()
            .map(|row| row.get(0))
            .collect()
    }

    /// Waits until no worker is at a backfill of this database.
    #[track_caller]
    pub(crate) fn wait_no_worker(self) {
        wait_for_value(
            &format!("no backfill worker is left in {}", self.database),
            DEFAULT_DEADLINE,
            || self.worker_pids(),
            Vec::is_empty,
        );
    }
}

#[track_caller]
fn find(all: &[Backfill], id: i64) -> Backfill {
    let found = all.iter().find(|backfill| backfill.id == id);
    found
        .unwrap_or_else(|| panic!("there is no backfill {id}: {all:?}"))
        .clone()
}

/// The schema that the extension is in, quoted.
fn schema(client: &mut Client) -> Result<String, postgres::Error> {
    client
        .query_one(
            "select quote_ident(nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
              where extname = 'replwarden'",
            &[],
        )?
        .try_get(0)
}

fn read(client: &mut Client) -> Result<Vec<Backfill>, postgres::Error> {
    let schema = schema(client)?;
    let rows = client.query(
        &format!(
            "select id, state, blocks_total, blocks_done, rows_changed, error
               from {schema}.repl_backfills order by id"
        ),
        &[],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Backfill {
                id: row.try_get("id")?,
                state: row.try_get("state")?,
                blocks_total: row.try_get("blocks_total")?,
                blocks_done: row.try_get("blocks_done")?,
                rows_changed: row.try_get("rows_changed")?,
                error: row.try_get("error")?,
            })
        })
        .collect()
}

/// Whether a statement failed because its session did.
fn ended_with_the_server(error: &postgres::Error) -> bool {
    error.is_closed()
        || matches!(
            error.code(),
            Some(&SqlState::ADMIN_SHUTDOWN | &SqlState::CRASH_SHUTDOWN)
        )
        || error.as_db_error().is_none()
            && std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>())
}
