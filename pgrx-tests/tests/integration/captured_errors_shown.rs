//! Errors of several databases, languages and encodings, in `repl_errors`, and who may see them.

use postgres::error::SqlState;
use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, SUBSCRIPTION, wait_until};

use crate::captured_errors::{
    REFUSING_TRIGGER, assert_columns, assert_context, conflict_logged, errors, make_conflict, skip,
    wait_error, wait_sqlstate,
};
use crate::database::{Database, OWNER, STRANGER, create_roles};
use crate::status::{Status, builder, streaming, with_item};

/// A native subscription of a database, which shares its cluster with others.
#[track_caller]
fn subscribe_as(pair: &Pair, name: &str) {
    pair.on_subscriber(&format!(
        "create subscription {name} connection '{}' publication pub with (slot_name = '{name}')",
        pair.publisher().conninfo(pair.database())
    ));
}

#[test]
fn each_database_shows_its_own() {
    let shop = streaming(builder(Provider::Native).start());
    let stock = with_item(shop.beside(Provider::Native, "stock"));
    subscribe_as(&stock, "stock_sub");
    stock.on_subscriber("alter table item add check (id <> 5)");
    stock.wait_copied();
    make_conflict(&shop);
    stock.on_publisher("insert into item values (5)");
    let here = [
        (&shop, SUBSCRIPTION, "23505"),
        (&stock, "stock_sub", "23514"),
    ];
    for (pair, subscription, sqlstate) in here {
        wait_error(Status::of(pair), "its own error, repeated", |row| {
            row.is("sqlstate", sqlstate)
                && row.is("subscription", subscription)
                && row.number("occurrences") > 1.0
        });
    }
    for (pair, _, sqlstate) in here {
        let rows = errors(Status::of(pair));
        assert!(
            rows.iter().all(|row| row.is("sqlstate", sqlstate)),
            "{rows:#?}"
        );
        let written = "select count(*) from _repl_errors where error ->> 'sqlstate' <> ";
        let others: i64 = pair
            .subscriber()
            .query_one_value(pair.database(), &format!("{written} '{sqlstate}'"));
        assert_eq!(others, 0);
    }
}

#[test]
fn launcher_serves_all_databases() {
    let shop = builder(Provider::Native)
        .subscriber_setting("max_logical_replication_workers", "1")
        .subscriber_setting("max_sync_workers_per_subscription", "1")
        .start();
    let shop = with_item(shop);
    let stock = with_item(shop.beside(Provider::Native, "stock"));
    subscribe_as(&shop, "shop_sub");
    subscribe_as(&stock, "stock_sub");
    for pair in [&shop, &stock] {
        let row = wait_error(Status::of(pair), "a warning of the launcher", |row| {
            row.is("worker_kind", "launcher")
        });
        assert_columns(
            &row,
            &[
                ("sqlstate", "53400"),
                ("severity", "WARNING"),
                ("provider", "native"),
            ],
        );
        assert!(
            row.is_null("subscription") && row.is_null("relation_name"),
            "{row:#?}"
        );
        assert!(
            row.text("hint").contains("max_logical_replication_workers"),
            "{row:#?}"
        );
    }
}

/// Of the server's own translations; the locale is one of those that `scripts/setup.sh` makes.
const GERMAN: &str = "de_DE.UTF-8";

fn german() -> Pair {
    streaming(
        builder(Provider::Native)
            .subscriber_setting("lc_messages", GERMAN)
            .start(),
    )
}

#[test]
fn duplicate_key_in_german() {
    let pair = german();
    make_conflict(&pair);
    let row = wait_sqlstate(Status::of(&pair), "23505");
    let said = match pair.subscriber().server().major() {
        ..=17 => "doppelter Schlüsselwert verletzt",
        _ => "Konflikt entdeckt für Relation »public.item«",
    };
    assert!(row.text("message").contains(said), "{row:#?}");
    assert_columns(
        &row,
        &[
            ("relation_name", "public.item"),
            ("worker_kind", "apply"),
            ("severity", "ERROR"),
        ],
    );
    skip(&pair, &row);
}

#[test]
fn missing_table_in_german() {
    let pair = german();
    pair.on_subscriber("drop table item");
    pair.on_publisher("insert into item values (3)");
    let row = wait_sqlstate(Status::of(&pair), "55000");
    assert!(
        row.text("message")
            .contains("»public.item« existiert nicht"),
        "{row:#?}"
    );
    assert_columns(
        &row,
        &[("relation_name", "public.item"), ("worker_kind", "apply")],
    );
    if pair.subscriber().server().major() >= 15 {
        pair.on_subscriber(&format!(
            "alter subscription {SUBSCRIPTION} skip (lsn = '{}')",
            row.text("finish_lsn")
        ));
        pair.wait_caught_up();
    }
}

