//! Names that need quotes, in SQL, in connection strings and in JSON, and names as long as names can be.

use replwarden_tests::{Cluster, Pair, Provider};

use crate::database::lines;
use crate::loan::on_both_providers;
use crate::status::{self, Lock, Row, Status, read};

on_both_providers!(
    odd_names_are_shown_as_they_are,
    odd_names_in_remedies,
    odd_names_during_a_copy
);

const DATABASE: &str = "It's \"odd\" \\ dätabase";
/// As SQL has it.
const TABLE: &str = r#""Sch'ema ""1"" \n"."Täble's ""x"" {%s} $1""#;
const CLEAR_TABLE: &str = r#""Sch'ema ""1"" \n".plain"#;

const NATIVE_SUBSCRIPTION: &str = "Sub's \"odd\" \\ näme";
/// pglogical allows few characters, but 63 of them.
const PGLOGICAL_SUBSCRIPTION: &str =
    "sub_with_a_name_that_is_as_long_as_the_name_of_anything_may_be_";
const PUBLICATION: &str = r#""Pub's ""own"", {2}""#;

/// The odd database on both clusters of a pair, with the extension on the subscriber.
struct Odd {
    pair: Pair,
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// libpq's connection string, as a literal of SQL.
fn conninfo(cluster: &Cluster) -> String {
    literal(&format!(
        "host=127.0.0.1 port={} user=postgres dbname='{}'",
        cluster.port(),
        DATABASE.replace('\\', "\\\\").replace('\'', "\\'")
    ))
}

impl Odd {
    fn start(provider: Provider) -> Self {
        let pair = status::builder(provider).start();
        let odd = Self { pair };
        for cluster in [odd.pair.publisher(), odd.pair.subscriber()] {
            cluster.execute(
                "postgres",
                &format!("create database {}", identifier(DATABASE)),
            );
            cluster.execute(
                DATABASE,
                &format!(
                    "create schema {};
                     create table {TABLE} (id int primary key); create table {CLEAR_TABLE} (id int primary key)",
                    CLEAR_TABLE.trim_end_matches(".plain")
                ),
            );
            if provider == Provider::Pglogical {
                let node = format!("Nöde's \"{}\"", cluster.name());
                cluster.execute(DATABASE, "create extension pglogical");
                cluster.execute(
                    DATABASE,
                    &format!(
                        "select pglogical.create_node({}, {})",
                        literal(&node),
                        conninfo(cluster)
                    ),
                );
            }
        }
        odd.on_publisher(&format!("insert into {TABLE} values (1), (2)"));
        odd.on_subscriber("create extension replwarden");
        match provider {
            Provider::Native => odd.on_publisher(&format!(
                "create publication {PUBLICATION} for table {TABLE}, {CLEAR_TABLE}"
            )),
            Provider::Pglogical => odd.on_publisher(&format!(
                "select pglogical.replication_set_add_table('default', t::regclass)
                   from unnest(array[{}, {}]) t",
                literal(TABLE),
                literal(CLEAR_TABLE)
            )),
        }
        odd
    }

    fn subscribe(&self) {
        let publisher = conninfo(self.pair.publisher());
        self.on_subscriber(&match self.pair.provider() {
            Provider::Native => format!(
                "create subscription {} connection {publisher} publication {PUBLICATION}
                   with (slot_name = 'odd_slot')",
                identifier(NATIVE_SUBSCRIPTION)
            ),
            Provider::Pglogical => format!(
                "select pglogical.create_subscription('{PGLOGICAL_SUBSCRIPTION}', {publisher},
                                                      synchronize_data := true)"
            ),
        });
    }

    fn subscription(&self) -> &'static str {
        match self.pair.provider() {
            Provider::Native => NATIVE_SUBSCRIPTION,
            Provider::Pglogical => PGLOGICAL_SUBSCRIPTION,
        }
    }

    /// What a report tells of it in any case: it shortens long names in the middle.
    fn name_in_reports(&self) -> &'static str {
        match self.pair.provider() {
            Provider::Native => NATIVE_SUBSCRIPTION,
            Provider::Pglogical => &PGLOGICAL_SUBSCRIPTION[..10],
        }
    }

    #[track_caller]
    fn on_publisher(&self, sql: &str) {
        self.pair.publisher().execute(DATABASE, sql);
    }

    #[track_caller]
    fn on_subscriber(&self, sql: &str) {
        self.pair.subscriber().execute(DATABASE, sql);
    }

    fn status(&self) -> Status<'_> {
        Status::on(self.pair.subscriber(), DATABASE)
    }

    #[track_caller]
    fn wait(&self, what: &str, accept: impl Fn(&Row) -> bool) -> Row {
        self.status().wait_named(self.subscription(), what, accept)
    }

    #[track_caller]
    fn wait_all_well(&self) -> Row {
        self.wait("streams and is not behind", |row| {
            row.is("state", "streaming")
                && row.is("lag_bytes", "0")
                && row.is("slot_active", "t")
                && row.is_null("cause")
        })
    }

    /// `repl_status` of this subscription alone.
    #[track_caller]
    fn report(&self) -> String {
        let mut client = self.pair.subscriber().connect(DATABASE);
        let sql = format!("select repl_status({})", literal(self.subscription()));
        lines(&mut client, &sql).join("\n")
    }
}

