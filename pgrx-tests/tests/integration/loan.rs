//! The table of the story that the project starts from: `loan_id` is generated on the publisher, and so does not come
//! over; on the subscriber it is a plain column.

use replwarden_tests::{Pair, Provider, Publication};

pub(crate) const EXPRESSION: &str = "userid::text || '#' || id::text";
pub(crate) const ALL_ROWS: &str = "select id, userid, amount, loan_id from loan_app order by id";

/// A pair with the table on both sides, published, with no rule yet and not yet subscribed. `kind` is what the
/// subscriber's `loan_id` is.
pub(crate) fn pair_with(pair: Pair, kind: &str) -> Pair {
    let columns = "id bigserial primary key, userid bigint, amount numeric, note text";
    pair.on_publisher(&format!(
        "create table loan_app ({columns}, loan_id text generated always as ({EXPRESSION}) stored)"
    ));
    pair.on_subscriber(&format!(
        "create table loan_app ({columns}, loan_id {kind})"
    ));
    pair.on_subscriber("create extension replwarden");
    pair.publish(&match pair.provider() {
        Provider::Native => Publication::of("loan_app"),
        // It would publish the generated column, too, and then fail to copy it.
        Provider::Pglogical => {
            Publication::default().table_columns("loan_app", &["id", "userid", "amount", "note"])
        }
    });
    pair
}

/// As `pair_with`, with a plain column and the rule for it.
pub(crate) fn pair_with_rule(provider: Provider) -> Pair {
    let pair = pair_with(Pair::start(provider), "text not null");
    set_rule(&pair, EXPRESSION, "fail");
    pair
}

#[track_caller]
pub(crate) fn set_rule(pair: &Pair, expression: &str, on_error: &str) {
    pair.on_subscriber(&format!(
        "select repl_set_expression('loan_app', 'loan_id', $${expression}$$, '{on_error}')"
    ));
}

#[track_caller]
pub(crate) fn insert(pair: &Pair, first: u32, last: u32) {
    pair.on_publisher(&format!(
        "insert into loan_app (userid, amount) select n % 97, n from generate_series({first}, {last}) n"
    ));
}

#[track_caller]
pub(crate) fn assert_all_right(pair: &Pair) {
    pair.wait_caught_up();
    pair.compare(ALL_ROWS, ALL_ROWS);
}

/// Each function as a test on a native pair and on one of pglogical.
macro_rules! on_both_providers {
    ($($name:ident),+ $(,)?) => {
        mod native {
            $(#[test] fn $name() { super::$name(replwarden_tests::Provider::Native); })+
        }
        mod pglogical {
            $(#[test] fn $name() { super::$name(replwarden_tests::Provider::Pglogical); })+
        }
    };
}
pub(crate) use on_both_providers;
