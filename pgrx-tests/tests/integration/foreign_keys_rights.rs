//! Who may take foreign keys away and bring them back, and what is refused.

use postgres::error::SqlState;

use crate::database::{Database, OWNER, STRANGER};
use crate::foreign_keys::KEYS;

#[test]
fn only_the_owner_may() {
    let database = Database::new();
    database.run_as(
        OWNER,
        "create table customer (id int primary key); create table orders (customer int references customer);
         grant select, references on customer to public",
    );
    database.run_as(
        STRANGER,
        "create table mine (customer int references customer)",
    );
    let error = database.error(&format!(
        "set role {STRANGER}; select repl_detach_foreign_keys('orders')"
    ));
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(error.message(), "must be owner of table public.orders");
    assert!(error.hint().is_some() && error.detail().is_some());
    let error = database.error(&format!(
        "set role {OWNER}; select repl_detach_foreign_keys('customer')"
    ));
    assert_eq!(error.message(), "must be owner of table public.mine");
    assert_eq!(database.lines(KEYS).len(), 2);
    // His own he may, though the table to which it refers is not his.
    database.run_as(STRANGER, "select repl_detach_foreign_keys('mine')");
    database.run_as(OWNER, "select repl_detach_foreign_keys('customer')");
    let lines = database.lines(&format!(
        "set role {STRANGER}; select repl_restore_foreign_keys()"
    ));
    assert_eq!(
        lines,
        [
            "public.mine: foreign key mine_customer_fkey is back for new rows; existing ones are being validated".to_owned(),
            format!("public.orders: foreign key orders_customer_fkey is left alone: only the owner of public.orders, {OWNER}, may change it"),
        ]
    );
    let error = database.error(&format!(
        "set role {STRANGER}; select repl_restore_foreign_keys('orders')"
    ));
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE);
    for sql in [
        "select * from _repl_foreign_keys",
        "delete from _repl_foreign_keys",
    ] {
        let error = database.error(&format!("set role {STRANGER}; {sql}"));
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{sql}");
    }
    // The keys of rows are not for every eye.
    database.run("insert into orders values (99)");
    database.run_as(OWNER, "select repl_restore_foreign_keys()");
    let problem = "select problem, sample_keys from repl_detached_foreign_keys where relation = 'orders'::regclass";
    assert_eq!(
        database.lines(&format!("set role {STRANGER}; {problem}")),
        ["<insufficient privilege>|NULL"]
    );
    assert!(database.lines(&format!("set role {OWNER}; {problem}"))[0].contains("(customer = 99)"));
}

#[test]
fn bad_input() {
    let database = Database::new();
    database.run("create view v as select 1 as a; create table t (id int)");
    for (call, code) in [
        ("repl_detach_foreign_keys('v')", "42809"),
        ("repl_detach_foreign_keys(4000000000)", "42P01"),
        ("repl_restore_foreign_keys('v')", "42809"),
        ("repl_restore_foreign_keys(4000000000)", "42P01"),
        ("repl_restore_foreign_keys('t', null)", "22004"),
        ("repl_resync_table(null)", "22004"),
        ("repl_resync_table('v')", "42809"),
        ("repl_resync_table(4000000000)", "42P01"),
        ("repl_resync_table('t')", "55000"),
    ] {
        let error = database.error(&format!("select {call}"));
        assert_eq!(error.code().code(), code, "{call}: {error:?}");
        assert!(
            error.detail().is_some_and(|text| !text.is_empty()),
            "{error:?}"
        );
        assert!(
            error.hint().is_some_and(|text| !text.is_empty()),
            "{error:?}"
        );
        let error = database.error(&format!("begin read only; select {call}"));
        assert_eq!(error.code().code(), "25006", "{call}: {error:?}");
    }
    for call in [
        "repl_detach_foreign_keys('t')",
        "repl_restore_foreign_keys('t')",
        "repl_detach_foreign_keys()",
    ] {
        assert!(
            database.lines(&format!("select {call}")).is_empty(),
            "{call}"
        );
    }
}
