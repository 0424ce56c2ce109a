//! Foreign keys are taken away with all that makes them, and come back so: NOT VALID first, and validated by a worker that
//! keeps nobody from writing.

use postgres::error::SqlState;
use replwarden_tests::{DEFAULT_DEADLINE, wait_for_value, wait_until};

use crate::database::Database;

/// All foreign keys as the server has them.
pub(crate) const KEYS: &str = "
    select c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid), c.convalidated, c.conparentid <> 0,
           obj_description(c.oid, 'pg_constraint')
      from pg_constraint c where c.contype = 'f' and c.conparentid = 0 order by 1, 2";
pub(crate) const DETACHED: &str =
    "select relation, constraint_name, state from repl_detached_foreign_keys order by 1, 2";

#[track_caller]
pub(crate) fn wait_none_detached(database: &Database) {
    wait_for_value(
        "no foreign key is detached",
        DEFAULT_DEADLINE,
        || {
            database.lines(
                "select relation, constraint_name, state, problem from repl_detached_foreign_keys",
            )
        },
        Vec::is_empty,
    );
}

/// One of each kind.
const EVERY_KIND: &str = r#"
    create schema "The Shop";
    create table customer (id int primary key, country text, unique (id, country));
    create table plain (id int primary key, customer int references customer);
    create table "The Shop"."Order's" (
        id int primary key, "Customer ""Id""" int,
        constraint "Customer's ""key""" foreign key ("Customer ""Id""") references customer
            on update cascade on delete set null deferrable initially deferred);
    comment on constraint "Customer's ""key""" on "The Shop"."Order's" is 'it''s a comment';
    create table pair (a int, b text, constraint two_columns foreign key (a, b) references customer (id, country) match full);
    create table tree (id int primary key, parent int references tree on delete cascade);
    create table legacy (id int, customer int);
    insert into legacy values (1, 99);
    alter table legacy add constraint never_checked foreign key (customer) references customer not valid;
    create table part (id int, day int, customer int references customer, primary key (id, day)) partition by range (day);
    create table part_1 partition of part for values from (0) to (10);
    create table part_2 partition of part for values from (10) to (20) partition by range (day);
    create table part_2a partition of part_2 for values from (10) to (15);
    create table to_part (id int, day int, foreign key (id, day) references part);
    insert into customer values (1, 'de'), (2, 'fr');
    insert into plain values (1, 1);
    insert into "The Shop"."Order's" values (1, 2);
    insert into pair values (1, 'de'), (null, null);
    insert into tree values (1, null), (2, 1);
    insert into part values (1, 5, 1), (2, 12, 2);
    insert into to_part values (1, 5)"#;

const TABLES: [&str; 9] = [
    "customer",
    "plain",
    "\"The Shop\".\"Order's\"",
    "pair",
    "tree",
    "legacy",
    "part",
    "part_2a",
    "to_part",
];

#[test]
fn every_kind_comes_back_as_it_was() {
    let database = Database::new();
    database.run(EVERY_KIND);
    let before = database.lines(KEYS);
    assert_eq!(before.len(), 7, "{before:?}");
    let mut number = 0;
    for table in TABLES {
        number += database
            .lines(&format!(
                "select repl_detach_foreign_keys('{}')",
                table.replace('\'', "''")
            ))
            .len();
    }
    assert_eq!(number, before.len());
    assert!(database.lines(KEYS).is_empty());
    let detached = database.lines(
        "select definition from repl_detached_foreign_keys where state = 'detached' and relation is not null",
    );
    assert_eq!(detached.len(), before.len());
    database.run("truncate customer; insert into customer values (1, 'de'), (2, 'fr')");
    let lines = database.lines("select repl_restore_foreign_keys()");
    assert_eq!(lines.len(), before.len(), "{lines:?}");
    wait_none_detached(&database);
    assert_eq!(database.lines(KEYS), before);
    assert!(
        database
            .lines("select repl_restore_foreign_keys()")
            .is_empty()
    );
    // The parts of a partitioned table's key are parts of it again.
    assert_eq!(
        database.lines("select count(*) from pg_constraint where conrelid in ('part_1'::regclass, 'part_2a'::regclass) and contype = 'f' and conparentid <> 0 and convalidated"),
        ["2"]
    );
    for row in [
        "plain values (2, 3)",
        "part values (3, 5, 3)",
        "part values (3, 12, 3)",
    ] {
        let error = database.error(&format!("insert into {row}"));
        assert_eq!(error.code(), &SqlState::FOREIGN_KEY_VIOLATION, "{row}");
    }
    // It was neither checked nor is it now.
    assert_eq!(
        database.lines("select convalidated from pg_constraint where conname = 'never_checked'"),
        ["f"]
    );
}

