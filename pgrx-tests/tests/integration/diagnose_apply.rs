//! Changes that arrive and cannot be applied: each cause, and what mends it.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Publication, wait_until};

use crate::diagnose::{
    assert_found, assert_goes_on, builder, commented, evidence, paste, streaming, wait_found,
};
use crate::since::run_as_before_16;
use crate::status::{self, Row, Status};

const DETERMINISTIC: (&str, &str) = ("critical", "deterministic");

/// What is found when this is done on the subscriber and that on the publisher.
#[track_caller]
fn fail(pair: &Pair, on_subscriber: &str, on_publisher: &str, cause: &str, sqlstate: &str) -> Row {
    pair.on_subscriber(on_subscriber);
    pair.on_publisher(on_publisher);
    let row = wait_found(Status::of(pair), "retrying", cause);
    assert_found(&row, DETERMINISTIC.0, DETERMINISTIC.1, &[sqlstate, "item"]);
    assert!(row.is("sqlstate", sqlstate), "{row:#?}");
    row
}

/// Does what a comment of the remedy proposes.
#[track_caller]
fn mend(pair: &Pair, row: &Row, beginning: &str) {
    pair.on_subscriber(&commented(row, beginning));
    assert_goes_on(pair);
}

#[test]
fn disabled_by_somebody() {
    let pair = streaming();
    pair.disable();
    let row = wait_found(Status::of(&pair), "disabled", "disabled");
    assert_found(&row, "info", "", &["disabled"]);
    pair.on_publisher("insert into item values (7)");
    paste(&pair, &row);
    assert_goes_on(&pair);
}

#[test]
fn disabled_on_error() {
    let pair = streaming();
    if pair.subscriber().server().major() < 15 {
        return;
    }
    let status = Status::of(&pair);
    pair.on_subscriber("alter subscription sub set (disable_on_error = true)");
    status.wait_cause("streaming", None);
    status.wait_looked();
    pair.on_subscriber("insert into item values (7)");
    pair.on_publisher("insert into item values (7)");
    let row = wait_found(status, "disabled", "disabled_on_error");
    assert_found(&row, "critical", "deterministic", &["23505", "item"]);
    pair.on_subscriber(&commented(&row, "DELETE FROM"));
    paste(&pair, &row);
    assert_goes_on(&pair);
}

const DUPLICATE: (&str, &str) = (
    "insert into item values (7, 'here')",
    "insert into item values (7, 'there')",
);

#[test]
fn duplicate_key_by_deleting_the_row_in_the_way() {
    let pair = streaming();
    let row = fail(&pair, DUPLICATE.0, DUPLICATE.1, "duplicate_key", "23505");
    let status = Status::of(&pair);
    assert_eq!(
        evidence(status, &row, "error,relation").as_deref(),
        Some("public.item")
    );
    assert_eq!(
        evidence(status, &row, "error,worker_kind").as_deref(),
        Some("apply")
    );
    mend(&pair, &row, "DELETE FROM");
}

#[test]
fn duplicate_key_by_skipping_the_transaction() {
    let pair = streaming();
    if pair.subscriber().server().major() < 15 {
        return;
    }
    let row = fail(&pair, DUPLICATE.0, DUPLICATE.1, "duplicate_key", "23505");
    let skip = commented(&row, "ALTER SUBSCRIPTION");
    let finish = evidence(Status::of(&pair), &row, "error,finish_lsn").expect("15 tells it");
    assert!(skip.contains(&finish), "{skip}: {row:#?}");
    pair.on_subscriber(&skip);
    pair.wait_caught_up();
    pair.on_subscriber("update item set note = 'there' where id = 7");
    assert_goes_on(&pair);
}

