//! What `repl_preflight()` says of generated columns, and that it is so.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, wait_for_value};

use crate::loan;
use crate::preflight_check::row_of;
use crate::preflight_findings::Preflight;
use crate::status;

const ERROR: (&str, &str) = ("error", "generated_columns");

fn loan_pair(provider: Provider, kind: &str) -> Pair {
    loan::pair_with(status::builder(provider).start(), kind)
}

#[test]
fn plain_column_of_a_native_pair_needs_a_rule() {
    let pair = loan_pair(Provider::Native, "text");
    let preflight = Preflight::before(&pair);
    let found = preflight.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0]
            .text("finding")
            .contains("loan_id of public.loan_app is generated there, and not sent"),
        "{found:#?}"
    );
    let lock = status::Lock::take(
        pair.publisher(),
        pair.database(),
        "loan_app",
        "access exclusive",
    );
    if pair.publisher().server().major() >= 16 {
        // pg_publication_tables itself waits for the lock.
        let rows = crate::preflight_check::Preflight::before(&pair).rows();
        let row = row_of(&rows, "published_tables");
        assert!(row.text("finding").starts_with("Not checked:"), "{row:#?}");
    } else {
        let unread = preflight.findings();
        assert_eq!(unread.len(), 1, "{unread:#?}");
        assert!(
            unread[0].is("severity", "error")
                && unread[0]
                    .text("finding")
                    .contains("Its expression could not be read")
                && !unread[0].text("remedy").contains("repl_set_expression"),
            "{unread:#?}"
        );
        preflight.paste(&unread[0]);
    }
    drop(lock);
    wait_for_value(
        "the expression is read again",
        DEFAULT_DEADLINE,
        || preflight.findings(),
        |again| *again == found,
    );
    preflight.paste(&found[0]);
    preflight.assert_in_order();
    loan::insert(&pair, 1, 10);
    pair.subscribe();
    pair.wait_copied();
    loan::insert(&pair, 11, 20);
    loan::assert_all_right(&pair);
    Preflight::of_subscription(&pair).assert_in_order();
}

#[test]
fn native_pair_computes_it_itself() {
    let pair = loan_pair(
        Provider::Native,
        &format!("text generated always as ({}) stored", loan::EXPRESSION),
    );
    let preflight = Preflight::before(&pair);
    preflight.assert_in_order();
    let lines = preflight.lines();
    let row = lines
        .iter()
        .find(|row| row.is("check_name", "generated_columns"))
        .expect("a line");
    assert!(
        row.text("finding")
            .starts_with("1 generated column computed here"),
        "{row:#?}"
    );
    loan::insert(&pair, 1, 10);
    pair.subscribe();
    pair.wait_copied();
    loan::assert_all_right(&pair);
}

#[test]
fn column_that_is_sent_and_generated_here() {
    let pair = loan_pair(Provider::Native, "text generated always as ('x') stored");
    pair.on_publisher("drop publication pub; create publication pub for all tables");
    let preflight = Preflight::before(&pair);
    preflight.assert_in_order();
    preflight.mended(
        (
            "create table \"it's\" (id int primary key, \"a b\" int)",
            "create table \"it's\" (id int primary key, \"a b\" int generated always as (id * 2) stored)",
        ),
        ERROR,
        &["a b of public.\"it's\" is a plain column there and generated here"],
    );
}

#[test]
fn pglogical_would_crash() {
    let kind = format!("text generated always as ({}) stored", loan::EXPRESSION);
    let pair = loan_pair(Provider::Pglogical, &kind);
    let preflight = Preflight::before(&pair);
    let found = preflight.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].is("severity", "error")
            && found[0]
                .text("finding")
                .contains("crash pglogical's apply worker"),
        "{found:#?}"
    );
    preflight.paste(&found[0]);
    preflight.assert_in_order();
    loan::insert(&pair, 1, 10);
    pair.subscribe();
    pair.wait_copied();
    loan::insert(&pair, 11, 20);
    loan::assert_all_right(&pair);
    Preflight::of_subscription(&pair).assert_in_order();
    assert!(!pair.subscriber().log().contains("was terminated by signal"));
}