#[test]
fn keys_that_refer_to_a_table_are_found_from_it() {
    let database = Database::new();
    database.run(EVERY_KIND);
    let lines = database.lines("select repl_detach_foreign_keys('customer')");
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(
        lines.contains(
            &"public.plain: foreign key plain_customer_fkey to public.customer is detached"
                .to_owned()
        ),
        "{lines:?}"
    );
    assert!(
        database
            .lines("select repl_detach_foreign_keys('customer')")
            .is_empty()
    );
    database.run("truncate customer");
    // Only that of the table is brought back.
    database.run("insert into customer values (1, 'de'), (2, 'fr')");
    assert_eq!(
        database.lines("select repl_restore_foreign_keys('plain')"),
        [
            "public.plain: foreign key plain_customer_fkey is back for new rows; existing ones are being validated"
        ]
    );
    assert_eq!(
        database.lines(
            "select count(*) from repl_detached_foreign_keys where relation <> 'plain'::regclass"
        ),
        ["4"]
    );
    // From a partition, too.
    assert_eq!(
        database.lines("select repl_detach_foreign_keys('part_2a')"),
        ["public.to_part: foreign key to_part_id_day_fkey to public.part is detached"]
    );
}

#[test]
fn what_is_not_committed_is_not_detached() {
    let database = Database::new();
    database.run(EVERY_KIND);
    let before = database.lines(KEYS);
    database.run("begin; select repl_detach_foreign_keys('customer'); rollback");
    assert_eq!(database.lines(KEYS), before);
    assert!(database.lines(DETACHED).is_empty());
    // In one transaction, too.
    database.run("begin; select repl_detach_foreign_keys('customer'); select repl_restore_foreign_keys(); commit");
    wait_none_detached(&database);
    assert_eq!(database.lines(KEYS), before);
}

const ORPHANS: &str = "
    create table customer (id int primary key);
    create table orders (id int primary key, customer int references customer);
    insert into customer values (1), (2);
    insert into orders values (1, 1), (2, 2);
    select repl_detach_foreign_keys('customer');
    insert into orders select n, n * 10 from generate_series(3, 14) n";

#[test]
fn orphans_are_listed_with_their_keys() {
    let database = Database::new();
    database.run(ORPHANS);
    let lines = database.lines("select repl_restore_foreign_keys()");
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with(
            "public.orders: foreign key orders_customer_fkey is back, NOT VALID: 12 rows refer to nothing in public.customer: \
             (customer = 30, id = 3), (customer = 40, id = 4), "
        ),
        "{lines:?}"
    );
    assert!(lines[0].ends_with(", …"), "{lines:?}");
    assert_eq!(
        database.lines("select state, rows_wrong, sample_keys -> 0, problem like '12 rows refer%' from repl_detached_foreign_keys"),
        ["not valid|12|{\"id\": 3, \"customer\": 30}|t"]
    );
    // New rows are held to it.
    let error = database.error("insert into orders values (99, 99)");
    assert_eq!(error.code(), &SqlState::FOREIGN_KEY_VIOLATION);
    database.run("delete from orders where id > 3");
    assert_eq!(
        database
            .lines("select repl_restore_foreign_keys('orders')")
            .len(),
        1
    );
    database.run("delete from orders where id > 2");
    assert_eq!(
        database.lines("select repl_restore_foreign_keys('orders')"),
        ["public.orders: foreign key orders_customer_fkey is NOT VALID, and is being validated"]
    );
    wait_none_detached(&database);
    assert_eq!(
        database.lines("select convalidated from pg_constraint where contype = 'f'"),
        ["t"]
    );
}

