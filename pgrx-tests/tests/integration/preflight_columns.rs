//! What `repl_preflight()` says of columns, keys, constraints and triggers that do not fit: native replication.

use crate::preflight_findings::Preflight;
use crate::preflight_tables::in_order;

#[test]
fn columns_that_do_not_fit() {
    let pair = in_order();
    let preflight = Preflight::before(&pair);
    preflight.mended(
        ("alter table note add \"it's new\" varchar(7)", ""),
        ("error", "columns"),
        &["it's new of public.note is published and not here"],
    );
    let before = preflight.findings();
    let row = preflight.broken(
        ("", "alter table note rename body to text"),
        ("error", "columns"),
        &[
            "body of public.note is published and not here",
            "text has the type of body",
        ],
    );
    let (_, rename) = row
        .text("remedy")
        .split_once("renamed: ")
        .expect("a choice");
    let (rename, _) = rename.split_once(';').expect("a statement");
    pair.on_subscriber(rename);
    assert_eq!(preflight.findings(), before);
    preflight.mended(
        ("", "alter table note add must int not null"),
        ("error", "columns"),
        &["must of public.note is NOT NULL without a default here"],
    );
    pair.on_subscriber("alter table note add may int not null default 7");
    preflight.assert_in_order();
    let narrow = ("warning", "column_types");
    for (there, here) in [
        ("bigint", "integer"),
        ("varchar(10)", "varchar(5)"),
        ("timestamp without time zone", "timestamptz"),
        ("numeric(12, 4)", "numeric(12, 2)"),
    ] {
        let create = |ty: &str| format!("create table typed (id int primary key, value {ty})");
        preflight.mended(
            (&create(there), &create(here)),
            narrow,
            &["public.typed.value"],
        );
        pair.on_both("drop table typed");
    }
    preflight.mended(
        (
            "create table typed (id int primary key, value boolean)",
            "create table typed (id int primary key, value date)",
        ),
        ("error", "column_types"),
        &["is boolean there and date here"],
    );
    preflight.decided(
        (
            "create table wider (id int primary key, value int)",
            "create table wider (id int primary key, value bigint)",
        ),
        ("info", "column_types"),
        &["every value fits"],
        ("", "alter table wider alter value type int"),
    );
    preflight.mended(
        ("", "alter table note alter body set not null"),
        ("warning", "not_null"),
        &["body of public.note is NOT NULL here and not there"],
    );
    preflight.decided(
        ("", "alter table note alter body type text collate \"C\""),
        ("info", "collations"),
        &["the database's own there and pg_catalog.\"C\" here"],
        (
            "",
            "alter table note alter body type text collate \"default\"",
        ),
    );
    preflight.mended(
        ("", "alter table sales.\"Order\" alter id drop default; drop sequence sales.\"Order_id_seq\""),
        ("warning", "sequences"),
        &["sales.\"Order\".id takes its values from sales.\"Order_id_seq\" there"],
    );
    preflight.mended(
        ("", "alter table sales.customer alter id drop identity"),
        ("warning", "sequences"),
        &["sales.customer.id"],
    );
    preflight.mended(
        ("create sequence sales.\"Invoice no\"", ""),
        ("warning", "sequences"),
        &["1 sequence of the schemas of published tables, which no column there uses, not here: \"sales\".\"Invoice no\""],
    );
    preflight.decided(
        ("select setval('sales.\"Order_id_seq\"', 1); create table small (id serial primary key); select setval('small_id_seq', 2000000000)",
         "create table small (id serial primary key)"),
        ("warning", "sequence_limits"),
        &["has given 2000000000, 93 % of the 2147483647 that id can hold"],
        ("drop table small", "drop table small"),
    );
}

