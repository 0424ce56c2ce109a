//! A publisher of another version than the subscriber's: an old one that people leave, or one of a matrix
//! (`make versions`).

use replwarden_tests::{PairBuilder, Provider, Server};

use crate::cutover::{mend, wait_ready};
use crate::diagnose::{assert_found, paste, wait_found};
use crate::loan;
use crate::preflight_check;
use crate::preflight_findings::Preflight;
use crate::status::{self, Status};

/// None, and a line that says so, where there is no such publisher or it lacks what the provider needs.
fn builder(provider: Provider) -> Option<PairBuilder> {
    let server = match Server::publisher() {
        Ok(Some(server)) => server,
        Ok(None) => {
            eprintln!("skipped: PUBLISHER_BIN names no publisher of another version");
            return None;
        }
        Err(message) => panic!("{message}"),
    };
    if provider == Provider::Pglogical && !server.has_library("pglogical") {
        eprintln!("skipped: {} has no pglogical", server.version());
        return None;
    }
    Some(status::builder(provider).publisher_server(server))
}

/// The story from the first look to the cut-over.
#[test]
fn from_the_checks_to_the_cut_over() {
    let Some(builder) = builder(Provider::Native) else {
        return;
    };
    let pair = loan::pair_with(builder.start(), "text");
    let before = Preflight::before(&pair);
    let found = before.findings();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].is("check_name", "generated_columns") && found[0].is("severity", "error"),
        "{found:#?}"
    );
    before.paste(&found[0]);
    before.assert_in_order();
    preflight_check::Preflight::before(&pair).assert_in_order();

    loan::insert(&pair, 1, 1000);
    pair.subscribe();
    pair.wait_copied();
    loan::insert(&pair, 1001, 2000);
    pair.on_publisher(
        "update loan_app set userid = 5 where id % 3 = 0; delete from loan_app where id % 7 = 0",
    );
    loan::assert_all_right(&pair);
    preflight_check::Preflight::of_subscription(&pair).assert_in_order();

    let status = Status::of(&pair);
    let row = status.wait_subscription("streams, and the publisher was asked", |row| {
        row.is("state", "streaming") && !row.is_null("publisher_lsn") && row.is("lag_bytes", "0")
    });
    assert!(
        row.is_null("cause") && row.is("tables_ready", "1"),
        "{row:#?}"
    );
    let report = status.report().join("\n");
    assert!(report.contains("streaming"), "{report}");

    pair.on_subscriber("select repl_resync_table('loan_app')");
    pair.wait_copied();
    loan::insert(&pair, 2001, 2100);
    loan::assert_all_right(&pair);
    let wrong = status.rows("select sum(rows_wrong) as wrong, max(rows_checked) as checked from repl_verify('loan_app')");
    assert!(
        wrong[0].is("wrong", "0") && wrong[0].number("checked") > 1000.0,
        "{wrong:#?}"
    );

    pair.on_subscriber("analyze loan_app");
    mend(&pair, "sequences", "loan_app_id_seq");
    wait_ready(&pair);
}

/// What is asked of a publisher to tell why a slot cannot be used is not the same in each version.
#[test]
fn slot_is_missing() {
    let Some(builder) = builder(Provider::Native) else {
        return;
    };
    let pair = status::streaming(builder.start());
    pair.disable();
    pair.on_publisher(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where active",
    );
    pair.on_publisher("select pg_drop_replication_slot('sub')");
    pair.enable();
    let row = wait_found(Status::of(&pair), "retrying", "slot_missing");
    assert_found(&row, "critical", "deterministic", &["slot \"sub\""]);
    paste(&pair, &row);
    assert!(Status::of(&pair).subscriptions().is_empty());
}
