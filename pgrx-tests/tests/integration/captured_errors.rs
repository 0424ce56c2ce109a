//! Errors of the processes that replicate, in `repl_errors`: of whom, about what, and how often.

use replwarden_tests::{
    DEFAULT_DEADLINE, Pair, Provider, Publication, SUBSCRIPTION, wait_for_value,
};

use crate::status::{self, Row, Status, builder, streaming, with_item};

/// So often an error has to come again.
const REPEATS: f64 = 200.0;

/// A pair whose native workers are started again at once.
fn restless() -> Pair {
    builder(Provider::Native)
        .subscriber_setting("wal_retrieve_retry_interval", "1ms")
        .start()
}

#[track_caller]
pub(crate) fn errors(status: Status<'_>) -> Vec<Row> {
    status.rows(
        "select *, first_occurred_at < occurred_at as came_again, occurred_at <= clock_timestamp() as is_past
           from repl_errors order by occurred_at",
    )
}

/// Waits until there is an error that is as `accept` wants it.
#[track_caller]
pub(crate) fn wait_error(status: Status<'_>, what: &str, accept: impl Fn(&Row) -> bool) -> Row {
    wait_for_value(
        &format!("repl_errors shows {what}"),
        DEFAULT_DEADLINE,
        || errors(status),
        |rows| rows.iter().any(&accept),
    )
    .into_iter()
    .find(|row| accept(row))
    .expect("accepted")
}

#[track_caller]
pub(crate) fn wait_sqlstate(status: Status<'_>, sqlstate: &str) -> Row {
    wait_error(status, &format!("an error {sqlstate}"), |row| {
        row.is("sqlstate", sqlstate)
    })
}

#[track_caller]
pub(crate) fn assert_columns(row: &Row, expected: &[(&str, &str)]) {
    for (column, value) in expected {
        assert!(row.is(column, value), "{column} is not {value}: {row:#?}");
    }
}

#[track_caller]
pub(crate) fn assert_context(row: &Row, parts: &[&str]) {
    for part in parts {
        assert!(row.text("context").contains(part), "{part}: {row:#?}");
    }
}

/// Not ready, or not any more: `repl_tables` shows it beside the table.
#[track_caller]
fn assert_last_error(pair: &Pair, table: &str, error: &Row) {
    Status::of(pair).wait_table(table, "with its last error", |row| {
        row.is("last_error", error.text("message"))
    });
}

/// A row on the subscriber keeps out the publisher's.
#[track_caller]
pub(crate) fn make_conflict(pair: &Pair) {
    pair.on_subscriber("insert into item values (3)");
    pair.on_publisher("insert into item values (3)");
}

/// How the subscriber's server begins to tell of it, in the log. From 18 on it calls it a conflict.
pub(crate) fn conflict_logged(pair: &Pair) -> &'static str {
    match pair.subscriber().server().major() {
        ..=17 => "ERROR:  duplicate key value",
        _ => "ERROR:  conflict detected on relation",
    }
}

/// Skips the transaction that failed, and sees replication go on.
#[track_caller]
pub(crate) fn skip(pair: &Pair, error: &Row) {
    if pair.subscriber().server().major() < 15 {
        pair.on_subscriber("delete from item where id = 3");
    } else {
        pair.on_subscriber(&format!(
            "alter subscription {SUBSCRIPTION} skip (lsn = '{}')",
            error.text("finish_lsn")
        ));
    }
    pair.on_publisher("insert into item values (4)");
    pair.wait_caught_up();
    pair.compare(
        "select id from item order by id",
        "select id from item order by id",
    );
}

