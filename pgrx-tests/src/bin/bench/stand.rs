//! The pair that everything is measured on: its settings, its tables, the state in which each measurement starts.

use replwarden_tests::{Pair, Provider, Publication, Server};

use crate::variant::Variant;

/// As on a server that is there for measuring: all tables in memory, no autovacuum, checkpoint or JIT compilation in between, and WAL files
/// that are there already rather than filled with zeros by the process that is measured. The rest are the server's own
/// defaults and the harness's.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "512MB"),
    ("autovacuum", "off"),
    ("max_wal_size", "8GB"),
    ("min_wal_size", "4GB"),
    ("checkpoint_timeout", "1h"),
    ("jit", "off"),
];

/// Where the rows of a local `INSERT … SELECT` come from.
pub(crate) const SOURCE: &str = "loan_source";

pub(crate) struct Stand {
    pair: Pair,
    rows: u32,
}

impl Stand {
    /// Starts the pair and makes all tables. Every variant has its own, and all are in one subscription.
    pub(crate) fn build(rows: u32) -> Result<Self, String> {
        let server = server_with_extension()?;
        eprintln!(
            "starting a publisher and a subscriber, {}",
            server.version()
        );
        let mut builder = Pair::builder(Provider::Native);
        for (name, value) in SETTINGS {
            builder = builder
                .publisher_setting(name, value)
                .subscriber_setting(name, value);
        }
        let stand = Self {
            pair: builder
                .subscriber_setting("shared_preload_libraries", "replwarden")
                .start(),
            rows,
        };
        stand.create_tables();
        Ok(stand)
    }

    fn create_tables(&self) {
        self.pair.on_subscriber("create extension replwarden");
        // Without TRUNCATE, both sides can be emptied one by one.
        let mut publication = Publication::default().option("publish", "insert");
        for variant in Variant::ALL {
            self.pair.on_publisher(&variant.publisher_sql());
            self.pair.on_subscriber(&variant.subscriber_sql());
            publication = publication.table(variant.table());
        }
        self.pair.on_subscriber(&format!(
            "create table {SOURCE} as select id, {} from generate_series(1::bigint, {}) id",
            columns_of("id"),
            self.local_rows()
        ));
        self.pair
            .on_subscriber(&format!("vacuum freeze analyze {SOURCE}"));
        self.pair.publish(&publication);
        self.pair.subscribe_without_copy();
        self.pair.wait_copied();
    }

    pub(crate) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Rows that a variant's table has on the publisher once they are inserted.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Rows of the source of local INSERTs.
    pub(crate) fn local_rows(&self) -> u32 {
        2 * self.rows
    }

    /// Inserts rows of a variant on the publisher, in one transaction.
    pub(crate) fn insert_on_publisher(&self, variant: Variant, first: u32, last: u32) {
        self.pair.on_publisher(&format!(
            "insert into {} select id, {} from generate_series({first}, {last}) id",
            variant.table(),
            columns_of("id")
        ));
    }

    /// Empties the variants' tables on the publisher.
    pub(crate) fn clear_publisher(&self) {
        for variant in Variant::ALL {
            self.pair
                .on_publisher(&format!("truncate {}", variant.table()));
        }
    }

    /// Empties the variants' tables on the subscriber, and leaves neither side anything to write out while the next
    /// measurement runs.
    pub(crate) fn clear_subscriber(&self) {
        for variant in Variant::ALL {
            self.pair
                .on_subscriber(&format!("truncate {}", variant.table()));
        }
        self.pair.on_both("checkpoint");
    }

    /// No variant shall win by not doing its work.
    pub(crate) fn check(&self, variant: Variant, expected_rows: u32) -> Result<(), String> {
        let (rows, wrong): (i64, i64) = self
            .pair
            .subscriber()
            .connect(self.pair.database())
            .query_one(&variant.check_sql(), &[])
            .map(|row| (row.get(0), row.get(1)))
            .map_err(reason)?;
        if (rows, wrong) == (i64::from(expected_rows), 0) {
            Ok(())
        } else {
            Err(format!(
                "{} has {rows} rows where {expected_rows} should be, {wrong} of them with a wrong loan_id",
                variant.table()
            ))
        }
    }
}

/// The server to measure.
pub(crate) fn server_with_extension() -> Result<Server, String> {
    let server = Server::find()?;
    if server.has_library("replwarden") {
        Ok(server)
    } else {
        Err("replwarden is not installed: make install".to_owned())
    }
}

/// The server's answer rather than the client's summary of it.
pub(crate) fn reason(error: postgres::Error) -> String {
    match error.as_db_error() {
        Some(answer) => answer.to_string(),
        None => error.to_string(),
    }
}

/// `userid` and `amount` of a row.
pub(crate) fn columns_of(id: &str) -> String {
    format!("1000 + {id} % 7919 as userid, {id} * 0.25 as amount")
}