fn odd_names_are_shown_as_they_are(provider: Provider) {
    let odd = Odd::start(provider);
    odd.subscribe();
    let row = odd.wait_all_well();
    assert_eq!(row.text("tables_ready"), "2", "{row:?}");
    let publisher = row.text("publisher");
    assert!(
        publisher.contains(&format!(
            "port={} user=postgres",
            odd.pair.publisher().port()
        )) && publisher.contains("odd"),
        "{row:?}"
    );
    let table = odd.status().wait_table_state(TABLE, "ready");
    assert_eq!(table.text("relation"), TABLE);
    assert!(table.is("subscription", odd.subscription()), "{table:?}");
    let table = odd.status().wait_table_state(CLEAR_TABLE, "ready");
    assert_eq!(table.text("relation"), CLEAR_TABLE);
    odd.status()
        .wait_worker("apply", "of the subscription", |row| {
            row.is("subscription", odd.subscription())
        });
    assert!(odd.report().contains(odd.name_in_reports()));
    let report = odd.status().report().join("\n");
    assert!(report.contains(odd.name_in_reports()), "{report}");
    let mut client = odd.pair.subscriber().connect(DATABASE);
    let snapshot = read(
        &mut client,
        "select s #>> '{subscriptions,0,subscription}' as subscription,
                s #>> '{installation,database}' as database from repl_snapshot() s",
    );
    assert!(
        snapshot[0].is("subscription", odd.subscription()),
        "{snapshot:?}"
    );
    assert!(snapshot[0].is("database", DATABASE), "{snapshot:?}");
    // A publication of that name is an array of one, not of several.
    if provider == Provider::Native {
        let publications = read(
            &mut client,
            "select publications[1] as first, cardinality(publications) as number from repl_subscriptions",
        );
        assert!(
            publications[0].is("first", "Pub's \"own\", {2}") && publications[0].is("number", "1"),
            "{publications:?}"
        );
    }
    // The publisher knows its tables by the same names.
    odd.on_subscriber(&format!("drop table {TABLE}"));
    let table = odd.status().wait_table_state(TABLE, "missing");
    assert!(table.is_null("relation"), "{table:?}");
}

fn odd_names_in_remedies(provider: Provider) {
    let odd = Odd::start(provider);
    odd.subscribe();
    odd.wait_all_well();
    odd.on_subscriber(&match provider {
        Provider::Native => format!(
            "alter subscription {} disable",
            identifier(NATIVE_SUBSCRIPTION)
        ),
        Provider::Pglogical => format!(
            "select pglogical.alter_subscription_disable('{PGLOGICAL_SUBSCRIPTION}', immediate := true)"
        ),
    });
    let row = odd.wait("is disabled", |row| {
        row.is("state", "disabled") && row.is_null("worker_pid")
    });
    assert!(odd.report().contains("disabled"), "{}", odd.report());
    odd.on_subscriber(row.text("remedy"));
    odd.wait_all_well();
}

fn odd_names_during_a_copy(provider: Provider) {
    let odd = Odd::start(provider);
    let lock = Lock::take(
        odd.pair.subscriber(),
        DATABASE,
        TABLE,
        "share row exclusive",
    );
    odd.subscribe();
    odd.wait("copies, and waits for the lock", |row| {
        row.is("state", "copying") && row.is("cause", "lock_wait")
    });
    let kind = match provider {
        Provider::Native => "table synchronization",
        Provider::Pglogical => "copy",
    };
    let blocked_by = format!("{{{}}}", lock.pid);
    let worker = odd
        .status()
        .wait_worker(kind, "that waits for the lock", |row| {
            row.is("blocked_by", &blocked_by)
        });
    assert!(worker.is("subscription", odd.subscription()), "{worker:?}");
    if provider == Provider::Native {
        assert_eq!(worker.text("relation"), TABLE);
    }
    let state = match provider {
        Provider::Native => "copying data",
        Provider::Pglogical => "in initial copy",
    };
    odd.status().wait_table_state(TABLE, state);
    assert!(odd.report().contains(odd.name_in_reports()));
    drop(lock);
    odd.wait_all_well();
    odd.status().wait_table_state(TABLE, "ready");
}
