//! What the views of the status say of a pair whose subscriber watches it, and waiting until they say something.

use std::fmt;

use postgres::{Client, SimpleQueryMessage};
use replwarden_tests::{
    Cluster, DEFAULT_DEADLINE, Pair, PairBuilder, Provider, Publication, SUBSCRIPTION,
    wait_for_value,
};

use crate::database::lines;

/// A pair whose subscriber preloads replwarden and looks often. Its `start` creates no extension.
pub(crate) fn builder(provider: Provider) -> PairBuilder {
    Pair::builder(provider)
        .subscriber_setting("shared_preload_libraries", "replwarden")
        .subscriber_setting("replwarden.watch_interval", "200ms")
}

/// As [`builder`], started, with the extension on the subscriber. Nothing is published yet.
pub(crate) fn pair(provider: Provider) -> Pair {
    let pair = builder(provider).start();
    pair.on_subscriber("create extension replwarden");
    pair
}

/// A pair with the table `item (id, note)` on both sides, published, and the extension on the subscriber.
#[track_caller]
pub(crate) fn with_item(pair: Pair) -> Pair {
    pair.on_both("create table item (id int primary key, note text)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item"));
    pair
}

/// As [`with_item`], subscribed; the rows 1 and 2 are copied and no more is to come.
#[track_caller]
pub(crate) fn streaming(pair: Pair) -> Pair {
    let pair = with_item(pair);
    pair.on_publisher("insert into item values (1), (2)");
    pair.subscribe();
    pair.wait_copied();
    pair.wait_caught_up();
    pair
}

/// The columns of a row by name, as `psql` prints their values.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Row(Vec<(String, Option<String>)>);

impl Row {
    /// None for NULL. A column that the row does not have is a panic.
    #[track_caller]
    pub(crate) fn get(&self, column: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == column)
            .unwrap_or_else(|| panic!("no column {column} in {self:?}"))
            .1
            .as_deref()
    }

    /// A value that may not be NULL.
    #[track_caller]
    pub(crate) fn text(&self, column: &str) -> &str {
        self.get(column)
            .unwrap_or_else(|| panic!("{column} is NULL in {self:?}"))
    }

    #[track_caller]
    pub(crate) fn number(&self, column: &str) -> f64 {
        let text = self.text(column);
        text.parse()
            .unwrap_or_else(|_| panic!("{column} is no number in {self:?}"))
    }

    #[track_caller]
    pub(crate) fn is(&self, column: &str, value: &str) -> bool {
        self.get(column) == Some(value)
    }

    #[track_caller]
    pub(crate) fn is_null(&self, column: &str) -> bool {
        self.get(column).is_none()
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_map()
            .entries(
                self.0
                    .iter()
                    .filter_map(|(name, value)| Some((name, value.as_ref()?))),
            )
            .finish()
    }
}

/// The status of one database.
#[derive(Clone, Copy)]
pub(crate) struct Status<'a> {
    cluster: &'a Cluster,
    database: &'a str,
}

impl<'a> Status<'a> {
    /// That of the pair's subscriber.
    pub(crate) fn of(pair: &'a Pair) -> Self {
        Self::on(pair.subscriber(), pair.database())
    }

    pub(crate) fn on(cluster: &'a Cluster, database: &'a str) -> Self {
        Self { cluster, database }
    }

    #[track_caller]
    pub(crate) fn rows(self, sql: &str) -> Vec<Row> {
        read(&mut self.cluster.connect(self.database), sql)
    }

    #[track_caller]
    pub(crate) fn subscriptions(self) -> Vec<Row> {
        self.rows("select * from repl_subscriptions order by provider, subscription")
    }

    #[track_caller]
    pub(crate) fn tables(self) -> Vec<Row> {
        self.rows("select * from repl_tables order by provider, subscription, relation_name")
    }

    #[track_caller]
    pub(crate) fn workers(self) -> Vec<Row> {
        self.rows("select * from repl_workers order by provider, subscription, kind, pid")
    }

    /// The lines of `repl_status()`.
    #[track_caller]
    pub(crate) fn report(self) -> Vec<String> {
        lines(
            &mut self.cluster.connect(self.database),
            "select repl_status()",
        )
    }

    /// Waits until the worker of the database has begun to look after now, and is done with it.
    #[track_caller]
    pub(crate) fn wait_looked(self) {
        let looked = || {
            let sql = "select repl_snapshot() #>> '{installation,sampled_at}' as at";
            self.rows(sql).remove(0)
        };
        // What it has seen may be older than what it tells.
        for _ in 0..2 {
            let last = looked();
            wait_for_value(
                &format!("the worker of {} has looked again", self.database),
                DEFAULT_DEADLINE,
                looked,
                |now| !now.is_null("at") && now != &last,
            );
        }
    }

