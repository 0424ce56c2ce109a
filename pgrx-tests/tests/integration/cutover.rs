//! `repl_cutover_check` says of a pair that is ready that it is, finds what is not, and its remedies mend that.

use postgres::Client;
use replwarden_tests::{
    DEFAULT_DEADLINE, Pair, Provider, Publication, SUBSCRIPTION, ShutdownMode, wait_for_value,
};

use crate::loan::on_both_providers;
use crate::status::{self, Lock, Row, Status};

on_both_providers!(
    schema_that_is_not_as_the_publishers,
    servers_that_are_not_ready,
    subscription_that_does_not_stream,
);

pub(crate) const CHECKS: [&str; 14] = [
    "subscription",
    "errors",
    "tables",
    "derived_columns",
    "backfills",
    "indexes",
    "foreign_keys",
    "triggers",
    "statistics",
    "subscriber_writable",
    "publisher_writes",
    "lag",
    "sequences",
    "plan",
];

/// A pair of which everything is ready.
#[track_caller]
pub(crate) fn ready(provider: Provider) -> Pair {
    let pair = status::builder(provider)
        .publisher_setting("max_prepared_transactions", "5")
        .start();
    pair.on_both(
        "create table parent (id serial primary key, note text);
         create table \"It's a \"\"child\"\"\" (
             id bigint generated always as identity primary key, parent int references parent, note text, loud text);
         create index \"its \nindex\" on \"It's a \"\"child\"\"\" (note);
         create function nothing() returns trigger language plpgsql as 'begin return new; end';
         create trigger \"T's\" before insert on \"It's a \"\"child\"\"\" for each row execute function nothing();",
    );
    pair.on_subscriber(
        "create extension replwarden;
         select repl_set_expression('\"It''s a \"\"child\"\"\"', 'loud', 'upper(note)')",
    );
    let child = match provider {
        Provider::Native => CHILD.to_owned(),
        // It is a part of a literal.
        Provider::Pglogical => CHILD.replace('\'', "''"),
    };
    pair.publish(&Publication::of("parent").table(&child));
    pair.on_publisher(
        "insert into parent (note) select 'p' from generate_series(1, 50);
         insert into \"It's a \"\"child\"\"\" (parent, note) select id, 'c' from parent",
    );
    pair.subscribe();
    pair.wait_copied();
    pair.wait_caught_up();
    pair.on_subscriber("analyze parent, \"It's a \"\"child\"\"\"");
    pair.on_subscriber("select repl_sync_sequences('sub')");
    wait_ready(&pair);
    pair
}

#[track_caller]
pub(crate) fn check(pair: &Pair) -> Vec<Row> {
    Status::of(pair).rows(&format!(
        "select * from repl_cutover_check('{SUBSCRIPTION}')"
    ))
}

/// The checks that are not ready, but for the plan.
pub(crate) fn not_ready(rows: &[Row]) -> Vec<&str> {
    let names: Vec<&str> = rows.iter().map(|row| row.text("check_name")).collect();
    assert_eq!(names, CHECKS);
    let names: Vec<&str> = rows
        .iter()
        .filter(|row| row.is("ready", "f"))
        .map(|row| row.text("check_name"))
        .collect();
    match names.as_slice() {
        [] => Vec::new(),
        [others @ .., "plan"] if !others.is_empty() => others.to_vec(),
        _ => panic!("the plan is ready when all others are: {rows:#?}"),
    }
}

/// Waits until these and no others are not ready.
#[track_caller]
pub(crate) fn wait_not_ready(pair: &Pair, checks: &[&str]) -> Vec<Row> {
    wait_for_value(
        &format!("{checks:?} is what is not ready"),
        DEFAULT_DEADLINE,
        || check(pair),
        |rows| not_ready(rows) == checks,
    )
}

#[track_caller]
pub(crate) fn wait_ready(pair: &Pair) {
    let rows = wait_not_ready(pair, &[]);
    let (plan, checks) = rows.split_last().expect("has rows");
    for row in checks {
        let finding = row.text("finding");
        assert!(
            finding.ends_with('.') && !finding.contains('\n') && row.is_null("remedy"),
            "{row:#?}"
        );
    }
    let plan = plan.text("finding");
    assert!(plan.starts_with("Ready: "), "{plan}");
    assert!(plan.lines().all(|line| line.len() < 60), "{plan}");
    assert_eq!(plan.matches("[x]").count(), 5, "{plan}");
}