#[test]
fn rows_that_cannot_be_found() {
    let pair = in_order();
    pair.on_both("create table thing (id int primary key, code int not null unique, note text)");
    let preflight = Preflight::before(&pair);
    let row = preflight.broken(
        (
            "create table keyless (id int, note text)",
            "create table keyless (id int, note text)",
        ),
        ("error", "replica_identity"),
        &["public.keyless has neither primary key nor replica identity there"],
    );
    preflight.paste(&row);
    preflight.assert_in_order();
    preflight.mended(
        ("alter table thing replica identity nothing", ""),
        ("error", "replica_identity"),
        &["public.thing has neither primary key nor replica identity there"],
    );
    preflight.mended(
        ("alter table thing replica identity full", ""),
        ("info", "replica_identity"),
        &["has REPLICA IDENTITY FULL there"],
    );
    preflight.mended(
        ("", "alter table thing drop constraint thing_pkey"),
        ("error", "identity_index"),
        &["public.thing has neither primary key nor replica identity index here"],
    );
    preflight.mended(
        (
            "",
            "alter table thing replica identity using index thing_code_key",
        ),
        ("error", "identity_index"),
        &["looked up by thing_code_key here (code), of which the publisher does not send code"],
    );
    preflight.mended(
        (
            "",
            "alter table thing drop constraint thing_pkey, add primary key (id) deferrable",
        ),
        ("error", "identity_index"),
        &["public.thing has neither primary key nor replica identity index here"],
    );
    preflight.mended(
        (
            "alter table thing replica identity using index thing_code_key",
            "",
        ),
        ("error", "identity_index"),
        &["looked up by thing_pkey here (id), of which the publisher does not send id"],
    );
    pair.on_both("alter table thing replica identity default");
    preflight.mended(
        (
            "alter table thing add other int not null, add constraint others unique (other);
             alter table thing replica identity using index others",
            "alter table thing add other int",
        ),
        ("error", "identity_index"),
        &["of which the publisher does not send id"],
    );
    pair.on_both("alter table thing replica identity default");
    pair.on_publisher("alter table thing replica identity full");
    pair.on_subscriber(
        "alter table thing drop constraint thing_pkey, drop constraint thing_code_key",
    );
    preflight.mended(
        ("", "alter table thing add extra int default 7"),
        ("error", "silent_loss"),
        &[
            "UPDATE and DELETE on public.thing are lost without a word",
            "extra has a value",
        ],
    );
}

#[test]
fn large_table_that_is_read_for_each_row() {
    let pair = in_order();
    let preflight = Preflight::before(&pair);
    let found = preflight.all_broken(
        (
            "create table large (id int primary key, note text);
             alter table large replica identity full;
             insert into large select n, 'row' from generate_series(1, 400000) n;
             analyze large",
            "create table large (id int, note text)",
        ),
        &[("warning", "identity_index"), ("info", "replica_identity")],
    );
    let finding = found[0].text("finding");
    assert!(
        finding.contains("for each changed row the whole table is read"),
        "{finding}"
    );
    preflight.paste(&found[0]);
    preflight.assert_in_order();
    preflight.paste(&found[1]);
    assert!(!preflight.findings().contains(&found[1]));
}

#[test]
fn constraints_and_triggers_of_the_subscriber() {
    let pair = in_order();
    let preflight = Preflight::before(&pair);
    preflight.decided(
        (
            "",
            "alter table note add constraint \"one of a kind\" unique (body)",
        ),
        ("warning", "unique_constraints"),
        &["one of a kind (body) of public.note has no counterpart there"],
        ("", "alter table note drop constraint \"one of a kind\""),
    );
    pair.on_both("create unique index lower_body on note (lower(body)) where body <> ''");
    preflight.assert_in_order();
    pair.on_subscriber(
        "create function nothing() returns trigger language plpgsql as 'begin return new; end';
         create trigger \"it's one\" before insert on note for each row execute function nothing()",
    );
    preflight.assert_in_order();
    preflight.mended(
        ("", "alter table note enable always trigger \"it's one\""),
        ("warning", "triggers"),
        &["Trigger it's one of public.note is ENABLE ALWAYS here"],
    );
    let unpublished = "create table unpublished (id int primary key)";
    pair.on_both(unpublished);
    pair.on_publisher("drop publication pub; create publication pub for table note, sales.customer, sales.\"Order\"");
    preflight.decided(
        (
            "",
            "alter table note add constraint other foreign key (id) references unpublished",
        ),
        ("warning", "foreign_keys"),
        &["other of public.note refers to public.unpublished, which is not published"],
        ("", "alter table note drop constraint other"),
    );
    let row = preflight.broken(
        (
            "",
            "alter table unpublished add constraint other foreign key (id) references note",
        ),
        ("warning", "inbound_foreign_keys"),
        &["a TRUNCATE that is replicated fails here"],
    );
    assert!(
        row.text("remedy")
            .ends_with("SELECT repl_detach_foreign_keys('public.note');"),
        "{row:#?}"
    );
}