#[test]
fn trigger_that_raises_in_german() {
    let pair = german();
    pair.on_subscriber(REFUSING_TRIGGER);
    pair.on_publisher("update item set note = 'x' where id = 1");
    let row = wait_sqlstate(Status::of(&pair), "RW001");
    assert_columns(
        &row,
        &[("message", "refused"), ("relation_name", "public.item")],
    );
    assert_context(&row, &["»UPDATE«"]);
}

/// Sessions of clients, of which only those count that pglogical opens to copy.
#[test]
fn errors_of_clients_are_not_shown() {
    let pair = streaming(builder(Provider::Pglogical).start());
    let status = Status::of(&pair);
    for (role, application_name) in [
        ("origin", "psql"),
        ("origin", "sub_copy"),
        ("replica", "psql"),
        ("replica", "another_copy"),
        ("replica", "sub_copy"),
    ] {
        let mut client = pair.subscriber().connect(pair.database());
        client
            .batch_execute(&format!(
                "set session_replication_role = {role}; set application_name = '{application_name}'"
            ))
            .expect("a superuser may");
        client
            .batch_execute(&format!("select '{role} {application_name}'::int"))
            .expect_err("it is no number");
    }
    // The last.
    wait_error(status, "what seems to be a session of pglogical", |row| {
        row.is("worker_kind", "copy") && row.text("message").contains("replica sub_copy")
    });
    let others =
        status.rows("select * from repl_errors where message not like '%replica sub_copy%'");
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn only_monitors_may_read_errors() {
    let pair = streaming(builder(Provider::Native).start());
    create_roles(pair.subscriber());
    pair.on_subscriber("create role monitor login in role pg_monitor");
    make_conflict(&pair);
    wait_sqlstate(Status::of(&pair), "23505");
    let as_role = |role: &str, sql: &str| {
        let mut client = pair.subscriber().connect(pair.database());
        client
            .batch_execute(&format!("set session authorization {role}"))
            .expect("a superuser may");
        client.simple_query(sql).map_err(|error| {
            let answer = error.as_db_error().expect("an error of the server");
            answer.code().clone()
        })
    };
    let view = "select * from repl_errors";
    let answer = as_role("monitor", view).expect("a monitor may");
    assert!(answer.len() > 1, "{answer:?}");
    for (role, sql) in [
        (STRANGER, view),
        (OWNER, view),
        (STRANGER, "select * from _repl_errors"),
        (STRANGER, "select _repl_errors_in_memory()"),
        ("monitor", "select * from _repl_errors"),
        ("monitor", "delete from _repl_errors"),
        ("monitor", "delete from repl_errors"),
    ] {
        let refused = as_role(role, sql).expect_err(sql);
        let is_right = refused == SqlState::INSUFFICIENT_PRIVILEGE
            || (refused == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
                && sql == "delete from repl_errors");
        assert!(is_right, "{role}: {sql}: {refused:?}");
    }
}

#[test]
fn nothing_is_shown_where_the_library_is_not_preloaded() {
    let database = Database::new();
    database.error("select 1 / 0");
    assert_eq!(
        database.lines("select * from repl_errors"),
        Vec::<String>::new()
    );
    let pair = Pair::start(Provider::Native);
    let pair = streaming(pair);
    make_conflict(&pair);
    wait_until(
        "the subscriber's log has the error",
        DEFAULT_DEADLINE,
        || pair.subscriber().log().contains(conflict_logged(&pair)),
    );
    assert!(errors(Status::of(&pair)).is_empty());
}

/// `message` is what a trigger says, and `note` what the publisher sends.
fn database_with_encoding(encoding: &str, message: &str, note: &str) {
    let pair = with_item(builder(Provider::Native).start());
    let (cluster, name) = (pair.subscriber(), "other");
    cluster.execute(
        "postgres",
        &format!("create database {name} encoding '{encoding}' locale 'C' template template0"),
    );
    for sql in [
        "create extension replwarden",
        "create table item (id int primary key, note text)",
        &REFUSING_TRIGGER.replace("'refused'", &format!("'{message}: %', new.note")),
        &pair.subscribe_sql(false),
    ] {
        cluster.execute(name, sql);
    }
    pair.on_publisher(&format!("insert into item values (1, '{note}')"));
    let row = wait_sqlstate(Status::on(cluster, name), "RW001");
    assert_columns(
        &row,
        &[
            ("message", &format!("{message}: {note}")),
            ("relation_name", "public.item"),
        ],
    );
}

#[test]
fn database_with_encoding_of_one_byte() {
    database_with_encoding("LATIN1", "Größe", "übel");
}

#[test]
fn database_with_encoding_of_several_bytes() {
    database_with_encoding("EUC_JP", "エラー", "表");
}