pub(crate) fn of<'a>(rows: &'a [Row], check: &str) -> &'a Row {
    let mut rows = rows.iter();
    rows.find(|row| row.is("check_name", check))
        .expect("has a row of each check")
}

/// Waits until this one is not ready, runs its remedy here, and waits until all is ready again.
#[track_caller]
pub(crate) fn mend(pair: &Pair, check: &str, said: &str) {
    let rows = wait_not_ready(pair, &[check]);
    let row = of(&rows, check);
    assert!(row.text("finding").contains(said), "{said}: {row:#?}");
    pair.on_subscriber(row.text("remedy"));
    wait_ready(pair);
}

pub(crate) const CHILD: &str = "\"It's a \"\"child\"\"\"";

fn schema_that_is_not_as_the_publishers(provider: Provider) {
    let pair = ready(provider);
    pair.on_subscriber(
        "update pg_index set indisvalid = false where indexrelid = E'\"its \\nindex\"'::regclass",
    );
    mend(&pair, "indexes", "1 index is not valid");

    let key = "\"It's a \"\"child\"\"_parent_fkey\"";
    pair.on_subscriber(&format!("alter table {CHILD} drop constraint {key}"));
    mend(
        &pair,
        "foreign_keys",
        "1 foreign key of the publisher is not here",
    );
    pair.on_subscriber(&format!(
        "alter table {CHILD} drop constraint {key};
         alter table {CHILD} add constraint another foreign key (parent) references parent not valid"
    ));
    mend(
        &pair,
        "foreign_keys",
        "1 foreign key is not validated: another of public.",
    );

    pair.on_subscriber(&format!("alter table {CHILD} disable trigger \"T's\""));
    mend(
        &pair,
        "triggers",
        "T's of public.\"It's a \"\"child\"\"\" (disabled)",
    );
    pair.on_subscriber(&format!(
        "alter table {CHILD} enable replica trigger \"T's\""
    ));
    mend(&pair, "triggers", "(ENABLE REPLICA)");
    pair.on_both(&format!("alter table {CHILD} disable trigger \"T's\""));
    wait_ready(&pair);
    pair.on_both(&format!("alter table {CHILD} enable trigger \"T's\""));

    pair.on_subscriber("delete from pg_statistic where starelid = 'parent'::regclass");
    mend(
        &pair,
        "statistics",
        "1 table has rows and no statistics: public.parent.",
    );

    pair.on_subscriber(&format!(
        "alter table {CHILD} disable trigger zzz_replwarden"
    ));
    let rows = wait_not_ready(&pair, &["derived_columns"]);
    let finding = of(&rows, "derived_columns").text("finding");
    assert!(finding.contains("loud (broken)"), "{finding}");
    pair.on_subscriber(&format!(
        "alter table {CHILD} enable always trigger zzz_replwarden"
    ));
    wait_ready(&pair);

    pair.subscriber()
        .set("replwarden.max_backfill_workers", "0");
    pair.on_subscriber(&format!(
        "select repl_backfill('{}')",
        CHILD.replace('\'', "''")
    ));
    let rows = wait_not_ready(&pair, &["backfills"]);
    let row = of(&rows, "backfills");
    assert!(row.text("finding").contains("(queued)"), "{row:#?}");
    pair.on_subscriber(row.text("remedy"));
    pair.on_subscriber(
        "select repl_cancel_backfill(id) from repl_backfills where state = 'queued'",
    );
    pair.subscriber()
        .set("replwarden.max_backfill_workers", "2");
    mend(&pair, "backfills", "(cancelled)");

    pair.on_publisher("select nextval('parent_id_seq')");
    mend(
        &pair,
        "sequences",
        "1 sequence is behind the publisher: public.parent_id_seq.",
    );
    pair.on_publisher("create sequence \"one\nmore\"");
    mend(&pair, "sequences", "public.\"one?more\"");
}

