//! What `repl_preflight()` says of tables that pglogical replicates.

use replwarden_tests::{Provider, Publication};

use crate::preflight_findings::Preflight;
use crate::status;

#[test]
fn what_pglogical_does_not_take() {
    let pair = status::builder(Provider::Pglogical).start();
    pair.on_both("create table item (id int primary key, code int not null, note text)");
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item"));
    let preflight = Preflight::before(&pair);
    preflight.assert_in_order();
    preflight.mended(
        ("alter table item replica identity full", ""),
        ("error", "replica_identity"),
        &["which pglogical does not support"],
    );
    preflight.mended(
        (
            "alter table item add constraint one unique (code)",
            "alter table item add constraint one unique (code) deferrable",
        ),
        ("error", "unique_constraints"),
        &["one of public.item is deferrable"],
    );
    preflight.mended(
        ("", "alter table item alter code type bigint"),
        ("error", "column_types"),
        &[
            "code is integer there and bigint here",
            "pglogical sends values in the form of their own type",
        ],
    );
    preflight.mended(
        (
            "create table \"it's missing\" (id int primary key);
             select pglogical.replication_set_add_table('default', '\"it''s missing\"')",
            "",
        ),
        ("error", "tables"),
        &["public.\"it's missing\" is published and not here"],
    );
    let row = preflight.broken(
        (
            "create table parted (id int primary key); select pglogical.replication_set_add_table('default', 'parted')",
            "create table parted (id int primary key) partition by range (id)",
        ),
        ("error", "generated_columns"),
        &["public.parted is a partitioned table here, which pglogical cannot write to"],
    );
    assert!(
        row.text("remedy")
            .contains("\n-- pglogical can write to partitions only"),
        "{row:#?}"
    );
    pair.on_subscriber("drop table parted; create table parted (id int primary key)");
    preflight.assert_in_order();
    pair.on_publisher("insert into item values (1, 1, 'one')");
    pair.subscribe();
    pair.wait_copied();
    let of_subscription = Preflight::of_subscription(&pair);
    of_subscription.assert_in_order();
    let late = "create table late (id int primary key)";
    of_subscription.mended(
        (
            &format!("{late}; select pglogical.replication_set_add_table('default', 'late')"),
            late,
        ),
        ("info", "published_tables"),
        &[
            "1 table published that the subscription does not know: public.late",
            "rows were not copied",
        ],
    );
}

/// Where pglogical is not installed there, nobody can tell what it replicates.
#[test]
fn check_that_cannot_run_says_so() {
    let pair = status::pair(Provider::Native);
    let conninfo = pair.publisher().conninfo(pair.database());
    let rows = status::Status::of(&pair).rows(&format!(
        "select * from repl_preflight('{conninfo}', '{{default}}', 'pglogical') where check_name = 'published_tables'"
    ));
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert!(rows[0].is("severity", "info"), "{rows:#?}");
    assert!(
        rows[0]
            .text("finding")
            .starts_with("Not checked: the publisher does not tell what it publishes"),
        "{rows:#?}"
    );
}
