//! Generated columns that the publisher sends, as it can from 18 on.

use replwarden_tests::{Pair, Provider};

use crate::diagnose::{assert_found, commented, wait_found, wait_well};
use crate::loan;
use crate::preflight_findings::Preflight;
use crate::since::since;
use crate::status::{self, Status};

const WHAT: &str = "publish_generated_columns";
const SEND: &str = "alter publication pub set (publish_generated_columns = stored)";

/// The publisher's `loan_id` is generated, and sent.
fn pair(kind: &str) -> Option<Pair> {
    if !since(18, WHAT) {
        return None;
    }
    let pair = loan::pair_with(status::builder(Provider::Native).start(), kind);
    pair.on_publisher(SEND);
    Some(pair)
}

#[test]
fn plain_column_takes_what_comes() {
    let Some(pair) = pair("text") else { return };
    Preflight::before(&pair).assert_in_order();
    loan::insert(&pair, 1, 10);
    pair.subscribe();
    pair.wait_copied();
    loan::insert(&pair, 11, 20);
    pair.on_publisher("update loan_app set userid = userid + 1");
    loan::assert_all_right(&pair);
    Preflight::of_subscription(&pair).assert_in_order();
}

/// A rule is computed from the row that came, whatever came with it.
#[test]
fn rule_prevails_over_what_comes() {
    let Some(pair) = pair("text") else { return };
    loan::set_rule(&pair, "'rule of ' || id", "fail");
    Preflight::before(&pair).assert_in_order();
    loan::insert(&pair, 1, 10);
    pair.subscribe();
    pair.wait_copied();
    loan::insert(&pair, 11, 20);
    pair.on_publisher("update loan_app set userid = userid + 1");
    pair.wait_caught_up();
    pair.compare(
        "select id, userid, 'rule of ' || id from loan_app order by id",
        "select id, userid, loan_id from loan_app order by id",
    );
    // It is the publisher's again when the rule is gone.
    pair.on_subscriber("select repl_drop_expression('loan_app', 'loan_id')");
    pair.on_publisher("update loan_app set userid = userid + 1");
    loan::assert_all_right(&pair);
}

/// The identity of the publisher's row holds the generated column, and the rule has made the row here another one.
#[test]
fn rule_of_a_table_with_identity_full() {
    let Some(pair) = pair("text") else { return };
    pair.on_publisher("alter table loan_app replica identity full");
    loan::set_rule(&pair, "'rule of ' || id", "fail");
    loan::insert(&pair, 1, 10);
    pair.subscribe();
    pair.wait_copied();
    pair.on_publisher("update loan_app set userid = 5; delete from loan_app where id < 3");
    pair.wait_caught_up();
    pair.compare(
        "select id, userid, 'rule of ' || id from loan_app order by id",
        "select id, userid, loan_id from loan_app order by id",
    );
}

/// Both compute it: the table fails, and there are two ways out.
#[test]
fn generated_column_does_not_take_it() {
    let kind = format!("text generated always as ({}) stored", loan::EXPRESSION);
    for on_publisher in [false, true] {
        let Some(pair) = pair(&kind) else { return };
        let before = Preflight::before(&pair);
        let found = before.findings();
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].is("check_name", "generated_columns")
                && found[0].is("severity", "error")
                && found[0].text("finding").contains("generated here, too"),
            "{found:#?}"
        );
        loan::insert(&pair, 1, 10);
        pair.subscribe();
        let status = Status::of(&pair);
        let row = wait_found(status, "copying", "generated_column_incompatible");
        assert_found(&row, "critical", "deterministic", &["loan_id"]);
        if on_publisher {
            pair.on_publisher(&commented(&found[0], "ALTER PUBLICATION"));
        } else {
            before.paste(&found[0]);
        }
        pair.wait_copied();
        loan::insert(&pair, 11, 20);
        loan::assert_all_right(&pair);
        wait_well(status);
        Preflight::of_subscription(&pair).assert_in_order();
    }
}

/// A list of columns publishes what it names, whatever the publication says of generated columns.
#[test]
fn column_list_that_names_it() {
    let Some(pair) = pair("text") else { return };
    pair.on_publisher(
        "drop publication pub;
         create publication pub for table loan_app (id, userid, amount, note, loan_id)",
    );
    Preflight::before(&pair).assert_in_order();
    loan::insert(&pair, 1, 10);
    pair.subscribe();
    pair.wait_copied();
    loan::insert(&pair, 11, 20);
    loan::assert_all_right(&pair);
}
