//! What `repl_preflight()` says of the copy, and of the rights that it and the changes after it need: native replication.

use crate::preflight_findings::Preflight;
use crate::preflight_tables::in_order;
use crate::since::run_as_before_16;

#[test]
fn rights_and_row_security() {
    let pair = in_order();
    pair.on_publisher(
        "create role \"the copier\" login replication; grant usage on schema sales to \"the copier\";
         grant select on all tables in schema sales, public to \"the copier\"",
    );
    let conninfo = format!(
        "{} user=''the copier''",
        pair.publisher()
            .conninfo(pair.database())
            .replace("user=postgres ", "")
    );
    let preflight = Preflight::before_as(&pair, &conninfo);
    preflight.assert_in_order();
    let limits = || {
        let mut lines = preflight.lines();
        lines.retain(|row| row.is("check_name", "sequence_limits"));
        lines
    };
    let unread = limits();
    assert_eq!(unread.len(), 1, "{unread:#?}");
    assert!(unread[0].is("severity", "info"), "{unread:#?}");
    assert_eq!(
        unread[0].text("finding"),
        "Not checked: the copier may not read 2 sequences there: sales.\"Order_id_seq\" and sales.customer_id_seq."
    );
    preflight.paste(&unread[0]);
    let read = limits();
    assert_eq!(read.len(), 1, "{read:#?}");
    assert!(
        read[0].is("severity", "ok")
            && read[0]
                .text("finding")
                .ends_with(" used (2 of them: none)."),
        "{read:#?}"
    );
    preflight.mended(
        ("revoke select on note from \"the copier\"", ""),
        ("error", "copy_rights"),
        &["the copier lacks SELECT on public.note there"],
    );
    preflight.mended(
        ("alter table note enable row level security", ""),
        ("error", "row_security"),
        &["public.note has row security there, and the copier does not bypass it"],
    );
    pair.on_publisher("revoke usage on schema sales from \"the copier\"");
    let found = preflight.findings();
    let denied: Vec<_> = found
        .iter()
        .filter(|row| row.is("check_name", "copy_rights"))
        .collect();
    assert_eq!(denied.len(), 2, "{found:#?}");
    preflight.paste(denied[0]);
    preflight.assert_in_order();
    // Here, of a subscription that no superuser owns.
    pair.on_subscriber("create role \"the owner\" superuser");
    pair.subscribe();
    pair.wait_copied();
    run_as_before_16(&pair);
    pair.on_subscriber(
        "alter subscription sub owner to \"the owner\"; alter role \"the owner\" nosuperuser",
    );
    let preflight = Preflight::of_subscription(&pair);
    let lacking = preflight.findings();
    let lacking: Vec<_> = lacking
        .iter()
        .filter(|row| row.is("check_name", "table_rights"))
        .collect();
    assert_eq!(lacking.len(), 3, "{lacking:#?}");
    pair.on_subscriber("grant usage on schema sales to \"the owner\"");
    for row in lacking {
        preflight.paste(row);
    }
    preflight.assert_in_order();
    preflight.mended(
        ("", "alter table note enable row level security"),
        ("error", "row_security"),
        &["public.note has row security here, and the owner"],
    );
}

#[test]
fn rows_of_the_subscriber() {
    let pair = in_order();
    let preflight = Preflight::before(&pair);
    let row = preflight.decided(
        ("", "insert into note values (1, 'here')"),
        ("warning", "target_rows"),
        &[
            "public.note has rows here, and its copy is to come",
            "duplicate key",
        ],
        ("", "truncate note"),
    );
    assert!(
        row.text("remedy").ends_with("TRUNCATE public.note;"),
        "{row:#?}"
    );
    // What was deleted is no row.
    pair.on_subscriber("insert into note values (1, 'here'); delete from note");
    preflight.assert_in_order();
    preflight.decided(
        ("", "create index of_city on sales.customer (city)"),
        ("info", "secondary_indexes"),
        &["1 index of 1 table"],
        ("", "drop index sales.of_city"),
    );
    // A subscription whose copy does not come to an end.
    pair.on_publisher("insert into note values (1, 'there')");
    pair.on_subscriber("insert into note values (1, 'here')");
    pair.subscribe();
    let findings = Preflight::of_subscription(&pair).findings();
    let rows: Vec<_> = findings
        .iter()
        .filter(|row| row.is("check_name", "target_rows"))
        .collect();
    assert_eq!(rows.len(), 1, "{findings:#?}");
    assert!(rows[0].is("severity", "error"), "{rows:#?}");
    pair.on_subscriber("truncate note");
    pair.wait_copied();
    let of_subscription = Preflight::of_subscription(&pair);
    of_subscription.assert_in_order();
    of_subscription.mended(
        (
            "create table late (id int primary key)",
            "create table late (id int primary key)",
        ),
        ("warning", "published_tables"),
        &["1 table published that the subscription does not know: public.late"],
    );
}
