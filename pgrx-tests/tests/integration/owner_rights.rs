//! A subscription whose owner is no superuser, as there can be one from 16 on: with a password, and with the rights of the
//! owners of its tables or its own.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, wait_until};

use crate::database::{OWNER, create_roles};
use crate::diagnose::{assert_found, assert_goes_on, wait_found, wait_well};
use crate::preflight_check::{Preflight, paste, quoted, row_of};
use crate::preflight_subscription::with_password;
use crate::since::since;
use crate::status::{self, Row, Status};

/// A pair that streams `item`, whose owners may be others.
fn pair() -> Option<Pair> {
    if !since(16, "the owner of a subscription that is no superuser") {
        return None;
    }
    let pair = status::streaming(status::builder(Provider::Native).start());
    create_roles(pair.subscriber());
    pair.on_subscriber(&format!(
        "grant pg_create_subscription to {OWNER}; grant create on database shop to {OWNER}"
    ));
    Some(pair)
}

/// The statement in a comment of a remedy.
fn commented(row: &Row, beginning: &str) -> String {
    let remedy = row.text("remedy");
    let start = remedy.find(beginning).unwrap_or_else(|| panic!("{row:#?}"));
    let end = remedy[start..]
        .find(';')
        .unwrap_or_else(|| panic!("{row:#?}"));
    remedy[start..start + end].to_owned()
}

/// It is refused before a connection is made, and looks like one that fails.
#[test]
fn password_that_is_missing() {
    let Some(pair) = pair() else { return };
    let status = Status::of(&pair);
    pair.on_subscriber(&format!(
        "alter table item owner to {OWNER}; alter subscription sub owner to {OWNER}"
    ));
    let row = wait_found(status, "retrying", "authentication_failed");
    assert_found(&row, "critical", "deterministic", &["password"]);
    let check = row_of(&Preflight::of_subscription(&pair).rows(), "owner_password");
    assert!(check.is("severity", "error"), "{check:#?}");
    // The one way out, and the other.
    pair.on_subscriber(&commented(&check, "ALTER SUBSCRIPTION \"sub\" SET"));
    assert_goes_on(&pair);
    Preflight::of_subscription(&pair).assert_in_order();
    pair.on_subscriber("alter subscription sub set (password_required = true)");
    let conninfo = with_password(&pair, "superuser");
    pair.on_subscriber(&format!(
        "alter subscription sub connection {}",
        quoted(&conninfo)
    ));
    assert_goes_on(&pair);
    wait_until("all is in order", DEFAULT_DEADLINE, || {
        Preflight::of_subscription(&pair).trouble().is_empty()
    });
    // Also for those who ask as the owner.
    pair.on_subscriber(&format!(
        "set session authorization {OWNER}; select repl_disable('sub'); select repl_enable('sub')"
    ));
    assert_goes_on(&pair);
    pair.on_subscriber(&format!(
        "set session authorization {OWNER}; select repl_restart_worker('sub')"
    ));
    assert_goes_on(&pair);
}

/// Each table is written as its owner, whom the subscription's has to be able to become.
#[test]
fn owner_of_a_table_whom_it_cannot_become() {
    let Some(pair) = pair() else { return };
    let status = Status::of(&pair);
    pair.on_subscriber(&format!(
        "alter subscription sub set (password_required = false);
         create role \"table's\"; grant usage on schema public to \"table's\";
         alter table item owner to \"table's\";
         alter subscription sub owner to {OWNER}"
    ));
    pair.on_publisher("insert into item values (7)");
    let row = wait_found(status, "retrying", "permission_denied");
    assert_found(&row, "critical", "deterministic", &["42501"]);
    let check = row_of(
        &Preflight::of_subscription(&pair).trouble(),
        "owner_set_role",
    );
    assert!(
        check.is("severity", "error") && check.text("finding").contains("table's"),
        "{check:#?}"
    );
    paste(&pair, &check);
    assert_goes_on(&pair);
    Preflight::of_subscription(&pair).assert_in_order();
}

/// A rule runs as whoever writes the row: the table's owner, or the subscription's that runs as itself.
#[test]
fn rules_run_as_who_writes() {
    let Some(pair) = pair() else { return };
    let status = Status::of(&pair);
    pair.on_subscriber(&format!(
        "alter subscription sub set (password_required = false);
         create role keeper; grant usage on schema public to keeper; grant keeper to {OWNER};
         create function who(text) returns text immutable language plpgsql as $$ begin return current_user; end $$;
         alter table item add writer text;
         alter table item owner to keeper;
         alter subscription sub owner to {OWNER};
         select repl_set_expression('item', 'writer', 'who(note)')"
    ));
    let writer = |id: u32| {
        pair.on_publisher(&format!("insert into item values ({id}, 'n')"));
        pair.wait_caught_up();
        let sql = format!("select writer from item where id = {id}");
        pair.subscriber()
            .query_one_value::<Option<String>>(pair.database(), &sql)
    };
    wait_well(status);
    assert_eq!(writer(10).as_deref(), Some("keeper"));
    pair.on_subscriber(&format!(
        "grant select, insert, update, delete on item to {OWNER};
         alter subscription sub set (run_as_owner = true)"
    ));
    assert_eq!(writer(11).as_deref(), Some(OWNER));
    let check = row_of(&Preflight::of_subscription(&pair).rows(), "owner_set_role");
    assert!(
        check.is("severity", "ok") && check.text("finding").contains("run_as_owner"),
        "{check:#?}"
    );
}

/// What has an origin is not sent to a subscription that wants none; what is written there is.
#[test]
fn origin_filter() {
    let Some(pair) = pair() else { return };
    let status = Status::of(&pair);
    pair.on_subscriber("alter subscription sub set (origin = none)");
    pair.on_publisher(
        "select pg_replication_origin_create('elsewhere');
         select pg_replication_origin_session_setup('elsewhere');
         insert into item values (50, 'from elsewhere')",
    );
    pair.on_publisher("insert into item values (51, 'from here')");
    pair.wait_caught_up();
    let rows = "select id from item where id >= 50";
    assert_eq!(
        pair.subscriber().rows_text(pair.database(), rows),
        [[Some("51".to_owned())]]
    );
    wait_well(status);
}