/// A session on the publisher.
fn session(pair: &Pair) -> Client {
    pair.publisher().connect(pair.database())
}

fn servers_that_are_not_ready(provider: Provider) {
    let pair = ready(provider);
    let database = pair.database();
    pair.on_subscriber(&format!(
        "alter database {database} set default_transaction_read_only = on"
    ));
    mend(&pair, "subscriber_writable", "is on for database");
    pair.on_subscriber("alter role all set default_transaction_read_only = true");
    mend(&pair, "subscriber_writable", "is on for all roles");
    pair.subscriber().set("default_transaction_read_only", "on");
    let rows = wait_not_ready(&pair, &["subscriber_writable"]);
    let row = of(&rows, "subscriber_writable");
    assert!(
        row.text("finding").contains("is on for this server"),
        "{row:#?}"
    );
    // ALTER SYSTEM cannot be a part of a transaction.
    for statement in row.text("remedy").lines() {
        pair.on_subscriber(statement);
    }
    wait_ready(&pair);

    let mut other = session(&pair);
    let rows = wait_not_ready(&pair, &["publisher_writes"]);
    let finding = of(&rows, "publisher_writes").text("finding");
    assert_eq!(
        finding,
        "1 other session is connected to the publisher's database: harness as postgres (1)."
    );
    other
        .batch_execute("begin; create table never (id int)")
        .expect("writes");
    let rows = wait_not_ready(&pair, &["publisher_writes"]);
    let row = of(&rows, "publisher_writes");
    assert!(
        row.text("finding")
            .contains("1 of them in a transaction that has written"),
        "{row:#?}"
    );
    // It ends the session, and whoever comes then begins read-only.
    pair.on_publisher(row.text("remedy"));
    let rows = wait_not_ready(&pair, &[]);
    let row = of(&rows, "publisher_writes");
    assert!(
        row.text("finding").ends_with("new ones begin read-only."),
        "{row:#?}"
    );
    drop(other);
    let error = pair
        .publisher()
        .expect_error(database, "create table never (id int)");
    assert_eq!(error.code().code(), "25006", "{error:?}");
    pair.on_publisher(&format!(
        "begin read write; alter database {database} reset default_transaction_read_only; commit"
    ));
    let rows = wait_not_ready(&pair, &[]);
    let row = of(&rows, "publisher_writes");
    assert!(
        row.text("finding").ends_with("new ones could write."),
        "{row:#?}"
    );

    let mut other = session(&pair);
    other
        .batch_execute("begin; insert into parent values (1000); prepare transaction 'left'")
        .expect("prepares");
    drop(other);
    let rows = wait_not_ready(&pair, &["publisher_writes"]);
    let row = of(&rows, "publisher_writes");
    assert!(
        row.text("finding").starts_with("1 transaction is prepared"),
        "{row:#?}"
    );
    pair.on_publisher(row.text("remedy"));
    pair.publisher()
        .execute(database, "rollback prepared 'left'");
    wait_ready(&pair);

    // Without the publisher, what needs it is not ready, and the rest is looked at.
    pair.publisher().stop(ShutdownMode::Immediate);
    let rows = wait_for_value(
        "the publisher is seen to be away",
        DEFAULT_DEADLINE,
        || check(&pair),
        |rows| not_ready(rows).contains(&"lag"),
    );
    for name in ["tables", "publisher_writes", "lag", "sequences"] {
        let row = of(&rows, name);
        assert!(row.is("ready", "f"), "{row:#?}");
        let finding = row.text("finding");
        assert!(finding.starts_with("Not checked: "), "{row:#?}");
        assert!(finding.contains("does not answer"), "{row:#?}");
    }
    for name in ["indexes", "statistics", "triggers", "derived_columns"] {
        assert!(of(&rows, name).is("ready", "t"), "{rows:#?}");
    }
    pair.publisher().start();
    pair.disable();
    pair.enable();
    // A crash costs a sequence the values that it had logged in advance.
    mend(&pair, "sequences", "2 sequences are behind");
}

