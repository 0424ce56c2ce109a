//! What local statements find in a derived column: what GENERATED ALWAYS … STORED would give them.

use std::io::Write;
use std::thread;

use postgres::error::SqlState;
use replwarden_tests::{DEFAULT_DEADLINE, wait_until};

use crate::database::{Database, STRANGER, lines};

const ITEMS: &str = "select id, a, b from item order by id";

#[test]
fn insert_overwrites_what_the_client_sends() {
    let database = Database::with_item();
    database.run("insert into item values (1, 10, 99), (2, 20, null); insert into item (id, a) values (3, 30)");
    database.run("insert into item (id, b) values (4, 99)");
    assert_eq!(
        database.lines(ITEMS),
        ["1|10|20", "2|20|40", "3|30|60", "4|NULL|NULL"]
    );
}

#[test]
fn update_overwrites_what_the_client_sends() {
    let database = Database::with_item();
    database.run("insert into item values (1, 10), (2, 20), (3, 30)");
    database.run("update item set b = 99 where id = 1");
    database.run("update item set a = 21, b = null where id = 2");
    database.run("update item set id = 4 where id = 3");
    assert_eq!(database.lines(ITEMS), ["1|10|20", "2|21|42", "4|30|60"]);
}

#[test]
fn disabled_trigger_would_be_noticed_by_these_tests() {
    let database = Database::with_item();
    database.run(
        "alter table item disable trigger zzz_replwarden; insert into item values (1, 10, 99)",
    );
    assert_eq!(database.lines(ITEMS), ["1|10|99"]);
}

#[test]
fn rows_are_derived_in_a_session_with_replica_role() {
    let database = Database::with_item();
    database.run("set session_replication_role = replica; insert into item values (1, 10, 99)");
    assert_eq!(database.lines(ITEMS), ["1|10|20"]);
}

#[test]
fn other_before_triggers_come_first() {
    let database = Database::with_item();
    database.run(
        "create function raise_a() returns trigger language plpgsql as
             'begin new.a := new.a + 1; new.b := -1; return new; end';
         create trigger zzz_early before insert or update on item for each row execute function raise_a();
         create trigger abc before insert or update on item for each row execute function raise_a();
         insert into item values (1, 10)",
    );
    assert_eq!(database.lines(ITEMS), ["1|12|24"]);
    database.run("update item set a = 20");
    assert_eq!(database.lines(ITEMS), ["1|22|44"]);
}

#[test]
fn after_triggers_see_the_derived_value() {
    let database = Database::with_item();
    database.run(
        "create table seen (b int);
         create function see() returns trigger language plpgsql as
             'begin insert into seen values (new.b); return null; end';
         create trigger see after insert or update on item for each row execute function see();
         insert into item values (1, 10, 99);
         update item set a = 11, b = 99",
    );
    assert_eq!(
        database.lines("select b from seen order by b"),
        ["20", "22"]
    );
}

#[test]
fn check_constraints_see_the_derived_value() {
    let database = Database::with_item();
    database.run("alter table item add check (b < 50); insert into item values (1, 10, 99)");
    let error = database.error("insert into item values (2, 30, 1)");
    assert_eq!(error.code(), &SqlState::CHECK_VIOLATION);
    let error = database.error("update item set a = 30, b = 1");
    assert_eq!(error.code(), &SqlState::CHECK_VIOLATION);
    assert_eq!(database.lines(ITEMS), ["1|10|20"]);
}

#[test]
fn not_null_sees_the_derived_value() {
    let database = Database::with_item();
    database.run("alter table item alter b set not null; insert into item (id, a) values (1, 10)");
    let error = database.error("insert into item values (2, null, 1)");
    assert_eq!(error.code(), &SqlState::NOT_NULL_VIOLATION);
    let error = database.error("update item set a = null, b = 1");
    assert_eq!(error.code(), &SqlState::NOT_NULL_VIOLATION);
    assert_eq!(database.lines(ITEMS), ["1|10|20"]);
}

#[test]
fn unique_indexes_see_the_derived_value() {
    let database = Database::with_item();
    database.run("create unique index on item (b); insert into item values (1, 10, 5), (2, 20, 5)");
    let error = database.error("insert into item values (3, 10, 6)");
    assert_eq!(error.code(), &SqlState::UNIQUE_VIOLATION);
    assert_eq!(error.detail(), Some("Key (b)=(20) already exists."));
    let error = database.error("update item set a = 10, b = 6 where id = 2");
    assert_eq!(error.code(), &SqlState::UNIQUE_VIOLATION);
    assert_eq!(
        database.lines("set enable_seqscan = off; select id from item where b = 40"),
        ["2"]
    );
}

#[test]
fn foreign_keys_see_the_derived_value() {
    let database = Database::with_item();
    database.run(
        "create table target (id int primary key); insert into target values (20);
         alter table item add foreign key (b) references target;
         insert into item values (1, 10, 99)",
    );
    let error = database.error("insert into item values (2, 11, 20)");
    assert_eq!(error.code(), &SqlState::FOREIGN_KEY_VIOLATION);
}