#[test]
fn duplicate_key_of_several_columns_and_odd_values() {
    let pair = status::streaming(builder().start());
    pair.on_both(
        r#"create table "It's ""odd""" ("Key" text, "the second" int, "select" text, primary key ("Key", "the second"))"#,
    );
    pair.on_publisher(r#"alter publication pub add table "It's ""odd""""#);
    pair.on_subscriber("alter subscription sub refresh publication");
    pair.wait_copied();
    let insert = r#"insert into "It's ""odd""" values ('o''dd; value', 2)"#;
    pair.on_subscriber(insert);
    pair.on_publisher(insert);
    let row = wait_found(Status::of(&pair), "retrying", "duplicate_key");
    mend(&pair, &row, "DELETE FROM");
    pair.compare(r#"table "It's ""odd""""#, r#"table "It's ""odd""""#);
}

#[test]
fn not_null() {
    let pair = streaming();
    let row = fail(
        &pair,
        "update item set note = ''; alter table item alter note set not null",
        "update item set note = ''; insert into item values (7)",
        "not_null_violation",
        "23502",
    );
    mend(&pair, &row, "ALTER TABLE");
}

#[test]
fn check() {
    let pair = streaming();
    let row = fail(
        &pair,
        "alter table item add constraint small check (id < 7)",
        "insert into item values (7)",
        "check_violation",
        "23514",
    );
    mend(&pair, &row, "ALTER TABLE");
}

#[test]
fn invalid_data() {
    let pair = streaming();
    let row = fail(
        &pair,
        "alter table item alter note type varchar(3)",
        "insert into item values (7, 'seven')",
        "invalid_data",
        "22001",
    );
    pair.on_subscriber("alter table item alter note type text");
    assert!(
        row.text("remedy").contains("\"public\".\"item\""),
        "{row:#?}"
    );
    assert_goes_on(&pair);
}

#[test]
fn trigger_that_raises() {
    let pair = streaming();
    let row = fail(
        &pair,
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'refused'; end $$;
         create trigger refusing before insert on item for each row execute function refuse();
         alter table item enable always trigger refusing",
        "insert into item values (7)",
        "trigger_error",
        "P0001",
    );
    assert!(row.text("finding").contains("refused"), "{row:#?}");
    let mend = commented(&row, "ALTER TABLE").replace("<trigger>", "refusing");
    let (statement, _) = mend.split_once(';').unwrap_or((&mend, ""));
    pair.on_subscriber(statement);
    assert_goes_on(&pair);
}

/// It works in psql.
#[test]
fn function_that_relies_on_the_search_path() {
    let pair = streaming();
    let row = fail(
        &pair,
        "create table log (id int);
         create function note_id() returns trigger language plpgsql as $$ begin insert into log values (new.id); return new; end $$;
         create trigger noting before insert on item for each row execute function note_id();
         alter table item enable always trigger noting",
        "insert into item values (7)",
        "trigger_error",
        "42P01",
    );
    assert!(row.text("remedy").contains("empty search_path"), "{row:#?}");
    pair.on_subscriber("alter function note_id() set search_path = public");
    assert_goes_on(&pair);
    let noted: i64 = pair
        .subscriber()
        .query_one_value(pair.database(), "select count(*) from log where id = 7");
    assert_eq!(noted, 1);
}

/// What its triggers write goes through the executor, which heeds it.
fn read_only(forbid: &str, allow: impl FnOnce(&Pair, &Row)) {
    let pair = streaming();
    let row = fail(
        &pair,
        &format!(
            "create table log (id int);
             create function note_id() returns trigger language plpgsql as $$ begin insert into public.log values (new.id); return new; end $$;
             create trigger noting before insert on item for each row execute function note_id();
             alter table item enable always trigger noting;
             {forbid};
             select pg_reload_conf(), pg_terminate_backend(pid) from pg_stat_subscription"
        ),
        "insert into item values (7)",
        "read_only",
        "25006",
    );
    allow(&pair, &row);
    assert_goes_on(&pair);
}

#[test]
fn read_only_database() {
    read_only(
        "alter database shop set default_transaction_read_only = on",
        paste,
    );
}

#[test]
fn read_only_owner() {
    read_only(
        "alter role postgres set default_transaction_read_only = on",
        paste,
    );
}

#[test]
fn read_only_server() {
    let pair = streaming();
    pair.on_subscriber(
        "create table log (id int);
         create function note_id() returns trigger language plpgsql as $$ begin insert into public.log values (new.id); return new; end $$;
         create trigger noting before insert on item for each row execute function note_id();
         alter table item enable always trigger noting",
    );
    pair.subscriber().set("default_transaction_read_only", "on");
    pair.on_publisher("insert into item values (7)");
    let row = wait_found(Status::of(&pair), "retrying", "read_only");
    assert_found(&row, "critical", "deterministic", &["25006", "item"]);
    paste(&pair, &row);
    assert_goes_on(&pair);
}

/// A subscription whose owner is no superuser any more.
fn of_poor_owner() -> Pair {
    let pair = streaming();
    pair.on_subscriber("create role poor superuser login; alter subscription sub owner to poor");
    run_as_before_16(&pair);
    pair.on_subscriber("alter role poor nosuperuser");
    pair
}

/// Its workers run as the owner, and are not let in.
#[test]
fn owner_who_may_not_log_in() {
    let pair = streaming();
    pair.on_subscriber("create role poor superuser; alter subscription sub owner to poor");
    pair.on_publisher("insert into item values (7)");
    let row = wait_found(Status::of(&pair), "retrying", "permission_denied");
    assert_found(&row, "critical", "deterministic", &["28000", "poor"]);
    // Not: to change how to connect to the publisher.
    assert!(row.text("remedy").contains("ALTER ROLE"), "{row:#?}");
    pair.on_subscriber(&commented(&row, "ALTER ROLE"));
    assert_goes_on(&pair);
}

#[test]
fn owner_without_rights() {
    let pair = of_poor_owner();
    pair.on_publisher("insert into item values (7)");
    let row = wait_found(Status::of(&pair), "retrying", "permission_denied");
    assert_found(&row, "critical", "deterministic", &["42501", "item"]);
    paste(&pair, &row);
    assert_goes_on(&pair);
}

#[test]
fn row_security() {
    let pair = of_poor_owner();
    let row = fail(
        &pair,
        "grant all on item to poor; alter table item enable row level security",
        "insert into item values (7)",
        "row_security",
        "0A000",
    );
    mend(&pair, &row, "ALTER TABLE");
}

#[test]
fn table_that_is_missing() {
    let pair = streaming();
    pair.on_subscriber("drop table item");
    pair.on_publisher("insert into item values (7)");
    let row = wait_found(Status::of(&pair), "retrying", "table_missing");
    assert_found(&row, "critical", "deterministic", &["public.item"]);
    // As a shell reads it.
    let line = commented_line(&row, "pg_dump");
    let server = pair.subscriber().server();
    let quoted = |conninfo: String| format!("\"{conninfo}\"");
    let command = line
        .replace("<publisher>", &quoted(pair.publisher().conninfo("shop")))
        .replace("<here>", &quoted(pair.subscriber().conninfo("shop")));
    let path = server.program("pg_dump");
    let done = server
        .user()
        .command(std::path::Path::new("sh"))
        .args([
            "-c",
            &format!(
                "PATH={}:$PATH; {command}",
                path.parent().expect("a directory").display()
            ),
        ])
        .output()
        .expect("sh runs");
    assert!(done.status.success(), "{command}: {done:?}");
    paste(&pair, &row);
    assert_goes_on(&pair);
}

/// From that word to the end of the line.
#[track_caller]
fn commented_line(row: &Row, beginning: &str) -> String {
    let remedy = row.text("remedy");
    let start = remedy.find(beginning).expect("it is proposed");
    remedy[start..].lines().next().expect("a line").to_owned()
}

#[test]
fn column_that_is_missing() {
    let pair = streaming();
    let row = fail(
        &pair,
        "select",
        "alter table item add \"New one\" int; insert into item values (7, 'x', 8)",
        "column_missing",
        "55000",
    );
    mend_type(&pair, &row);
    pair.compare("table item order by id", "table item order by id");
}

#[track_caller]
fn mend_type(pair: &Pair, row: &Row) {
    pair.on_subscriber(&commented(row, "ALTER TABLE").replace("<type>", "int"));
    assert_goes_on(pair);
}

/// A table `item` of which the publisher sends another identity than the subscriber looks for.
#[test]
fn replica_identity_of_other_columns() {
    let pair = builder().start();
    pair.on_publisher(
        "create table item (id int primary key, note text not null unique);
         alter table item replica identity using index item_note_key",
    );
    pair.on_subscriber("create table item (id int primary key, note text not null unique)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item"));
    pair.on_publisher("insert into item values (1, 'a'), (2, 'b')");
    pair.subscribe();
    pair.wait_copied();
    let row = fail(
        &pair,
        "select",
        "update item set note = 'c' where id = 1",
        "replica_identity",
        "55000",
    );
    paste(&pair, &row);
    // It is for changes from then on.
    if pair.subscriber().server().major() >= 15 {
        pair.on_subscriber(&commented(&row, "ALTER SUBSCRIPTION"));
        pair.wait_caught_up();
        pair.on_publisher("update item set note = 'd' where id = 1");
        pair.wait_caught_up();
        assert_goes_on(&pair);
    }
}

#[test]
fn replica_identity_that_is_missing_here() {
    let pair = streaming();
    let row = fail(
        &pair,
        "alter table item drop constraint item_pkey",
        "update item set note = 'c' where id = 1",
        "replica_identity",
        "55000",
    );
    assert!(row.text("remedy").contains("primary key"), "{row:#?}");
    pair.on_subscriber("alter table item add primary key (id)");
    assert_goes_on(&pair);
}

/// The owner waits for locks no longer than that.
#[test]
fn lock_timeout() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.on_subscriber("alter role postgres in database shop set lock_timeout = '100ms'");
    pair.on_subscriber("select pg_terminate_backend(pid) from pg_stat_subscription");
    let lock = status::Lock::on_subscriber(&pair, "item");
    pair.on_publisher("insert into item values (7)");
    let row = wait_found(status, "retrying", "lock_wait");
    assert_found(&row, "warning", "transient", &["55P03"]);
    drop(lock);
    assert_goes_on(&pair);
}

/// The words for it have to stay while it goes on: each look finds the same.
#[test]
fn error_that_comes_again_is_counted_and_found_all_the_time() {
    let pair = streaming();
    let status = Status::of(&pair);
    fail(&pair, DUPLICATE.0, DUPLICATE.1, "duplicate_key", "23505");
    wait_until("it has failed ten times", DEFAULT_DEADLINE, || {
        let rows = crate::diagnose::found(status, "sub");
        assert!(
            rows.len() == 1
                && rows[0].is("cause", "duplicate_key")
                && rows[0].is("state", "retrying"),
            "{rows:#?}"
        );
        let occurrences = evidence(status, &rows[0], "error,occurrences").expect("is counted");
        occurrences.parse::<u32>().expect("a number") >= 10
    });
    let row = wait_found(status, "retrying", "duplicate_key");
    assert_found(
        &row,
        "critical",
        "deterministic",
        &["has failed", "times in"],
    );
}
