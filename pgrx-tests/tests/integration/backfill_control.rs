//! Queuing, replacing and cancelling backfills, and what becomes of one whose table or rules go.

use postgres::error::SqlState;
use replwarden_tests::{DEFAULT_DEADLINE, wait_until};

use crate::backfill_state::LARGE_ITEM;
use crate::database::{Database, OWNER, STRANGER, lines};
use crate::refusals::assert_refused;

const SET: &str = "select repl_set_expression('item', 'b', 'a * 2')";
const ITEM: &str = "create table item (id int primary key, a int, b int, c int);
                    insert into item values (1, 10, 99, 99), (2, 20, 99, 99);";
const STATE: &str = "select state from repl_generated_columns order by column_name";

/// Where nobody works on backfills: the table `item (id, a, b, c)` without rules.
fn paused() -> Database {
    let database = Database::paused();
    database.run(ITEM);
    database
}

#[test]
fn queued_until_somebody_works_on_it() {
    let database = paused();
    let id = database.backfills().queue(SET);
    assert_eq!(
        database.lines(
            "select relation, columns, state, blocks_total, blocks_done, rows_changed, percent = 0, eta, workers,
                    started_at, finished_at, error like '%max_backfill_workers%' from repl_backfills"
        ),
        ["item|{b}|queued|1|0|0|t|NULL|1|NULL|NULL|t"]
    );
    assert_eq!(database.backfills().get(id).state, "queued");
    assert_eq!(database.lines(STATE), ["backfilling"]);
    assert_eq!(database.lines("select distinct b from item"), ["99"]);
    database.run("insert into item values (3, 30)");
    assert_eq!(
        database.lines("select b from item where id = 3"),
        ["60"],
        "the rule holds at once"
    );
}

#[test]
fn call_that_is_rolled_back_queues_nothing() {
    let database = paused();
    let mut client = database.connect();
    lines(
        &mut client,
        &format!(
            "begin; {SET}; rollback;
             begin; savepoint s; {SET}; rollback to s; insert into item values (3, 30, 99); commit"
        ),
    );
    assert!(database.backfills().all().is_empty());
    assert!(database.lines(STATE).is_empty());
    database.run(&format!(
        "{SET}; select repl_cancel_backfill(max(id)) from repl_backfills"
    ));
    lines(&mut client, "begin; select repl_backfill('item'); rollback");
    let all = database.backfills().all();
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].state, "cancelled");
}

#[test]
fn two_rules_set_in_one_transaction() {
    let database = Database::new();
    database.run(ITEM);
    database.run(&format!(
        "{SET}; select repl_set_expression('item', 'c', 'a * 3')"
    ));
    database.backfilled();
    assert_eq!(
        database.lines("select b, c from item order by id"),
        ["20|30", "40|60"]
    );
    let all = database.backfills().all();
    assert_eq!(all.last().expect("one at least").state, "done");
    assert_eq!(all.iter().map(|one| one.rows_changed).sum::<i64>(), 2);
}

#[test]
fn newer_one_replaces_one_that_is_queued() {
    let database = paused();
    let first = database.backfills().queue(SET);
    let second = database
        .backfills()
        .queue("select repl_backfill('item', 3)");
    assert!(second > first);
    let replaced = database.backfills().get(first);
    assert_eq!(replaced.state, "cancelled");
    assert!(
        replaced.error().contains(&format!("backfill {second}")),
        "{replaced:?}"
    );
    assert_eq!(
        database
            .lines("select state, workers, columns from repl_backfills order by id desc limit 1"),
        ["queued|3|{b}"]
    );
    let third = database
        .backfills()
        .queue("select repl_set_expression('item', 'c', 'a * 3')");
    assert_eq!(database.backfills().get(second).state, "cancelled");
    assert_eq!(database.backfills().get(third).state, "queued");
    assert_eq!(database.lines(STATE), ["backfilling", "backfilling"]);
}