/// Orphans that come between the look and the constraint are found by the worker; so are those of a table of any size.
#[test]
fn worker_tells_of_orphans_too() {
    let database = Database::new();
    database.run(
        "create table customer (id int primary key);
         create table orders (id int, customer int) partition by range (id);
         create table orders_1 partition of orders for values from (0) to (10);
         create table orders_2 partition of orders for values from (10) to (20);
         alter table orders add foreign key (customer) references customer;
         select repl_detach_foreign_keys('orders');
         insert into customer values (1);
         select repl_restore_foreign_keys('orders', validate => false)",
    );
    // The parts hold for new rows already.
    let error = database.error("insert into orders values (5, 5)");
    assert_eq!(error.code(), &SqlState::FOREIGN_KEY_VIOLATION);
    database.run("insert into orders values (15, 1)");
    database.run("set session_replication_role = replica; insert into orders values (16, 7)");
    // What nobody has looked at.
    database.run("update _repl_foreign_keys set task = 'validate'");
    database.run("create table other (id int references customer); select repl_detach_foreign_keys('other'); select repl_restore_foreign_keys('other')");
    wait_for_value(
        "the worker says what is wrong",
        DEFAULT_DEADLINE,
        || {
            database.lines("select problem from repl_detached_foreign_keys where relation = 'orders'::regclass")
        },
        |lines| lines == &["1 row refers to nothing in public.customer: (customer = 7)".to_owned()],
    );
    assert!(
        database.lines("select event, severity, detail ->> 'finding' from repl_events where event = 'foreign_key_not_restored'")[0]
            .contains("1 row refers to nothing")
    );
    database.run("insert into customer values (7)");
    database.run("select repl_restore_foreign_keys()");
    wait_none_detached(&database);
}

#[test]
fn validating_keeps_nobody_from_writing() {
    let database = Database::new();
    database.run(
        "create table customer (id int primary key);
         create table orders (id int primary key, customer int references customer);
         insert into customer values (1);
         insert into orders select n, 1 from generate_series(1, 1000) n;
         select repl_detach_foreign_keys('orders')",
    );
    database.run("select repl_restore_foreign_keys(validate => false)");
    // VALIDATE waits for this one, and writers do not wait for VALIDATE.
    let mut holder = database.connect();
    holder
        .batch_execute("begin; lock table orders in share update exclusive mode")
        .expect("it can be locked");
    database.run("set statement_timeout = '60s'; select repl_restore_foreign_keys()");
    wait_until("the worker waits to validate", DEFAULT_DEADLINE, || {
        database.lines(
            "select count(*) from pg_locks where relation = 'orders'::regclass and not granted and mode = 'ShareUpdateExclusiveLock'",
        ) == ["1"]
    });
    assert_eq!(
        database.lines(DETACHED),
        ["orders|orders_customer_fkey|validating"]
    );
    // Under way it is not done again.
    assert!(
        database
            .lines("select repl_restore_foreign_keys()")
            .is_empty()
    );
    database.run("set statement_timeout = '60s'; insert into orders values (2000, 1); insert into customer values (2); update orders set customer = 2 where id = 1; delete from orders where id = 2");
    holder.batch_execute("commit").expect("it commits");
    wait_none_detached(&database);
    assert_eq!(
        database.lines("select convalidated from pg_constraint where contype = 'f'"),
        ["t"]
    );
}