fn subscription_that_does_not_stream(provider: Provider) {
    let pair = ready(provider);
    pair.disable();
    let rows = wait_for_value(
        "the subscription is seen to be disabled",
        DEFAULT_DEADLINE,
        || check(&pair),
        |rows| of(rows, "subscription").is("ready", "f"),
    );
    let row = of(&rows, "subscription");
    assert!(
        row.text("finding")
            .starts_with("It is disabled (disabled)."),
        "{row:#?}"
    );
    pair.on_publisher("insert into parent (note) values ('late')");
    let rows = check(&pair);
    let lag = of(&rows, "lag");
    assert!(
        lag.is("ready", "f") && lag.text("finding").contains(" behind: applied up to "),
        "{lag:#?}"
    );
    assert!(
        of(&rows, "plan").text("finding").contains("[ ] 1."),
        "{rows:#?}"
    );
    pair.on_subscriber(row.text("remedy"));
    mend(&pair, "sequences", "parent_id_seq");

    let lock = Lock::on_subscriber(&pair, "parent");
    pair.on_publisher("insert into parent (id, note) values (2000, 'waits')");
    let rows = wait_for_value(
        "what waits for a lock is behind",
        DEFAULT_DEADLINE,
        || check(&pair),
        |rows| of(rows, "lag").is("ready", "f"),
    );
    assert!(
        of(&rows, "lag").text("finding").contains(" behind: "),
        "{rows:#?}"
    );
    drop(lock);
    wait_ready(&pair);

    pair.on_publisher("create table more (id int primary key)");
    match provider {
        Provider::Native => pair.on_publisher("alter publication pub add table more"),
        Provider::Pglogical => {
            pair.on_publisher("select pglogical.replication_set_add_table('default', 'more')");
        }
    }
    let rows = wait_not_ready(&pair, &["tables"]);
    let row = of(&rows, "tables");
    assert!(row.text("finding").ends_with(": public.more."), "{row:#?}");
    pair.on_subscriber("create table more (id int primary key)");
    if provider == Provider::Native {
        pair.on_subscriber(row.text("remedy"));
    }
    wait_ready(&pair);
    match provider {
        Provider::Native => {
            pair.on_publisher("alter publication pub drop table more");
            mend(&pair, "tables", "1 table is no longer published");
        }
        // It has no statement that forgets a table.
        Provider::Pglogical => {
            pair.on_publisher("select pglogical.replication_set_remove_table('default', 'parent')");
            let rows = wait_not_ready(&pair, &[]);
            let finding = of(&rows, "tables").text("finding");
            assert!(
                finding.contains("1 table is no longer published: public.parent"),
                "{finding}"
            );
        }
    }
}

/// The end of the WAL of an idle publisher moves all the same, with nothing to apply.
#[test]
fn publisher_whose_other_databases_write_is_not_ahead() {
    let pair = ready(Provider::Native);
    pair.publisher()
        .execute("postgres", "create table noise (id int)");
    for _ in 0..10 {
        pair.publisher().execute(
            "postgres",
            "insert into noise select generate_series(1, 1000)",
        );
        assert!(
            of(&check(&pair), "lag").is("ready", "t"),
            "{:#?}",
            check(&pair)
        );
    }
}

/// Without the worker that watches.
#[test]
fn library_that_is_not_preloaded_is_enough() {
    let pair = status::streaming(Pair::start(Provider::Native));
    pair.on_subscriber("analyze item");
    wait_ready(&pair);
    let partitioned = "
        create table tree (id int, k int, primary key (id, k)) partition by list (k);
        create table leaf partition of tree for values in (1)";
    pair.on_both(partitioned);
    pair.on_publisher("alter publication pub add table tree; insert into tree values (1, 1)");
    let rows = wait_not_ready(&pair, &["tables"]);
    pair.on_subscriber(of(&rows, "tables").text("remedy"));
    pair.wait_copied();
    let rows = wait_not_ready(&pair, &["statistics"]);
    let row = of(&rows, "statistics");
    assert!(
        row.text("remedy").starts_with("ANALYZE public.leaf"),
        "{row:#?}"
    );
    pair.on_subscriber(row.text("remedy"));
    wait_ready(&pair);
}