#[test]
fn backfills_of_other_tables_are_left_alone() {
    let database = paused();
    database.run(
        "create table other (id int primary key, a int, b int); insert into other values (1, 1)",
    );
    let first = database.backfills().queue(SET);
    let second = database
        .backfills()
        .queue("select repl_set_expression('other', 'b', 'a * 2')");
    assert_eq!(database.backfills().get(first).state, "queued");
    assert_eq!(database.backfills().get(second).state, "queued");
}

#[test]
fn newer_one_replaces_one_that_runs() {
    let database = Database::new();
    database.run(ITEM);
    let mut holder = database.connect();
    lines(
        &mut holder,
        "begin; select from item where id = 1 for update",
    );
    database.run("select repl_set_expression('item', 'b', 'a * 2', backfill => false)");
    let first = database.backfills().queue("select repl_backfill('item')");
    database
        .backfills()
        .wait_for(first, "has done all but the locked row", |backfill| {
            backfill.rows_changed == 1
        });
    let second = database.backfills().queue("select repl_backfill('item')");
    let replaced = database.backfills().wait_ended(first);
    assert_eq!(replaced.state, "cancelled");
    assert!(
        replaced.error().contains(&format!("backfill {second}")),
        "{replaced:?}"
    );
    lines(&mut holder, "commit");
    assert_eq!(database.backfills().wait_done_with(second).rows_changed, 1);
    database.backfills().wait_no_worker();
}

#[test]
fn cancelled_before_it_began() {
    let database = paused();
    let id = database.backfills().queue(SET);
    let cancel = format!("select repl_cancel_backfill({id})");
    assert_eq!(database.lines(&cancel), ["t"]);
    assert_eq!(
        database.lines(
            "select state, blocks_done, rows_changed, finished_at is not null from repl_backfills"
        ),
        ["cancelled|0|0|t"]
    );
    assert_eq!(database.lines(STATE), ["live"]);
    assert_eq!(database.lines(&cancel), ["f"]);
}

#[test]
fn cancelled_while_it_runs() {
    let database = Database::slow();
    database.run(LARGE_ITEM);
    let id = database.backfills().queue(SET);
    let before = database.backfills().wait_in_the_middle(id);
    assert_eq!(
        database.lines(&format!("select repl_cancel_backfill({id})")),
        ["t"]
    );
    let cancelled = database.backfills().get(id);
    assert_eq!(cancelled.state, "cancelled");
    assert_eq!(cancelled.rows_changed, before.rows_changed);
    database.backfills().wait_no_worker();
    assert_eq!(
        database.lines("select count(*) from item where b = a * 2"),
        [before.rows_changed.to_string()],
        "what is done stays"
    );
    assert_eq!(database.lines(STATE), ["live"]);
}

#[test]
fn cancelling_one_that_has_ended_is_no_error() {
    let database = Database::new();
    database.run(ITEM);
    let id = database.backfills().queue(SET);
    database.backfills().wait_done_with(id);
    assert_eq!(
        database.lines(&format!("select repl_cancel_backfill({id})")),
        ["f"]
    );
    assert_eq!(database.backfills().get(id).state, "done");
}

#[test]
fn cancelling_one_that_is_unknown() {
    let database = paused();
    assert_refused(&database, "repl_cancel_backfill(4711)", "42704", "4711");
    let id = database.backfills().queue(SET);
    let unknown = id + 1;
    assert_refused(
        &database,
        &format!("repl_cancel_backfill({unknown})"),
        "42704",
        &unknown.to_string(),
    );
}

#[test]
fn only_the_owner_may_queue_and_cancel() {
    let database = paused();
    database.run(&format!(
        "alter table item owner to {OWNER}; grant all on item to {STRANGER}"
    ));
    let id = database.backfills().queue(SET);
    for call in [
        "repl_backfill('item')".to_owned(),
        format!("repl_cancel_backfill({id})"),
    ] {
        let error = database.error(&format!("set role {STRANGER}; select {call}"));
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{call}");
        assert!(error.message().contains("item"), "{error:?}");
    }
    assert_eq!(database.backfills().get(id).state, "queued");
    database.run_as(OWNER, &format!("select repl_cancel_backfill({id})"));
    assert_eq!(database.backfills().get(id).state, "cancelled");
}

