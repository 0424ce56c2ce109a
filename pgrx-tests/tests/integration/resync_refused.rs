//! What `repl_resync_table` refuses, and that it changes nothing then.

use postgres::error::DbError;
use replwarden_tests::{Pair, Provider, SUBSCRIPTION};

use crate::database::{OWNER, create_roles, lines};
use crate::resync::{shop, wait_none_detached};
use crate::since::run_as_before_16;
use crate::status;

#[track_caller]
fn refused(pair: &Pair, sql: &str, code: &str, message: &str) -> DbError {
    let state = || {
        lines(
            &mut pair.subscriber().connect(pair.database()),
            "select srrelid::regclass, srsubstate from pg_subscription_rel
             union all select 'customer'::regclass, count(*)::text::\"char\" from customer
             union all select conrelid::regclass, contype from pg_constraint where contype = 'f' order by 1, 2",
        )
    };
    let before = state();
    let error = pair.subscriber().expect_error(pair.database(), sql);
    assert_eq!(error.code().code(), code, "{error:?}");
    assert_eq!(error.message(), message);
    assert!(
        error.detail().is_some_and(|text| !text.is_empty()),
        "{error:?}"
    );
    assert!(
        error.hint().is_some_and(|text| !text.is_empty()),
        "{error:?}"
    );
    assert_eq!(state(), before, "{sql}");
    error
}

const CALL: &str = "select repl_resync_table('customer')";

#[test]
fn what_cannot_be_done() {
    let pair = shop(status::builder(Provider::Native).start());
    create_roles(pair.subscriber());
    pair.on_subscriber("create table other (id int)");
    refused(
        &pair,
        "select repl_resync_table('other')",
        "55000",
        "table public.other is not part of any subscription of this database",
    );
    refused(
        &pair,
        &format!("set role {OWNER}; {CALL}"),
        "42501",
        "must be owner of table public.customer",
    );
    pair.on_subscriber(&format!("alter table customer owner to {OWNER}"));
    refused(
        &pair,
        &format!("set role {OWNER}; {CALL}"),
        "42501",
        &format!(
            "must be owner of subscription \"{SUBSCRIPTION}\" to copy table public.customer again"
        ),
    );
    // The owner of both does not own the table that refers to it.
    pair.on_subscriber(&format!(
        "alter role {OWNER} superuser; alter subscription sub owner to {OWNER}; alter role {OWNER} nosuperuser"
    ));
    refused(
        &pair,
        &format!("set role {OWNER}; {CALL}"),
        "42501",
        "must be owner of table public.orders",
    );
    pair.on_subscriber("alter subscription sub owner to postgres");
    // Somebody writes.
    let mut writer = pair.subscriber().connect(pair.database());
    writer
        .batch_execute("begin; lock table customer in row exclusive mode")
        .expect("it can be locked");
    let error = pair.subscriber().expect_error(
        pair.database(),
        &format!("set lock_timeout = '50ms'; {CALL}"),
    );
    assert_eq!(error.code().code(), "55P03");
    writer.batch_execute("rollback").expect("it ends");
    pair.disable();
    refused(&pair, CALL, "55000", "subscription \"sub\" is disabled");
    pair.on_subscriber("update pg_subscription set subtwophasestate = 'e'");
    pair.enable();
    refused(
        &pair,
        CALL,
        "55000",
        "table public.customer belongs to subscription \"sub\", which has two_phase enabled",
    );
}

#[test]
fn table_of_two_subscriptions() {
    let pair = shop(status::builder(Provider::Native).start());
    pair.on_subscriber(
        "create subscription second connection 'dbname=nowhere' publication pub with (connect = false);
         insert into pg_subscription_rel select oid, 'customer'::regclass, 'r', null from pg_subscription where subname = 'second'",
    );
    let error = refused(
        &pair,
        CALL,
        "55000",
        "table public.customer is part of several subscriptions",
    );
    assert!(
        error.detail().is_some_and(|text| text.contains("second")),
        "{error:?}"
    );
}

#[test]
fn owner_of_subscription_and_tables_may() {
    let pair = shop(status::builder(Provider::Native).start());
    create_roles(pair.subscriber());
    run_as_before_16(&pair);
    // Owners had to be superusers up to 15; the server looks when the owner changes, and not later.
    pair.on_subscriber(&format!(
        "alter role {OWNER} superuser; alter subscription sub owner to {OWNER}; alter role {OWNER} nosuperuser;
         alter table customer owner to {OWNER}; alter table orders owner to {OWNER}"
    ));
    pair.on_publisher("update customer set note = 'changed'");
    pair.on_subscriber(&format!("set role {OWNER}; {CALL}"));
    pair.wait_copied();
    pair.wait_caught_up();
    wait_none_detached(&pair);
    pair.compare("table customer order by 1", "table customer order by 1");
}

/// pglogical grants its functions to nobody.
#[test]
fn owner_of_the_table_may_not_use_pglogical() {
    let pair = shop(status::builder(Provider::Pglogical).start());
    create_roles(pair.subscriber());
    pair.on_subscriber(&format!(
        "alter table customer owner to {OWNER}; alter table orders owner to {OWNER}"
    ));
    let sql = format!("set role {OWNER}; {CALL}");
    let error = pair.subscriber().expect_error(pair.database(), &sql);
    assert_eq!(error.code().code(), "42501", "{error:?}");
    pair.compare("table customer order by 1", "table customer order by 1");
    pair.on_subscriber(&format!(
        "grant usage on schema pglogical to {OWNER}; grant select, update on all tables in schema pglogical to {OWNER};
         grant execute on all functions in schema pglogical to {OWNER}"
    ));
    pair.on_publisher("update customer set note = 'changed'");
    pair.on_subscriber(&sql);
    pair.wait_copied();
    pair.wait_caught_up();
    wait_none_detached(&pair);
    pair.compare("table customer order by 1", "table customer order by 1");
}