    /// The row of the subscription that [`Pair::subscribe`] makes.
    #[track_caller]
    pub(crate) fn subscription(self) -> Row {
        self.wait_subscription("is there", |_| true)
    }

    /// Waits until the row of the subscription that [`Pair::subscribe`] makes is as `accept` wants it. `what` completes the
    /// sentence "waited in vain until subscription sub …".
    #[track_caller]
    pub(crate) fn wait_subscription(self, what: &str, accept: impl Fn(&Row) -> bool) -> Row {
        self.wait_named(SUBSCRIPTION, what, accept)
    }

    /// As [`Status::wait_subscription`], for a subscription of another name. There must never be two rows of it.
    #[track_caller]
    pub(crate) fn wait_named(self, name: &str, what: &str, accept: impl Fn(&Row) -> bool) -> Row {
        wait_for_value(
            &format!("subscription {name} {what}"),
            DEFAULT_DEADLINE,
            || {
                let rows = self.subscriptions();
                let mut named = rows.into_iter().filter(|row| row.is("subscription", name));
                let row = named.next();
                let second = named.next();
                assert!(second.is_none(), "two rows: {row:?} and {second:?}");
                row
            },
            |seen| seen.as_ref().is_some_and(&accept),
        )
        .expect("accepted as some")
    }

    #[track_caller]
    pub(crate) fn wait_state(self, state: &str) -> Row {
        self.wait_subscription(&format!("is {state}"), |row| row.is("state", state))
    }

    /// `cause` is None for NULL.
    #[track_caller]
    pub(crate) fn wait_cause(self, state: &str, cause: Option<&str>) -> Row {
        self.wait_subscription(&format!("is {state}, cause {cause:?}"), |row| {
            row.is("state", state) && row.get("cause") == cause
        })
    }

    /// Waits until a row of `repl_tables` is as `accept` wants it. `relation_name` is schema-qualified and quoted as needed.
    #[track_caller]
    pub(crate) fn wait_table(
        self,
        relation_name: &str,
        what: &str,
        accept: impl Fn(&Row) -> bool,
    ) -> Row {
        first(
            &format!("repl_tables shows {relation_name} {what}"),
            || self.tables(),
            |row| row.is("relation_name", relation_name) && accept(row),
        )
    }

    #[track_caller]
    pub(crate) fn wait_table_state(self, relation_name: &str, state: &str) -> Row {
        self.wait_table(relation_name, &format!("as {state}"), |row| {
            row.is("state", state)
        })
    }

    /// Waits until a row of `repl_workers` is as `accept` wants it.
    #[track_caller]
    pub(crate) fn wait_worker(self, kind: &str, what: &str, accept: impl Fn(&Row) -> bool) -> Row {
        first(
            &format!("repl_workers shows a worker of kind {kind} {what}"),
            || self.workers(),
            |row| row.is("kind", kind) && accept(row),
        )
    }
}

#[track_caller]
fn first(what: &str, observe: impl FnMut() -> Vec<Row>, accept: impl Fn(&Row) -> bool) -> Row {
    wait_for_value(what, DEFAULT_DEADLINE, observe, |rows| {
        rows.iter().any(&accept)
    })
    .into_iter()
    .find(|row| accept(row))
    .expect("accepted")
}

/// A query's rows with the names of their columns.
#[track_caller]
pub(crate) fn read(client: &mut Client, sql: &str) -> Vec<Row> {
    let answer = client
        .simple_query(sql)
        .unwrap_or_else(|error| match error.as_db_error() {
            Some(answer) => panic!("{answer:?}\n  in: {sql}"),
            None => panic!("{error}\n  in: {sql}"),
        });
    answer
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(Row(row
                .columns()
                .iter()
                .enumerate()
                .map(|(index, column)| {
                    (column.name().to_owned(), row.get(index).map(str::to_owned))
                })
                .collect())),
            _ => None,
        })
        .collect()
}

/// A session that holds a lock on a table until it is dropped.
pub(crate) struct Lock {
    pub(crate) pid: String,
    _session: Client,
}

impl Lock {
    /// `mode` as in LOCK TABLE: `row exclusive` holds up neither a copy nor apply, `share row exclusive` both of them.
    #[track_caller]
    pub(crate) fn take(cluster: &Cluster, database: &str, table: &str, mode: &str) -> Self {
        let mut session = cluster.connect(database);
        session
            .batch_execute(&format!("begin; lock table {table} in {mode} mode"))
            .unwrap_or_else(|error| panic!("lock table {table}: {error}"));
        let pid = lines(&mut session, "select pg_backend_pid()").remove(0);
        Self {
            pid,
            _session: session,
        }
    }

    /// One that holds up whoever writes to a table of the pair's subscriber.
    #[track_caller]
    pub(crate) fn on_subscriber(pair: &Pair, table: &str) -> Self {
        Self::take(
            pair.subscriber(),
            pair.database(),
            table,
            "share row exclusive",
        )
    }
}