/// Whatever names are like, what is said can be shown, and what is to be done can be pasted.
#[test]
fn names_that_need_quotes() {
    let pair = in_order();
    let table = "\"it's \"\"odd\"\"\".\"T; --able $$ {}\"";
    pair.on_both("create schema \"it's \"\"odd\"\"\"");
    let create = format!(
        "create table {table} (\"the 'Id'\" int primary key, \"B \"\"b\" varchar(9), code int not null unique)"
    );
    pair.on_both(&create);
    pair.on_subscriber(
        "create function nothing() returns trigger language plpgsql as 'begin return new; end'",
    );
    let preflight = Preflight::before(&pair);
    preflight.assert_in_order();
    let alter = |what: &str| format!("alter table {table} {what}");
    let (error, warning) = ("error", "warning");
    for (there, here, kind) in [
        (
            "add \"new 'one'\" text collate \"C\"",
            "",
            (error, "columns"),
        ),
        (
            "",
            "add \"must \"\"be\"\"\" int not null",
            (error, "columns"),
        ),
        (
            "",
            "alter \"B \"\"b\" type varchar(5)",
            (warning, "column_types"),
        ),
        ("", "alter \"B \"\"b\" set not null", (warning, "not_null")),
        (
            "add \"G 'g'\" text generated always as (\"B \"\"b\" || 'it''s') stored",
            "add \"G 'g'\" text",
            (error, "generated_columns"),
        ),
        (
            "add \"H 'h'\" int",
            "add \"H 'h'\" int generated always as (7) stored",
            (error, "generated_columns"),
        ),
        ("replica identity nothing", "", (error, "replica_identity")),
        (
            "",
            "replica identity using index \"T; --able $$ {}_code_key\"",
            (error, "identity_index"),
        ),
    ] {
        let sql = |what: &str| {
            if what.is_empty() {
                String::new()
            } else {
                alter(what)
            }
        };
        preflight.mended((&sql(there), &sql(here)), kind, &[]);
    }
    preflight.mended(
        (
            "",
            &format!(
                "create trigger \"t 'x' \"\"y\"\"\" before insert on {table} for each row execute function nothing();
                 {}",
                alter("enable always trigger \"t 'x' \"\"y\"\"\"")
            ),
        ),
        (warning, "triggers"),
        &["t 'x' \"y\""],
    );
    preflight.mended(
        ("", &alter("drop constraint \"T; --able $$ {}_pkey\"")),
        (error, "identity_index"),
        &[],
    );
    preflight.mended(("", &format!("drop table {table}")), (error, "tables"), &[]);
    let breaks_lines = "create table \"a\nb\" (\"c\nd\" int primary key, \"e\nf\" text)";
    pair.on_both(breaks_lines);
    preflight.assert_in_order();
    let row = preflight.broken(
        ("", "alter table \"a\nb\" alter \"e\nf\" set not null"),
        (warning, "not_null"),
        &["e?f of public.\"a?b\" is NOT NULL here"],
    );
    assert!(
        row.text("remedy")
            .ends_with("\n-- its name holds control characters: rename it before anything else"),
        "{row:#?}"
    );
}
