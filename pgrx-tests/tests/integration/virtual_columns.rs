//! Virtual generated columns, which came with 18.

use replwarden_tests::{Pair, Provider};

use crate::database::Database;
use crate::loan;
use crate::preflight_findings::Preflight;
use crate::since::since;
use crate::status;

const WHAT: &str = "virtual generated columns";

/// The publisher's `loan_id` is virtual, which cannot be sent.
fn pair(provider: Provider, kind: &str) -> Pair {
    let pair = loan::pair_with(status::builder(provider).start(), kind);
    pair.on_publisher(&format!(
        "alter table loan_app drop column loan_id;
         alter table loan_app add column loan_id text generated always as ({}) virtual",
        loan::EXPRESSION
    ));
    pair
}

fn plain_column_needs_a_rule(provider: Provider) {
    if !since(18, WHAT) {
        return;
    }
    let pair = pair(provider, "text");
    if provider == Provider::Native {
        pair.on_publisher("alter publication pub set (publish_generated_columns = stored)");
    }
    let before = Preflight::before(&pair);
    let found = before.findings();
    let row = found
        .iter()
        .find(|row| row.is("check_name", "generated_columns"))
        .unwrap_or_else(|| panic!("{found:#?}"));
    assert!(row.is("severity", "error"), "{row:#?}");
    before.paste(row);
    before.assert_in_order();
    loan::insert(&pair, 1, 10);
    pair.subscribe();
    pair.wait_copied();
    loan::insert(&pair, 11, 20);
    loan::assert_all_right(&pair);
}

loan::on_both_providers!(plain_column_needs_a_rule);

/// Native replication leaves it to each side, also beside a rule.
#[test]
fn virtual_column_here_and_a_rule() {
    if !since(18, WHAT) {
        return;
    }
    let kind = format!("text generated always as ({}) virtual", loan::EXPRESSION);
    let pair = pair(Provider::Native, &kind);
    pair.on_subscriber(
        "alter table loan_app add column twice numeric;
         select repl_set_expression('loan_app', 'twice', 'amount * 2')",
    );
    Preflight::before(&pair).assert_in_order();
    loan::insert(&pair, 1, 10);
    pair.subscribe();
    pair.wait_copied();
    loan::insert(&pair, 11, 20);
    pair.on_publisher("update loan_app set userid = 7, amount = amount + 1 where id % 2 = 0");
    pair.wait_caught_up();
    pair.compare(
        "select *, amount * 2 from loan_app order by id",
        "select id, userid, amount, note, loan_id, twice from loan_app order by id",
    );
    // Values that a rule brings to rows that are there, without those that no row holds.
    pair.on_subscriber("select repl_drop_expression('loan_app', 'twice')");
    pair.on_subscriber("select repl_set_expression('loan_app', 'twice', 'amount * 3')");
    let backfilled =
        "select not exists (select from repl_backfills where state in ('queued', 'running'))";
    replwarden_tests::wait_until(
        "the backfill is done",
        replwarden_tests::DEFAULT_DEADLINE,
        || {
            pair.subscriber()
                .query_one_value(pair.database(), backfilled)
        },
    );
    pair.compare(
        "select *, amount * 3 from loan_app order by id",
        "select id, userid, amount, note, loan_id, twice from loan_app order by id",
    );
    let wrong = status::Status::of(&pair).rows("select * from repl_verify('loan_app')");
    assert!(
        wrong[0].is("rows_wrong", "0") && wrong[0].is("rows_checked", "20"),
        "{wrong:#?}"
    );
}

/// A virtual column here that the publisher has as a plain one, and sends.
#[test]
fn virtual_column_does_not_take_what_comes() {
    if !since(18, WHAT) {
        return;
    }
    let pair = pair(
        Provider::Native,
        "text generated always as ('x' || id) virtual",
    );
    pair.on_publisher(
        "alter table loan_app drop column loan_id; alter table loan_app add column loan_id text",
    );
    let before = Preflight::before(&pair);
    let found = before.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].is("severity", "error")
            && found[0]
                .text("finding")
                .contains("is a plain column there and generated here"),
        "{found:#?}"
    );
    before.paste(&found[0]);
    before.assert_in_order();
    pair.on_publisher("insert into loan_app (userid, loan_id) values (1, 'sent')");
    pair.subscribe();
    pair.wait_copied();
    loan::assert_all_right(&pair);
}

#[test]
fn what_cannot_be_done_with_one() {
    if !since(18, WHAT) {
        return;
    }
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, doubled int generated always as (a * 2) virtual, b int)",
    );
    for (sql, code) in [
        (
            "select repl_set_expression('item', 'doubled', 'a')",
            "0A000",
        ),
        (
            "select repl_set_expression('item', 'b', 'doubled')",
            "42P10",
        ),
        ("select repl_adopt_generated('item', 'doubled')", "0A000"),
    ] {
        let error = database.error(sql);
        assert_eq!(error.code().code(), code, "{sql}: {error:?}");
        assert!(
            error.detail().is_some() && error.hint().is_some(),
            "{sql}: {error:?}"
        );
    }
    // All that there are: none of the kind that can.
    assert!(
        database
            .lines("select repl_adopt_generated('item')")
            .is_empty()
    );
}

/// As one that is stored would.
#[test]
fn pglogical_is_told_to_crash_on_it() {
    if !since(18, WHAT) {
        return;
    }
    let kind = format!("text generated always as ({}) virtual", loan::EXPRESSION);
    let pair = pair(Provider::Pglogical, &kind);
    let before = Preflight::before(&pair);
    let found = before.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].is("severity", "error")
            && found[0]
                .text("finding")
                .contains("crash pglogical's apply worker"),
        "{found:#?}"
    );
    // Without the way that only a stored one has.
    assert!(
        !found[0].text("remedy").contains("repl_adopt_generated"),
        "{found:#?}"
    );
}
