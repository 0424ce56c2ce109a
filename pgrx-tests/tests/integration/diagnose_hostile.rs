//! Names and texts of those who mean harm, in findings and remedies: whoever pastes one runs nothing of theirs.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, wait_until};

use crate::diagnose::{builder, commented, found, paste, streaming, wait_found, wait_found_of};
use crate::status::{self, Row, Status};

/// As SQL has it, quoted.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A second subscription, which copies nothing.
#[track_caller]
fn subscribe(pair: &Pair, name: &str, slot: &str) {
    pair.on_publisher(&format!(
        "select pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    ));
    pair.on_publisher(&format!("create publication {slot}"));
    pair.on_subscriber(&format!(
        "create subscription {} connection '{}' publication {slot}
           with (connect = false, slot_name = '{slot}')",
        identifier(name),
        pair.publisher().conninfo(pair.database())
    ));
}

#[track_caller]
fn assert_untouched(pair: &Pair) {
    let rows: i64 = pair
        .subscriber()
        .query_one_value(pair.database(), "select count(*) from item");
    assert!(rows >= 2);
}

const ODD: [&str; 4] = [
    "o'dd \"x\"; drop table item; --",
    "\\'; drop table item; --",
    "$$ -- on the publisher",
    "/* ",
];

#[test]
fn odd_names_of_subscriptions_are_quoted_in_remedies() {
    let pair = streaming();
    let status = Status::of(&pair);
    for (number, name) in ODD.iter().enumerate() {
        subscribe(&pair, name, &format!("odd{number}"));
        let row = wait_found_of(status, name, "disabled", "disabled");
        // Not by `paste`, which reads comments.
        pair.on_subscriber(row.text("remedy"));
        status.wait_named(name, "streams", |row| row.is("state", "streaming"));
        // Ends it, too.
        pair.on_publisher(&format!("drop publication odd{number}"));
        pair.on_subscriber(&format!("alter subscription {} disable", identifier(name)));
        wait_until("nobody reads the slot", DEFAULT_DEADLINE, || {
            pair.publisher().query_one_value::<bool>(
                pair.database(),
                &format!(
                    "select not active from pg_replication_slots where slot_name = 'odd{number}'"
                ),
            )
        });
        pair.on_publisher(&format!("select pg_drop_replication_slot('odd{number}')"));
        pair.on_subscriber(&format!("alter subscription {} enable", identifier(name)));
        let row = wait_found_of(status, name, "retrying", "slot_missing");
        for line in row.text("remedy").lines() {
            pair.on_subscriber(line);
        }
        assert_eq!(
            status.subscriptions().len(),
            1,
            "{:#?}",
            status.subscriptions()
        );
    }
    assert_untouched(&pair);
}

#[test]
fn names_with_control_characters_are_in_no_remedy() {
    let pair = streaming();
    let status = Status::of(&pair);
    for (number, name) in ["a\ndrop table item; --", "b\r\u{1b}[31mc", "c\u{85}d"]
        .iter()
        .enumerate()
    {
        subscribe(&pair, name, &format!("odd{number}"));
        let row = wait_found_of(status, name, "disabled", "disabled");
        assert_eq!(
            row.text("remedy"),
            "-- its name holds control characters: rename it before anything else"
        );
        pair.on_subscriber(&format!("alter subscription {} enable", identifier(name)));
        pair.on_publisher(&format!("drop publication odd{number}"));
        status.wait_looked();
        // Whatever is found, `found` looks at each line.
        for row in found(status, name) {
            assert!(row.get("remedy").is_none_or(|text| text.starts_with("--")));
        }
        pair.on_subscriber(&format!(
            "alter subscription {name} disable; alter subscription {name} set (slot_name = none); drop subscription {name}",
            name = identifier(name)
        ));
    }
    assert_untouched(&pair);
}

/// What a trigger says, or a publisher relays, stays in its line.
#[test]
fn words_of_an_error_stay_in_their_line() {
    let pair = streaming();
    let status = Status::of(&pair);
    pair.on_subscriber(
        r#"create function refuse() returns trigger language plpgsql as $$
               begin raise exception E'no\ndrop table item; --\r\u202Egnp' using detail = E'Key (id)=(1\n); drop table item; --)'; end $$;
           create trigger refusing before insert on item for each row execute function refuse();
           alter table item enable always trigger refusing"#,
    );
    pair.on_publisher("insert into item values (7)");
    let row = wait_found(status, "retrying", "trigger_error");
    assert!(
        row.text("finding").contains("no drop table item"),
        "{row:#?}"
    );
    assert!(!row.text("finding").contains('\u{202E}'), "{row:#?}");
    paste(&pair, &row);
    assert_untouched(&pair);
}

/// The remedy for a row that is in the way is made from what the server says of it, which is made from the row.
fn conflict_of(value: &str, sqlstate_cause: &str) -> (Pair, Row) {
    let pair = status::streaming(builder().start());
    pair.on_both("create table odd (note text primary key)");
    pair.on_publisher("alter publication pub add table odd");
    pair.on_subscriber("alter subscription sub refresh publication");
    pair.wait_copied();
    let insert = format!("insert into odd values ({value})");
    pair.on_subscriber(&insert);
    pair.on_publisher(&insert);
    let row = wait_found(Status::of(&pair), "retrying", sqlstate_cause);
    (pair, row)
}

#[test]
fn value_with_quotes_is_quoted() {
    let (pair, row) = conflict_of("'''; drop table item; --'", "duplicate_key");
    pair.on_subscriber(&commented(&row, "DELETE FROM"));
    pair.wait_caught_up();
    assert_untouched(&pair);
}

#[test]
fn value_with_a_backslash_is_quoted() {
    let (pair, row) = conflict_of(r"'\''; drop table item; --'", "duplicate_key");
    pair.on_subscriber(&commented(&row, "DELETE FROM"));
    pair.wait_caught_up();
    assert_untouched(&pair);
}

#[test]
fn value_with_lines_is_not_in_the_remedy() {
    let (pair, row) = conflict_of(r"E'a\ndrop table item; --'", "duplicate_key");
    assert!(!row.text("remedy").contains("drop table"), "{row:#?}");
    paste(&pair, &row);
    assert_untouched(&pair);
}

/// Of several columns, nobody can tell which value is whose.
#[test]
fn value_that_looks_like_two_is_not_in_the_remedy() {
    let pair = status::streaming(builder().start());
    pair.on_both("create table odd (a text, b text, primary key (a, b))");
    pair.on_publisher("alter publication pub add table odd");
    pair.on_subscriber("alter subscription sub refresh publication");
    pair.wait_copied();
    pair.on_subscriber("insert into odd values ('x, y', 'z')");
    pair.on_publisher("insert into odd values ('x, y', 'z')");
    let row = wait_found(Status::of(&pair), "retrying", "duplicate_key");
    assert!(!row.text("remedy").contains("DELETE FROM"), "{row:#?}");
}

/// A table whose name comes from the publisher.
#[test]
fn odd_names_of_tables_are_quoted_or_left_out() {
    for name in ["o'dd\"; drop table item; --", "$(touch /tmp/x) `x`", "a\nb"] {
        let pair = streaming();
        let status = Status::of(&pair);
        let table = identifier(name);
        pair.on_both(&format!(
            "create table {table} (id int primary key, note text)"
        ));
        pair.on_publisher(&format!("alter publication pub add table {table}"));
        pair.on_subscriber("alter subscription sub refresh publication");
        pair.wait_copied();
        pair.on_subscriber(&format!("alter table {table} alter note set not null"));
        pair.on_publisher(&format!("insert into {table} values (1)"));
        let row = wait_found(status, "retrying", "not_null_violation");
        if name.contains('\n') {
            assert!(row.text("remedy").contains("the table"), "{row:#?}");
            pair.on_subscriber(&format!("alter table {table} alter note drop not null"));
        } else {
            // Behind a name with quotes, nobody can tell which word of the message is the column.
            pair.on_subscriber(&commented(&row, "ALTER TABLE").replace("<column>", "note"));
        }
        pair.wait_caught_up();
        pair.on_subscriber(&format!("drop table {table}"));
        pair.on_publisher(&format!("insert into {table} values (2)"));
        let row = wait_found(status, "retrying", "table_missing");
        assert!(!row.text("remedy").contains("touch"), "{row:#?}");
        assert_untouched(&pair);
    }
}