#[test]
fn repeated_error_of_an_apply_worker() {
    let pair = streaming(restless());
    let status = Status::of(&pair);
    make_conflict(&pair);
    let error = wait_error(status, "a duplicate key, again and again", |row| {
        row.is("sqlstate", "23505") && row.number("occurrences") >= REPEATS
    });
    skip(&pair, &error);
    // A worker may also find that the one before it has not left yet.
    let mut rows = errors(status);
    rows.retain(|row| row.is("sqlstate", "23505"));
    assert_eq!(rows.len(), 1, "{rows:#?}");
    let row = rows.remove(0);
    assert_columns(
        &row,
        &[
            ("provider", "native"),
            ("subscription", SUBSCRIPTION),
            ("worker_kind", "apply"),
            ("relation_name", "public.item"),
            ("severity", "ERROR"),
            ("came_again", "t"),
            ("is_past", "t"),
        ],
    );
    assert!(row.is_null("hint"), "{row:#?}");
    let (message, detail) = (row.text("message"), row.text("detail"));
    if pair.subscriber().server().major() < 18 {
        assert_eq!(
            message,
            "duplicate key value violates unique constraint \"item_pkey\""
        );
        assert_eq!(detail, "Key (id)=(3) already exists.");
    } else {
        assert_eq!(
            message,
            "conflict detected on relation \"public.item\": conflict=insert_exists"
        );
        assert!(
            detail.starts_with("Key already exists in unique index \"item_pkey\"")
                && detail.contains("\nKey (id)=(3);"),
            "{detail}"
        );
    }
    assert_context(
        &row,
        &["processing remote data", "\"INSERT\"", "public.item"],
    );
    for column in ["first_occurred_at", "finish_lsn", "context"] {
        assert_eq!(row.get(column), error.get(column), "{column}");
    }
    let log = pair.subscriber().log();
    let logged: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(conflict_logged(&pair)))
        .collect();
    assert_eq!(row.number("occurrences"), logged.len() as f64, "{row:#?}");
    let last = logged.last().expect("there are some");
    assert!(last.contains(&format!("[{}]", row.text("pid"))), "{last}");
}

#[test]
fn column_that_a_copy_misses() {
    let pair = status::pair(Provider::Native);
    pair.on_both("create table \"Odd item\" (id int primary key, \"Nöte\" text)");
    pair.publish(&Publication::of("\"Odd item\""));
    pair.on_subscriber("alter table \"Odd item\" drop column \"Nöte\"");
    pair.subscribe();
    let row = wait_sqlstate(Status::of(&pair), "55000");
    assert_columns(
        &row,
        &[
            ("provider", "native"),
            ("subscription", SUBSCRIPTION),
            ("worker_kind", "table synchronization"),
            ("relation_name", "public.\"Odd item\""),
            (
                "message",
                "logical replication target relation \"public.Odd item\" is missing replicated column: \"Nöte\"",
            ),
        ],
    );
    assert!(row.is_null("finish_lsn"), "{row:#?}");
}

#[test]
fn row_that_violates_a_check_while_it_is_copied() {
    let pair = with_item(builder(Provider::Native).start());
    pair.on_publisher("insert into item values (1, 'wrong')");
    pair.on_subscriber("alter table item add constraint is_right check (note <> 'wrong')");
    pair.subscribe();
    let row = wait_sqlstate(Status::of(&pair), "23514");
    assert_columns(
        &row,
        &[
            ("worker_kind", "table synchronization"),
            ("relation_name", "public.item"),
        ],
    );
    assert_context(&row, &["COPY item, line 1"]);
    assert_last_error(&pair, "public.item", &row);
}

#[test]
fn row_that_pglogical_cannot_apply() {
    let pair = streaming(builder(Provider::Pglogical).start());
    let status = Status::of(&pair);
    pair.on_subscriber("delete from item; alter table item alter note set not null");
    pair.on_publisher("insert into item values (3)");
    let row = wait_sqlstate(status, "23502");
    assert_columns(
        &row,
        &[
            ("provider", "pglogical"),
            ("subscription", SUBSCRIPTION),
            ("worker_kind", "apply"),
            ("relation_name", "public.item"),
            ("occurrences", "1"),
            ("severity", "ERROR"),
        ],
    );
    assert!(row.text("message").contains("\"note\""), "{row:#?}");
    assert_context(&row, &["apply INSERT from remote relation public.item"]);
    let lsn = row.text("finish_lsn");
    assert_context(&row, &[&format!("commit before {lsn},")]);
    pair.disable();
    pair.enable();
    wait_error(status, "the error once more, and counts it", |row| {
        row.is("sqlstate", "23502") && row.is("occurrences", "2") && row.is("came_again", "t")
    });
    let all = errors(status);
    let same = all.iter().filter(|row| row.is("sqlstate", "23502"));
    assert_eq!(same.count(), 1, "{all:#?}");
}