#[test]
fn pglogical_cannot_copy_it() {
    let pair = loan_pair(Provider::Pglogical, "text");
    loan::set_rule(&pair, loan::EXPRESSION, "fail");
    let preflight = Preflight::before(&pair);
    preflight.assert_in_order();
    let found = preflight.all_broken(
        (
            "select pglogical.replication_set_remove_table('default', 'loan_app');
             select pglogical.replication_set_add_table('default', 'loan_app', row_filter := $$note is distinct from 'it''s'$$)",
            "",
        ),
        &[ERROR, ("info", "row_filters")],
    );
    assert!(
        found[0]
            .text("finding")
            .contains("Generated columns cannot be used in COPY"),
        "{found:#?}"
    );
    preflight.paste(&found[0]);
    preflight.assert_in_order();
    // The filter is still there.
    pair.on_publisher("insert into loan_app (userid, note) values (1, 'it''s'), (2, 'kept')");
    pair.subscribe();
    pair.wait_copied();
    pair.compare(
        "select id, loan_id from loan_app where note = 'kept'",
        "select id, loan_id from loan_app",
    );
}

/// In the set, though it cannot be copied, and generated here: there has to be a rule when it comes no longer.
#[test]
fn column_in_the_set_of_pglogical_that_is_generated_on_both_sides() {
    let kind = format!("text generated always as ({}) stored", loan::EXPRESSION);
    let pair = loan_pair(Provider::Pglogical, &kind);
    pair.on_publisher(
        "select pglogical.replication_set_remove_table('default', 'loan_app');
         select pglogical.replication_set_add_table('default', 'loan_app', row_filter := 'true')",
    );
    let preflight = Preflight::before(&pair);
    for finding in preflight.findings() {
        if !finding.is("severity", "info") {
            preflight.paste(&finding);
        }
    }
    assert!(
        preflight
            .findings()
            .iter()
            .all(|finding| finding.is("severity", "info"))
    );
    loan::insert(&pair, 1, 10);
    pair.subscribe();
    pair.wait_copied();
    loan::insert(&pair, 11, 20);
    loan::assert_all_right(&pair);
}

#[test]
fn names_that_need_quotes() {
    let pair = status::builder(Provider::Pglogical).start();
    let table = "\"it's\".\"T \"\"able\"";
    let columns = "\"the 'Id'\" int primary key, \"B, {b}\" text";
    let generated = "generated always as (\"B, {b}\" || 'it''s') stored";
    pair.on_both("create schema \"it's\"");
    pair.on_publisher(&format!(
        "create table {table} ({columns}, \"g'\" text {generated})"
    ));
    pair.on_subscriber(&format!(
        "create table {table} ({columns}, \"g'\" text {generated})"
    ));
    pair.on_subscriber("create extension replwarden");
    pair.on_publisher(
        "select pglogical.create_replication_set('a \"set\"'); \
         select pglogical.replication_set_add_table('a \"set\"', '\"it''s\".\"T \"\"able\"', row_filter := $$\"B, {b}\" <> 'x''y'$$)",
    );
    let conninfo = pair.publisher().conninfo(pair.database());
    let call = format!("repl_preflight('{conninfo}', array['a \"set\"'], 'pglogical')");
    let preflight = Preflight::asked(&pair, &call);
    // Both sides compute it, and neither of them copies it.
    for said in [
        "is published as generated",
        "Generated columns cannot be used in COPY",
    ] {
        let found = preflight.findings();
        let row = found.iter().find(|row| row.text("finding").contains(said));
        preflight.paste(row.unwrap_or_else(|| panic!("{said}: {found:#?}")));
    }
    preflight.assert_in_order();
}