#[test]
fn tables_that_are_renamed_or_gone() {
    let database = Database::new();
    database.run(
        "create table customer (id int primary key); create table taken (id int primary key);
         create table a (customer int references customer);
         create table b (customer int references customer);
         create table c (customer int, constraint c_key foreign key (customer) references customer);
         create table d (other int references taken);
         create table e (customer int references customer);
         select repl_detach_foreign_keys('customer'); select repl_detach_foreign_keys('taken');
         alter table customer rename to client; create schema elsewhere; alter table client set schema elsewhere;
         alter table a rename to \"A\";
         alter table b drop column customer;
         alter table c add constraint c_key check (customer > 0);
         drop table taken; drop table e",
    );
    let lines = database.lines("select repl_restore_foreign_keys()");
    assert_eq!(
        lines,
        [
            "public.\"A\": foreign key a_customer_fkey is back for new rows; existing ones are being validated",
            "public.b: foreign key b_customer_fkey is not back: column \"customer\" referenced in foreign key constraint does not exist",
            "public.c: foreign key c_key is not back: another constraint of public.c has its name: ALTER TABLE public.c RENAME CONSTRAINT c_key TO …",
            "public.e: foreign key e_customer_fkey is not back: there is no table public.e any more",
            "public.d: foreign key d_other_fkey is not back: there is no table public.taken any more, to which it refers",
        ]
    );
    wait_until("the one that is back is valid", DEFAULT_DEADLINE, || {
        database.lines("select convalidated from pg_constraint where contype = 'f'") == ["t"]
    });
    assert_eq!(
        database.lines("select pg_get_constraintdef(oid) from pg_constraint where contype = 'f'"),
        ["FOREIGN KEY (customer) REFERENCES elsewhere.client(id)"]
    );
    // Nothing is lost, and what is mended comes back.
    assert_eq!(
        database.lines("select count(*) from repl_detached_foreign_keys where problem is not null"),
        ["4"]
    );
    database.run(
        "alter table b add column customer int; alter table c rename constraint c_key to positive;
         create table taken (id int primary key); create table e (customer int)",
    );
    database.run("select repl_restore_foreign_keys()");
    wait_none_detached(&database);
}

/// A lock that somebody holds is waited for as long as the caller wants.
#[test]
fn lock_timeout_of_the_caller_holds() {
    let database = Database::new();
    database.run(
        "create table customer (id int primary key); create table orders (customer int references customer);
         create table more (customer int references customer); select repl_detach_foreign_keys('more')",
    );
    let mut holder = database.connect();
    holder
        .batch_execute("begin; insert into customer values (1)")
        .expect("it writes");
    for call in [
        "repl_detach_foreign_keys('customer')",
        "repl_restore_foreign_keys()",
    ] {
        let error = database.error(&format!("set lock_timeout = '50ms'; select {call}"));
        assert_eq!(error.code().code(), "55P03", "{call}");
    }
    assert_eq!(
        database.lines(DETACHED),
        ["more|more_customer_fkey|detached"]
    );
}

#[test]
fn dropped_extension_leaves_no_key_behind() {
    let database = Database::new();
    database.run(EVERY_KIND);
    let before = database.lines(
        "select conname from pg_constraint where contype = 'f' and conparentid = 0 order by 1",
    );
    for table in TABLES {
        database.run(&format!(
            "select repl_detach_foreign_keys('{}')",
            table.replace('\'', "''")
        ));
    }
    // That it would break is a reason not to drop it.
    database.run("insert into part values (9, 9, 99)");
    let error = database.error("drop extension replwarden");
    assert_eq!(error.code().code(), "2BP01", "{error:?}");
    assert!(error.message().contains("part_customer_fkey"), "{error:?}");
    assert!(
        error
            .hint()
            .is_some_and(|hint| hint.contains("DELETE FROM public._repl_foreign_keys")),
        "{error:?}"
    );
    assert!(
        database
            .lines("select conname from pg_constraint where contype = 'f'")
            .is_empty()
    );
    database.run("delete from part where id = 9");
    // Another one's drop is no business of ours.
    database.run("create schema nothing; drop schema nothing");
    assert!(
        database
            .lines("select conname from pg_constraint where contype = 'f'")
            .is_empty()
    );
    database.run("drop extension replwarden");
    assert_eq!(
        database.lines(
            "select conname from pg_constraint where contype = 'f' and conparentid = 0 order by 1"
        ),
        before
    );
}
