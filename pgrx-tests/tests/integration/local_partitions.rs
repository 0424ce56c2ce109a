//! Rules of partitioned tables.

use postgres::error::SqlState;

use crate::database::Database;

const ROWS: &str = "select tableoid::regclass, id, a, b from item order by id";
const OURS: &str = "select tgrelid::regclass, tgname, tgenabled from pg_trigger
                     where tgname like 'replwarden%' or tgname = 'zzz_replwarden' order by 1, 2";

/// `item (id, k, a, b)` by k, with one partition of the same shape and one whose columns stand in another order.
fn database() -> Database {
    let database = Database::new();
    database.run(
        "create table item (gone int, id int, k int, a int, b int, primary key (id, k)) partition by list (k);
         alter table item drop gone;
         create table item_1 partition of item for values in (1);
         create table item_2 (b int, gone text, a int, k int not null, id int not null);
         alter table item_2 drop gone;
         alter table item attach partition item_2 for values in (2);
         select repl_set_expression('item', 'b', 'a * 2')",
    );
    database
}

#[test]
fn rows_of_every_partition_are_derived() {
    let database = database();
    database.run("insert into item values (1, 1, 10, 99), (2, 2, 20, 99)");
    assert_eq!(database.lines(ROWS), ["item_1|1|10|20", "item_2|2|20|40"]);
    database.run("update item set a = a + 1, b = 99");
    assert_eq!(database.lines(ROWS), ["item_1|1|11|22", "item_2|2|21|42"]);
    database.run(
        "insert into item values (1, 1, 7), (2, 2, 8) on conflict (id, k) do update set a = excluded.b",
    );
    assert_eq!(database.lines(ROWS), ["item_1|1|14|28", "item_2|2|16|32"]);
}

#[test]
fn rows_written_to_a_partition_itself_are_derived() {
    let database = database();
    database.run(
        "insert into item_1 (id, k, a, b) values (1, 1, 10, 99);
         insert into item_2 (id, k, a, b) values (2, 2, 20, 99);
         update item_2 set a = 21, b = 99",
    );
    assert_eq!(database.lines(ROWS), ["item_1|1|10|20", "item_2|2|21|42"]);
}

#[test]
fn rows_that_move_are_derived() {
    let database = database();
    database.run(
        "insert into item values (1, 1, 10), (2, 2, 20);
         update item set k = 3 - k, a = a + 1, b = 99",
    );
    assert_eq!(database.lines(ROWS), ["item_2|1|11|22", "item_1|2|21|42"]);
}

#[test]
fn partition_created_later_follows_the_rule() {
    let database = database();
    database.run(
        "create table item_3 partition of item for values in (3);
         create table item_rest partition of item default;
         insert into item values (3, 3, 30, 99), (4, 4, 40, 99)",
    );
    assert_eq!(
        database.lines(ROWS),
        ["item_3|3|30|60", "item_rest|4|40|80"]
    );
    assert_eq!(
        database.lines("select relation, state from repl_generated_columns"),
        ["item|live"]
    );
}

#[test]
fn partition_attached_later_follows_the_rule() {
    let database = database();
    database.run(
        "create table item_3 (x text, b int, k int not null, y text, id int not null, a int);
         insert into item_3 values ('x', 99, 3, 'y', 3, 30);
         alter table item_3 drop x, drop y;
         alter table item attach partition item_3 for values in (3);
         insert into item values (4, 3, 40, 99)",
    );
    assert_eq!(
        database.lines(ROWS),
        ["item_3|3|30|99", "item_3|4|40|80"],
        "rows that were in it stay as they are until they are written"
    );
    assert_eq!(
        database.lines("select relation, state from repl_generated_columns"),
        ["item|live"]
    );
}

#[test]
fn running_session_sees_a_new_partition() {
    let database = database();
    let mut client = database.connect();
    client
        .batch_execute("insert into item values (1, 1, 10)")
        .expect("a good row");
    database.run("create table item_3 partition of item for values in (3)");
    client
        .batch_execute(
            "insert into item values (3, 3, 30, 99); update item set a = 11 where id = 1",
        )
        .expect("good rows");
    assert_eq!(database.lines(ROWS), ["item_1|1|11|22", "item_3|3|30|60"]);
}

#[test]
fn partitions_of_partitions_follow_the_rule() {
    let database = database();
    database.run(
        "create table item_3 (b int, a int, id int not null, k int not null) partition by range (id);
         create table item_3_low partition of item_3 for values from (0) to (100);
         alter table item attach partition item_3 for values in (3);
         create table item_3_high partition of item_3 for values from (100) to (200);
         insert into item values (3, 3, 30, 99), (103, 3, 31, 99), (1, 1, 10, 99);
         update item set id = 4, k = 3 where id = 1;
         update item set id = 104 where id = 3;
         update item set id = 2, k = 2 where id = 103",
    );
    assert_eq!(
        database.lines(ROWS),
        [
            "item_2|2|31|62",
            "item_3_low|4|10|20",
            "item_3_high|104|30|60"
        ]
    );
}

