//! A publisher and a subscriber with a database of the same name and one subscription between them: native or
//! pglogical.

mod native;
mod pglogical;
mod publication;

use std::sync::Arc;

use postgres_types::PgLsn;

use crate::cluster::{Cluster, ClusterBuilder};
use crate::rows::assert_same_rows;
use crate::server::Server;
use crate::wait::{DEFAULT_DEADLINE, wait_for_value};

pub use publication::Publication;

/// The database on both sides, where a test does not ask for a second one.
const FIRST_DATABASE: &str = "shop";

/// The subscription's name with either provider; natively also the slot's.
pub const SUBSCRIPTION: &str = "sub";

/// The publication's name; pglogical has replication sets instead.
const PUBLICATION: &str = "pub";

const PRELOAD: &str = "shared_preload_libraries";

/// What carries the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// `CREATE PUBLICATION` and `CREATE SUBSCRIPTION`.
    Native,
    /// The extension pglogical 2.4.
    Pglogical,
}

#[derive(Debug)]
pub struct PairBuilder {
    provider: Provider,
    publisher: ClusterBuilder,
    subscriber: ClusterBuilder,
}

impl PairBuilder {
    /// Preloaded libraries are preloaded beside pglogical, where the pair uses it.
    #[must_use]
    pub fn publisher_setting(mut self, name: &str, value: &str) -> Self {
        let value = self.beside_pglogical(name, value);
        self.publisher = self.publisher.setting(name, &value);
        self
    }

    /// As [`PairBuilder::publisher_setting`], for the other side.
    #[must_use]
    pub fn subscriber_setting(mut self, name: &str, value: &str) -> Self {
        let value = self.beside_pglogical(name, value);
        self.subscriber = self.subscriber.setting(name, &value);
        self
    }

    /// Another server than the environment's, for a publisher of another version.
    #[must_use]
    pub fn publisher_server(mut self, server: Server) -> Self {
        self.publisher = self.publisher.server(server);
        self
    }

    /// Starts both clusters, each with the database `shop` and, for pglogical, its node.
    pub fn start(self) -> Pair {
        let pair = Pair {
            provider: self.provider,
            database: FIRST_DATABASE.to_owned(),
            publisher: Arc::new(self.publisher.start()),
            subscriber: Arc::new(self.subscriber.start()),
        };
        pair.create_databases();
        pair
    }

    fn beside_pglogical(&self, name: &str, value: &str) -> String {
        let already_named = value
            .split(',')
            .any(|library| library.trim() == "pglogical");
        if name != PRELOAD || self.provider == Provider::Native || already_named {
            value.to_owned()
        } else {
            format!("pglogical, {value}")
        }
    }
}

/// Two running clusters. Dropping it removes both, unless another pair still uses them.
pub struct Pair {
    provider: Provider,
    database: String,
    // Dropped in this order: a subscriber that outlives its publisher fills its log with failed connections.
    subscriber: Arc<Cluster>,
    publisher: Arc<Cluster>,
}

impl Pair {
    pub fn builder(provider: Provider) -> PairBuilder {
        let mut publisher = Cluster::builder("publisher");
        let mut subscriber = Cluster::builder("subscriber");
        if provider == Provider::Pglogical {
            publisher = publisher.setting(PRELOAD, "pglogical");
            subscriber = subscriber.setting(PRELOAD, "pglogical");
        }
        PairBuilder {
            provider,
            publisher,
            subscriber,
        }
    }

    pub fn start(provider: Provider) -> Self {
        Self::builder(provider).start()
    }

    /// A second pair on the same two clusters, in a new database. For pglogical they must preload it, and natively there
    /// can be one pair only, because the slot's name is the subscription's.
    #[must_use]
    #[track_caller]
    pub fn beside(&self, provider: Provider, database: &str) -> Self {
        let pair = Self {
            provider,
            database: database.to_owned(),
            publisher: Arc::clone(&self.publisher),
            subscriber: Arc::clone(&self.subscriber),
        };
        pair.create_databases();
        pair
    }

    #[track_caller]
    fn create_databases(&self) {
        for cluster in [&self.publisher, &self.subscriber] {
            cluster.execute("postgres", &format!("create database {}", self.database));
        }
        if self.provider == Provider::Pglogical {
            pglogical::create_nodes(self);
        }
    }

    pub fn provider(&self) -> Provider {
        self.provider
    }

    pub fn publisher(&self) -> &Cluster {
        &self.publisher
    }

    pub fn subscriber(&self) -> &Cluster {
        &self.subscriber
    }

    /// The database that replicates, of the same name on both sides.
    pub fn database(&self) -> &str {
        &self.database
    }

    #[track_caller]
    pub fn on_publisher(&self, sql: &str) {
        self.publisher.execute(&self.database, sql);
    }

    #[track_caller]
    pub fn on_subscriber(&self, sql: &str) {
        self.subscriber.execute(&self.database, sql);
    }