#[test]
fn member_of_the_owning_role_may_queue_and_cancel() {
    let database = paused();
    let member = format!("member_of_{}", database.name());
    database.run(&format!(
        "create role {member} in role {OWNER}; alter table item owner to {OWNER}; {SET}"
    ));
    database.run_as(
        &member,
        "select repl_backfill('item'); select repl_cancel_backfill(max(id)) from repl_backfills",
    );
    let all = database.backfills().all();
    assert!(all.iter().all(|one| one.state == "cancelled"), "{all:?}");
    database.run(&format!("drop role {member}"));
}

#[test]
fn invalid_arguments() {
    let database = paused();
    database.run("create table plain (id int primary key, a int); insert into plain values (1, 1)");
    let id = database.backfills().queue(SET);
    for workers in ["0", "-1"] {
        assert_refused(
            &database,
            &format!("repl_backfill('item', {workers})"),
            "22023",
            workers,
        );
    }
    assert_refused(&database, "repl_backfill('plain')", "42704", "plain");
    assert_eq!(database.backfills().get(id).state, "queued");
    database.run("select repl_drop_expression('item', 'b')");
    assert_refused(&database, "repl_backfill('item')", "42704", "item");
}

#[test]
fn state_of_a_rule_prefers_what_is_worse() {
    let database = paused();
    let id = database.backfills().queue(SET);
    assert_eq!(database.lines(STATE), ["backfilling"]);
    database.run("alter table item disable trigger zzz_replwarden");
    assert_eq!(database.lines(STATE), ["broken"]);
    database.run("alter table item enable always trigger zzz_replwarden");
    assert_eq!(database.lines(STATE), ["backfilling"]);
    database.run(&format!("select repl_cancel_backfill({id})"));
    assert_eq!(database.lines(STATE), ["live"]);
    let failing = database
        .backfills()
        .queue("select repl_set_expression('item', 'b', '100 / a', 'null')");
    database.run("insert into item values (3, 0)");
    assert_eq!(database.lines(STATE), ["backfilling"]);
    database.run(&format!("select repl_cancel_backfill({failing})"));
    assert_eq!(database.lines(STATE), ["failing"]);
}

#[test]
fn all_rules_of_the_table_and_of_the_partitioned_table_are_backfilling() {
    let database = Database::paused();
    database.run(
        "create table item (id int primary key, a int, b int, c int) partition by range (id);
         create table item_1 partition of item for values from (0) to (10);
         insert into item values (1, 10);
         select repl_set_expression('item', 'b', 'a * 2', backfill => false);
         select repl_set_expression('item', 'c', 'a * 3')",
    );
    assert_eq!(
        database
            .lines("select relation, column_name, state from repl_generated_columns order by 2"),
        ["item|b|backfilling", "item|c|backfilling"]
    );
}

/// Runs `change` in the middle of a backfill, and waits until its worker has gone.
#[track_caller]
fn changed_in_the_middle(change: &str) -> (Database, i64) {
    let database = Database::slow();
    database.run(LARGE_ITEM);
    let id = database.backfills().queue(SET);
    database.backfills().wait_in_the_middle(id);
    database.run(change);
    database.backfills().wait_no_worker();
    (database, id)
}

#[test]
fn dropped_table_ends_it() {
    let (database, id) = changed_in_the_middle("drop table item");
    // The view may show it as cancelled, or not at all: its table is gone.
    let all = database.backfills().all();
    assert!(
        all.iter()
            .all(|one| one.id != id || one.state == "cancelled"),
        "{all:?}"
    );
}

#[test]
fn dropped_rules_end_it() {
    let (database, id) = changed_in_the_middle("select repl_drop_expression('item', 'b')");
    assert_eq!(database.backfills().get(id).state, "cancelled");
    assert_eq!(
        database.lines("select count(*) > 0 and count(*) < 7000 from item where b = a * 2"),
        ["t"]
    );
}