#[test]
fn rule_changed_for_all_partitions() {
    let database = database();
    database.run(
        "insert into item values (1, 1, 10), (2, 2, 20);
         select repl_set_expression('item', 'b', 'a * 3')",
    );
    database.backfilled();
    assert_eq!(database.lines(ROWS), ["item_1|1|10|30", "item_2|2|20|60"]);
    database.run("update item set a = 1");
    assert_eq!(database.lines(ROWS), ["item_1|1|1|3", "item_2|2|1|3"]);
    assert_eq!(
        database.lines("select relation, expression, state from repl_generated_columns"),
        ["item|a * 3|live"]
    );
}

#[test]
fn detached_partition_keeps_its_values_and_nothing_of_ours() {
    let database = database();
    database.run("insert into item values (1, 1, 10), (2, 2, 20)");
    for how in ["", "concurrently"] {
        let partition = if how.is_empty() { "item_1" } else { "item_2" };
        database.run(&format!(
            "alter table item detach partition {partition} {how}"
        ));
    }
    assert_eq!(
        database.lines("select id, b from item_1 union all select id, b from item_2"),
        ["1|20", "2|40"]
    );
    assert_eq!(
        database.lines(OURS),
        ["item|replwarden_b|D", "item|zzz_replwarden|A"]
    );
    database.run("insert into item_1 (id, k, a, b) values (3, 1, 30, 99)");
    assert_eq!(database.lines("select b from item_1 where id = 3"), ["99"]);
}

#[test]
fn triggers_of_partitions_are_as_those_of_the_table() {
    let database = database();
    assert_eq!(
        database.lines(OURS),
        [
            "item|replwarden_b|D",
            "item|zzz_replwarden|A",
            "item_1|replwarden_b|D",
            "item_1|zzz_replwarden|A",
            "item_2|replwarden_b|D",
            "item_2|zzz_replwarden|A",
        ]
    );
    database.run("alter table item add c int; select repl_set_expression('item', 'c', 'a + 1')");
    assert_eq!(
        database.lines("select count(*), tgenabled from pg_trigger where not tgisinternal and tgname <> 'ignore_replicated' group by 2 order by 2"),
        ["3|A", "6|D"]
    );
    database.run("select repl_drop_expression('item', 'b'), repl_drop_expression('item', 'c')");
    assert!(database.lines(OURS).is_empty());
}

#[test]
fn partition_without_a_key_that_is_attached_later_shows_as_broken() {
    let database = Database::new();
    database.run(
        "create table item (id int not null, a int, b int) partition by range (id);
         create table item_1 (id int primary key, a int, b int);
         alter table item attach partition item_1 for values from (0) to (10);
         select repl_set_expression('item', 'b', 'a * 2');
         create table item_2 partition of item for values from (10) to (20)",
    );
    assert_eq!(
        database.lines("select relation, state, last_error like '%item_2%primary key%' from repl_generated_columns"),
        ["item|broken|t"]
    );
    database.run("alter table item_2 add primary key (id)");
    assert_eq!(
        database.lines("select state, last_error from repl_generated_columns"),
        ["live|NULL"]
    );
}

#[test]
fn partition_with_a_rule_of_its_own_is_not_attached_silently() {
    let database = database();
    database.run(
        "create table item_3 (id int not null, k int not null, a int, b int, primary key (id, k));
         select repl_set_expression('item_3', 'b', 'a * 100')",
    );
    let error = database.error("alter table item attach partition item_3 for values in (3)");
    assert_eq!(error.code(), &SqlState::DUPLICATE_OBJECT);
    database.run(
        "select repl_drop_expression('item_3', 'b');
         alter table item attach partition item_3 for values in (3);
         insert into item values (3, 3, 30)",
    );
    assert_eq!(database.lines(ROWS), ["item_3|3|30|60"]);
}

#[test]
fn other_triggers_of_partitions_come_first() {
    let database = database();
    database.run(
        "create function raise_a() returns trigger language plpgsql as
             'begin new.a := new.a + 1; return new; end';
         create trigger raise_a before insert or update on item_2 for each row execute function raise_a();
         create trigger raise_more before insert on item for each row execute function raise_a();
         insert into item values (1, 1, 10), (2, 2, 20)",
    );
    assert_eq!(database.lines(ROWS), ["item_1|1|11|22", "item_2|2|22|44"]);
}