#[test]
fn source_column_that_a_foreign_key_cascades_into_is_followed() {
    let database = Database::with_item();
    database.run(
        "create table source (id int primary key); insert into source values (10), (20);
         alter table item add foreign key (a) references source on update cascade on delete set null;
         insert into item values (1, 10), (2, 20);
         update source set id = 11 where id = 10;
         delete from source where id = 20",
    );
    assert_eq!(database.lines(ITEMS), ["1|11|22", "2|NULL|NULL"]);
}

#[test]
fn copy_is_derived() {
    let database = Database::with_item();
    let mut client = database.connect();
    for columns in ["", "(id, a)"] {
        let mut writer = client
            .copy_in(&format!("copy item {columns} from stdin"))
            .expect("copy starts");
        let rows = match columns {
            "" => "1\t10\t99\n2\t20\t\\N\n",
            _ => "3\t30\n",
        };
        writer.write_all(rows.as_bytes()).expect("the server reads");
        writer.finish().expect("copy ends");
    }
    assert_eq!(database.lines(ITEMS), ["1|10|20", "2|20|40", "3|30|60"]);
}

#[test]
fn insert_on_conflict_is_derived_on_both_ways() {
    let database = Database::with_item();
    database.run(
        "insert into item values (1, 10);
         insert into item values (1, 15, 99), (2, 20, 99)
             on conflict (id) do update set a = item.a + excluded.a, b = excluded.b + 1000",
    );
    assert_eq!(database.lines(ITEMS), ["1|25|50", "2|20|40"]);
    assert_eq!(
        database.lines(
            "insert into item values (1, 7, 99) on conflict (id) do update set a = excluded.b returning a, b"
        ),
        ["14|28"],
        "excluded holds the derived value, as for a GENERATED column"
    );
}

#[test]
fn merge_is_derived() {
    let database = Database::with_item();
    database.run(
        "insert into item values (1, 10);
         merge into item using (values (1, 11), (2, 20)) new (id, a) on item.id = new.id
         when matched then update set a = new.a, b = 99
         when not matched then insert values (new.id, new.a, 99)",
    );
    assert_eq!(database.lines(ITEMS), ["1|11|22", "2|20|40"]);
}

#[test]
fn returning_gives_the_derived_value() {
    let database = Database::with_item();
    assert_eq!(
        database.lines("insert into item values (1, 10, 99) returning b"),
        ["20"]
    );
    assert_eq!(
        database.lines("update item set a = 11, b = 99 returning a, b"),
        ["11|22"]
    );
}

#[test]
fn writes_through_a_view_are_derived() {
    let database = Database::with_item();
    database.run(
        "create view shown as select * from item;
         insert into shown values (1, 10, 99); update shown set a = 11, b = 99",
    );
    assert_eq!(database.lines(ITEMS), ["1|11|22"]);
}

#[test]
fn role_that_may_only_write_needs_no_right_of_ours() {
    let database = Database::without_extension();
    database.run(&format!(
        "create schema private; create extension replwarden schema private;
         create table item (id int primary key, a int, b int);
         select private.repl_set_expression('item', 'b', 'a * 2');
         grant insert, select, update on item to {STRANGER}"
    ));
    database.run_as(
        STRANGER,
        "insert into item values (1, 10, 99); update item set a = 11",
    );
    assert_eq!(database.lines(ITEMS), ["1|11|22"]);
}

#[test]
fn each_rule_of_a_table_is_computed() {
    let database = Database::with_item();
    database.run(
        "alter table item add c text, add d int, add e int;
         select repl_set_expression('item', 'c', 'a::text || ''!''');
         select repl_set_expression('item', 'e', 'd + a');
         insert into item values (1, 10, 99, 'x', 5, 99), (2, 20, 99, null, null, 99);
         update item set d = 6 where id = 2",
    );
    assert_eq!(
        database.lines("select * from item order by id"),
        ["1|10|20|10!|5|15", "2|20|40|20!|6|26"]
    );
    database.run("select repl_drop_expression('item', 'c'); insert into item values (3, 30, 99, 'own', 7, 99)");
    assert_eq!(
        database.lines("select * from item where id = 3"),
        ["3|30|60|own|7|37"]
    );
}

#[test]
fn dropped_columns_do_not_shift_the_others() {
    let database = Database::new();
    database.run(
        "create table item (gone1 text, id int primary key, gone2 text, a int, gone3 int, b int, gone4 text, c text);
         alter table item drop gone1, drop gone2, drop gone3, drop gone4;
         select repl_set_expression('item', 'b', 'a * 2 + length(c)');
         insert into item values (1, 10, 99, 'abc');
         alter table item drop id, add id int primary key default 1;
         update item set c = 'abcd'",
    );
    assert_eq!(database.lines("select a, b, c from item"), ["10|24|abcd"]);
}