    #[track_caller]
    pub fn on_both(&self, sql: &str) {
        self.on_publisher(sql);
        self.on_subscriber(sql);
    }

    /// The statements with which [`Pair::publish`] publishes.
    pub fn publish_sql(&self, publication: &Publication) -> Vec<String> {
        match self.provider {
            Provider::Native => vec![native::publish_sql(publication)],
            Provider::Pglogical => pglogical::publish_sql(publication),
        }
    }

    #[track_caller]
    pub fn publish(&self, publication: &Publication) {
        for sql in self.publish_sql(publication) {
            self.on_publisher(&sql);
        }
    }

    /// The statement with which [`Pair::subscribe`] subscribes.
    pub fn subscribe_sql(&self, copy: bool) -> String {
        let publisher = self.publisher.conninfo(&self.database);
        match self.provider {
            Provider::Native => native::subscribe_sql(&publisher, copy),
            Provider::Pglogical => pglogical::subscribe_sql(&publisher, copy),
        }
    }

    /// Starts the initial copy and the stream, and returns at once.
    #[track_caller]
    pub fn subscribe(&self) {
        self.on_subscriber(&self.subscribe_sql(true));
    }

    /// Only changes from now on.
    #[track_caller]
    pub fn subscribe_without_copy(&self) {
        self.on_subscriber(&self.subscribe_sql(false));
    }

    /// Ends the apply worker and keeps it from being started again.
    #[track_caller]
    pub fn disable(&self) {
        self.on_subscriber(match self.provider {
            Provider::Native => native::DISABLE,
            Provider::Pglogical => pglogical::DISABLE,
        });
    }

    /// Starts the apply worker. After [`Pair::disable`] this spares a test pglogical's pause before it starts a worker
    /// again that has failed, 20 seconds and more.
    #[track_caller]
    pub fn enable(&self) {
        self.on_subscriber(match self.provider {
            Provider::Native => native::ENABLE,
            Provider::Pglogical => pglogical::ENABLE,
        });
    }

    /// Waits until every table is past its initial copy and in the stream of the main apply worker.
    #[track_caller]
    pub fn wait_copied(&self) {
        let sql = match self.provider {
            Provider::Native => native::NOT_READY,
            Provider::Pglogical => pglogical::NOT_READY,
        };
        wait_for_value(
            "the initial copy is complete; not ready yet",
            DEFAULT_DEADLINE,
            || self.subscriber.rows_text(&self.database, sql),
            Vec::is_empty,
        );
    }

    /// Waits until the subscriber has applied and committed all that the publisher had committed when this was called.
    /// That is said of the main apply worker: during an initial copy, call [`Pair::wait_copied`] first.
    #[track_caller]
    pub fn wait_caught_up(&self) {
        let target: PgLsn = self
            .publisher
            .query_one_value(&self.database, "select pg_current_wal_lsn()");
        let slot = self.slot_name();
        // The walsender's replay_lsn is the end of the last transaction that the apply worker committed. The slot's
        // confirmed_flush_lsn says the same up to a second later, because applied transactions are flushed lazily.
        let replayed = format!(
            "select (select sender.replay_lsn from pg_replication_slots slot \
             join pg_stat_replication sender on sender.pid = slot.active_pid where slot.slot_name = '{slot}')"
        );
        wait_for_value(
            &format!("the subscriber has applied the publisher's WAL up to {target}"),
            DEFAULT_DEADLINE,
            || {
                self.publisher
                    .query_one_value::<Option<PgLsn>>(&self.database, &replayed)
            },
            |lsn| lsn.is_some_and(|lsn| lsn >= target),
        );
    }

    /// The subscription's replication slot on the publisher.
    #[track_caller]
    pub fn slot_name(&self) -> String {
        let sql = match self.provider {
            Provider::Native => native::SLOT_NAME,
            Provider::Pglogical => pglogical::SLOT_NAME,
        };
        self.subscriber.query_one_value(&self.database, sql)
    }

    /// Waits until there is an apply worker and returns its process id on the subscriber.
    #[track_caller]
    pub fn apply_worker_pid(&self) -> i32 {
        let sql = match self.provider {
            Provider::Native => native::apply_worker_pid_sql(self.subscriber.server().major()),
            Provider::Pglogical => pglogical::APPLY_WORKER_PID,
        };
        wait_for_value(
            "the subscription has an apply worker",
            DEFAULT_DEADLINE,
            || {
                self.subscriber
                    .query_one_value::<Option<i32>>(&self.database, sql)
            },
            Option::is_some,
        )
        .expect("accepted as some")
    }

    /// Asserts that a query on the publisher and one on the subscriber return the same rows in the same order.
    #[track_caller]
    pub fn compare(&self, publisher_sql: &str, subscriber_sql: &str) {
        assert_same_rows(
            "publisher",
            &self.publisher.rows_text(&self.database, publisher_sql),
            "subscriber",
            &self.subscriber.rows_text(&self.database, subscriber_sql),
        );
    }
}