/// The server does not say which table its error is about; the context does.
pub(crate) const REFUSING_TRIGGER: &str = "
    create function refuse() returns trigger language plpgsql as
      $$ begin raise exception 'refused' using errcode = 'RW001', hint = 'none'; end $$;
    create trigger refuse before insert or update on item for each row execute function refuse();
    alter table item enable always trigger refuse";

fn trigger_that_raises(provider: Provider) {
    let pair = status::pair(provider);
    pair.on_both("create table \"Odd item\" (id int primary key)");
    pair.publish(&Publication::of("\"Odd item\""));
    pair.subscribe();
    pair.wait_copied();
    pair.on_subscriber(&REFUSING_TRIGGER.replace("item", "\"Odd item\""));
    pair.on_publisher("insert into \"Odd item\" values (1)");
    let row = wait_sqlstate(Status::of(&pair), "RW001");
    assert_columns(
        &row,
        &[
            ("message", "refused"),
            ("hint", "none"),
            ("worker_kind", "apply"),
            ("relation_name", "public.\"Odd item\""),
        ],
    );
    assert_context(&row, &["refuse() line 1 at RAISE\n"]);
    assert!(row.is_null("detail"), "{row:#?}");
    assert_last_error(&pair, "public.\"Odd item\"", &row);
    if pair.subscriber().server().major() >= 15 {
        assert!(!row.is_null("finish_lsn"), "{row:#?}");
    }
}

#[test]
fn trigger_that_raises_under_native() {
    trigger_that_raises(Provider::Native);
}

#[test]
fn trigger_that_raises_under_pglogical() {
    trigger_that_raises(Provider::Pglogical);
}

#[test]
fn row_that_violates_a_check_while_pglogical_copies_it() {
    let pair = with_item(builder(Provider::Pglogical).start());
    let status = Status::of(&pair);
    pair.on_publisher("insert into item values (1, 'wrong')");
    pair.on_subscriber("alter table item add constraint is_right check (note <> 'wrong')");
    pair.subscribe();
    let row = wait_error(status, "an error of the session that copies", |row| {
        row.is("worker_kind", "copy")
    });
    assert_columns(
        &row,
        &[
            ("provider", "pglogical"),
            ("subscription", SUBSCRIPTION),
            ("sqlstate", "23514"),
            ("relation_name", "public.item"),
        ],
    );
    assert_context(&row, &["COPY item, line 1"]);
    assert!(row.is_null("finish_lsn"), "{row:#?}");
    assert_last_error(&pair, "public.item", &row);
}

#[test]
fn last_error_of_a_table_is_the_newest_of_its_subscription() {
    let pair = streaming(restless());
    let status = Status::of(&pair);
    let conninfo = pair.publisher().conninfo(pair.database());
    // The same table, without any error.
    pair.on_publisher("create publication none");
    pair.on_subscriber(&format!(
        "create subscription other connection '{conninfo}' publication none with (slot_name = other_one)"
    ));
    pair.on_subscriber(
        "insert into pg_subscription_rel select s.oid, 'item'::regclass, 'r', null from pg_subscription s where s.subname = 'other'",
    );
    make_conflict(&pair);
    wait_sqlstate(status, "23505");
    pair.on_subscriber("delete from item where id = 3");
    pair.wait_caught_up();
    pair.on_subscriber(REFUSING_TRIGGER);
    pair.on_publisher("insert into item values (4)");
    let newest = wait_sqlstate(status, "RW001");
    pair.on_subscriber("drop trigger refuse on item");
    pair.wait_caught_up();
    pair.on_subscriber(&format!(
        "alter subscription {SUBSCRIPTION} rename to renamed"
    ));
    let shown = || {
        status.rows("select subscription, last_error from repl_tables where relation_name = 'public.item' order by 1")
    };
    wait_for_value(
        "both have what is theirs",
        DEFAULT_DEADLINE,
        shown,
        |rows| {
            rows.len() == 2
                && rows[0].is_null("last_error")
                && rows[1].is("subscription", "renamed")
                && rows[1].is("last_error", newest.text("message"))
        },
    );
    pair.subscriber().restart();
    assert!(shown()[1].is("last_error", newest.text("message")));
}