#[test]
fn column_added_later_with_a_default_can_be_read() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int); insert into item values (1, 10), (2, 20);
         alter table item add d int default 1000;
         select repl_set_expression('item', 'b', 'a + d', backfill => false);
         update item set a = 11 where id = 1",
    );
    assert_eq!(database.lines(ITEMS), ["1|11|1011", "2|20|NULL"]);
    database.run("select repl_set_expression('item', 'b', 'a + d')");
    database.backfilled();
    assert_eq!(database.lines(ITEMS), ["1|11|1011", "2|20|1020"]);
}

#[test]
fn odd_names_are_quoted() {
    let database = Database::new();
    database.run(
        r#"create schema "My ""schema"; create table "My ""schema"."Täble %s 'x'" (
             "new" int primary key, "old %d" int, "select ""all"" \n" text);
           select repl_set_expression('"My ""schema"."Täble %s ''x''"', 'select "all" \n',
                                      '"new" || ''\ ''''%s'''' '' || "old %d"');
           insert into "My ""schema"."Täble %s 'x'" values (1, 2, 'nothing')"#,
    );
    assert_eq!(
        database.lines(r#"select "select ""all"" \n" from "My ""schema"."Täble %s 'x'""#),
        [r"1\ '%s' 2"]
    );
    assert_eq!(
        database.lines("select relation, column_name, state from repl_generated_columns"),
        [r#""My ""schema"."Täble %s 'x'"|select "all" \n|live"#]
    );
}

/// A GENERATED column beside a derived one, through the same statements.
#[test]
fn derived_column_equals_a_generated_one() {
    const EXPRESSION: &str = "coalesce(a * 3, -1) || coalesce(c, '-')";
    let database = Database::new();
    database.run(&format!(
        "create table twin (id int primary key, a int, c text, b text generated always as ({EXPRESSION}) stored);
         create table item (id int primary key, a int, c text, b text);
         select repl_set_expression('item', 'b', $${EXPRESSION}$$)"
    ));
    for table in ["item", "twin"] {
        database.run(&format!(
            "insert into {table} select n, nullif(n % 7, 3), nullif(md5(n::text), md5('5'))
                 from generate_series(1, 2000) n;
             update {table} set a = a + 1 where id % 3 = 0;
             update {table} set c = repeat(c, 200) where id % 5 = 0;
             update {table} set id = -id where id % 11 = 0;
             delete from {table} where id % 13 = 0;
             insert into {table} select n, n, 'new' from generate_series(1500, 2500) n
                 on conflict (id) do update set a = null"
        ));
    }
    assert_eq!(
        database.lines(
            "select count(*) filter (where item.id is null), count(*) filter (where twin.id is null),
                    count(*) filter (where (item.a, item.b) is distinct from (twin.a, twin.b)), count(*) > 2000
               from item full join twin using (id)"
        ),
        ["0|0|0|t"]
    );
}

#[test]
fn update_that_waited_for_another_is_derived_from_both() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, c int, b int);
         select repl_set_expression('item', 'b', 'a + c');
         insert into item values (1, 1, 2)",
    );
    let mut first = database.connect();
    first
        .batch_execute("begin; update item set a = 10")
        .expect("nobody is in the way");
    let mut second = database.connect();
    let waiter = thread::spawn(move || second.batch_execute("update item set c = 20"));
    wait_until("the second update waits", DEFAULT_DEADLINE, || {
        database.lines(
            "select count(*) from pg_stat_activity
              where datname = current_database() and wait_event_type = 'Lock'",
        ) == ["1"]
    });
    first.batch_execute("commit").expect("it can commit");
    waiter
        .join()
        .expect("the thread ends")
        .expect("the update succeeds");
    assert_eq!(database.lines("select a, c, b from item"), ["10|20|30"]);
}

#[test]
fn expression_may_write_to_its_own_table() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int);
         create function add_item(id int, a int) returns void language sql
             begin atomic insert into item values (id, a); end;
         create function twice(id int, a int) returns int language plpgsql immutable
             set search_path = pg_catalog as $$
         begin
             if a > 0 then
                 perform public.add_item(id * 10, a - 1);
             end if;
             return a * 2;
         end $$;
         select repl_set_expression('item', 'b', 'twice(id, a)');
         insert into item values (1, 2, 99), (2, 1, 99)",
    );
    let expected = ["1|2|4", "2|1|2", "10|1|2", "20|0|0", "100|0|0"];
    assert_eq!(database.lines(ITEMS), expected);
}

#[test]
fn row_after_a_failed_one_is_derived_right() {
    let database = Database::new();
    database.run(
        "create table item (id int primary key, a int, b int);
         select repl_set_expression('item', 'b', '100 / a')",
    );
    let mut client = database.connect();
    client
        .batch_execute("begin; insert into item values (1, 10); savepoint before")
        .expect("it is a good row");
    for id in 2..4 {
        let error = client
            .batch_execute(&format!("insert into item values ({id}, 0)"))
            .expect_err("it divides by zero");
        assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
        client
            .batch_execute(&format!(
                "rollback to before; insert into item values (1{id}, 5); savepoint before"
            ))
            .expect("the savepoint is there");
    }
    client.batch_execute("commit").expect("it can commit");
    assert_eq!(lines(&mut client, ITEMS), ["1|10|10", "12|5|20", "13|5|20"]);
}