#[test]
fn dropped_column_ends_it() {
    let (database, id) = changed_in_the_middle("alter table item drop b");
    assert_eq!(database.backfills().get(id).state, "cancelled");
}

#[test]
fn dropped_extension_ends_it() {
    let (database, _) = changed_in_the_middle("drop extension replwarden cascade");
    assert_eq!(database.lines("select count(*) from item"), ["7000"]);
    database.run(&format!("create extension replwarden; {SET}"));
    let all = database.backfills().all();
    assert_eq!(all.len(), 1, "{all:?}");
}

#[test]
fn dropped_schema_ends_it() {
    let (database, id) = changed_in_the_middle(
        "create schema shop; alter table item set schema shop; drop schema shop cascade",
    );
    let all = database.backfills().all();
    assert!(
        all.iter()
            .all(|one| one.id != id || one.state == "cancelled"),
        "{all:?}"
    );
}

/// All of what is dropped before anybody has begun.
#[test]
fn dropped_while_it_is_queued() {
    for change in [
        "drop table item",
        "select repl_drop_expression('item', 'b')",
        "alter table item drop b",
    ] {
        let database = paused();
        let id = database.backfills().queue(SET);
        database.run(change);
        wait_until(
            &format!("\"{change}\" has ended it"),
            DEFAULT_DEADLINE,
            || {
                let all = database.backfills().all();
                all.iter().all(|one| one.id != id || one.has_ended())
            },
        );
    }
}

#[test]
fn one_of_two_rules_that_is_dropped_leaves_the_other_to_be_brought_up() {
    let database = Database::new();
    database.run(ITEM);
    let mut holder = database.connect();
    lines(
        &mut holder,
        "begin; select from item where id = 1 for update",
    );
    database.run(
        "select repl_set_expression('item', 'b', 'a * 2', backfill => false);
         select repl_set_expression('item', 'c', 'a * 3', backfill => false)",
    );
    let id = database.backfills().queue("select repl_backfill('item')");
    database
        .backfills()
        .wait_for(id, "has done all but the locked row", |backfill| {
            backfill.rows_changed == 1
        });
    lines(
        &mut holder,
        "select repl_drop_expression('item', 'b'); commit",
    );
    database.backfills().wait_done_with(id);
    assert_eq!(
        database.lines("select b, c from item order by id"),
        ["99|30", "40|60"]
    );
}

#[test]
fn table_and_column_that_are_renamed_meanwhile() {
    let database = Database::new();
    database.run(ITEM);
    let mut holder = database.connect();
    database.run("select repl_set_expression('item', 'b', 'a * 2', backfill => false)");
    lines(
        &mut holder,
        "begin; select from item where id = 1 for update",
    );
    let id = database.backfills().queue("select repl_backfill('item')");
    database
        .backfills()
        .wait_for(id, "has done all but the locked row", |backfill| {
            backfill.rows_changed == 1
        });
    lines(
        &mut holder,
        "create schema shop; alter table item set schema shop; alter table shop.item rename to thing;
         alter table shop.thing rename a to source; alter table shop.thing rename b to target; commit",
    );
    assert_eq!(database.backfills().wait_done_with(id).rows_changed, 2);
    assert_eq!(
        database.lines("select target from shop.thing order by id"),
        ["20", "40"]
    );
    assert_eq!(
        database.lines("select relation from repl_backfills"),
        ["shop.thing"]
    );
}

#[test]
fn rows_of_a_temporary_table_are_refused() {
    let database = Database::new();
    let table = "create temp table item (id int primary key, a int, b int); insert into item values (1, 10);";
    let error = database.error(&format!(
        "{table} select repl_set_expression('item', 'b', 'a * 2')"
    ));
    assert_eq!(error.code(), &SqlState::FEATURE_NOT_SUPPORTED, "{error:?}");
    assert!(error.message().contains("temporary"), "{error:?}");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("backfill => false")),
        "{error:?}"
    );
    assert_eq!(
        database.lines(&format!(
            "{table} select repl_set_expression('item', 'b', 'a * 2', backfill => false);
             update item set a = a; select b from item"
        )),
        ["NULL", "20"]
    );
}
