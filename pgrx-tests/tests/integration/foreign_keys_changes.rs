//! What happens to tables and to their owners while foreign keys are detached.

use replwarden_tests::{DEFAULT_DEADLINE, Provider, wait_for_value};

use crate::database::{Database, OWNER, STRANGER, create_roles, lines};
use crate::foreign_keys::{DETACHED, KEYS, wait_none_detached};
use crate::resync::{detached, shop};
use crate::status::{self, Lock, Status};

const SHOP: &str = "
    create table customer (id int primary key);
    create table orders (id int primary key, customer int references customer on delete cascade);
    insert into customer values (1); insert into orders values (1, 1);
    select repl_detach_foreign_keys('customer')";

#[test]
fn tables_have_another_owner() {
    let database = Database::new();
    database.run_as(OWNER, SHOP);
    database.run(&format!("reassign owned by {OWNER} to {STRANGER}"));
    assert_eq!(
        database.lines(&format!(
            "set role {OWNER}; select repl_restore_foreign_keys()"
        )),
        [format!(
            "public.orders: foreign key orders_customer_fkey is left alone: only the owner of public.orders, {STRANGER}, may change it"
        )]
    );
    database.run_as(STRANGER, "select repl_restore_foreign_keys()");
    wait_none_detached(&database);
    assert_eq!(
        database.lines(KEYS),
        [
            "orders|orders_customer_fkey|FOREIGN KEY (customer) REFERENCES customer(id) ON DELETE CASCADE|t|f|NULL"
        ]
    );
}

#[test]
fn owner_and_all_that_is_his_are_gone() {
    let database = Database::new();
    database.run_as(OWNER, SHOP);
    database.run(
        "create table mine (id int primary key, customer int references customer);
         select repl_detach_foreign_keys('mine')",
    );
    database.run(&format!("drop owned by {OWNER}"));
    assert_eq!(
        database.lines(
            "select relation, constraint_name, state, referenced from repl_detached_foreign_keys order by 2"
        ),
        [
            "mine|mine_customer_fkey|detached|NULL",
            "NULL|orders_customer_fkey|detached|NULL"
        ]
    );
    let gone = [
        "public.orders: foreign key orders_customer_fkey is not back: there is no table public.orders any more",
        "public.mine: foreign key mine_customer_fkey is not back: there is no table public.customer any more, to which it refers",
    ];
    assert_eq!(database.lines("select repl_restore_foreign_keys()"), gone);
    assert_eq!(
        database
            .lines(&format!(
                "set role {STRANGER}; select repl_restore_foreign_keys()"
            ))
            .len(),
        2
    );
    assert_eq!(
        database.lines("select repl_restore_foreign_keys('mine')"),
        gone[1..]
    );
    assert!(
        database
            .lines("select repl_detach_foreign_keys()")
            .is_empty()
    );
    // Somebody makes them again, under the same names.
    database.run("create table customer (id int primary key); create table orders (customer int)");
    database.run("select repl_restore_foreign_keys()");
    wait_none_detached(&database);
    assert_eq!(database.lines(KEYS).len(), 2);
}

#[test]
fn what_they_refer_to_has_other_names() {
    let database = Database::new();
    database.run(SHOP);
    database.run(
        "alter table customer rename constraint customer_pkey to \"it's another\";
         alter table orders rename constraint orders_pkey to orders_customer_pkey;
         alter table customer rename to \"the \"\"customer\"\"\";
         create schema \"it's elsewhere\"; alter table orders set schema \"it's elsewhere\"",
    );
    database.run("select repl_restore_foreign_keys()");
    wait_none_detached(&database);
    assert_eq!(
        database.lines(KEYS),
        [
            "\"it's elsewhere\".orders|orders_customer_fkey|FOREIGN KEY (customer) REFERENCES \"the \"\"customer\"\"\"(id) ON DELETE CASCADE|t|f|NULL"
        ]
    );
}

/// Another table takes the place of one that is gone; what it lacks is said.
#[test]
fn another_table_has_the_name() {
    let database = Database::new();
    database.run(SHOP);
    database.run("drop table customer; create table customer (number int)");
    let said = database.lines("select repl_restore_foreign_keys()");
    assert_eq!(
        said,
        [
            "public.orders: foreign key orders_customer_fkey is not back: column \"id\" referenced in foreign key constraint does not exist"
        ]
    );
    assert_eq!(
        database.lines(DETACHED),
        ["orders|orders_customer_fkey|detached"]
    );
    database.run("drop table customer; create view customer as select 1 as id");
    let said = database.lines("select repl_restore_foreign_keys()");
    assert!(said[0].contains("is not back: "), "{said:?}");
    database.run("drop view customer; create table customer (id int primary key); insert into customer values (1)");
    database.run("select repl_restore_foreign_keys()");
    wait_none_detached(&database);
}

/// The worker finds them as they are then, and nothing fails for what it does not find.
#[test]
fn key_that_is_not_valid_yet_has_another_name() {
    let database = Database::new();
    database.run(SHOP);
    database.run(
        "select repl_restore_foreign_keys(validate => false);
         alter table orders rename constraint orders_customer_fkey to \"an \"\"other\"\"\"",
    );
    assert_eq!(
        database.lines(DETACHED),
        ["orders|an \"other\"|not valid"],
        "it is the one that was brought back"
    );
    database.run("select repl_detach_foreign_keys('orders')");
    assert_eq!(
        database.lines(DETACHED),
        ["orders|an \"other\"|detached"],
        "it is kept once"
    );
    database.run(
        "select repl_restore_foreign_keys(validate => false);
         alter table orders rename constraint \"an \"\"other\"\"\" to third;
         select repl_restore_foreign_keys()",
    );
    wait_none_detached(&database);
    assert_eq!(
        database.lines(KEYS),
        ["orders|third|FOREIGN KEY (customer) REFERENCES customer(id) ON DELETE CASCADE|t|f|NULL"]
    );
}

/// Only where the definition names columns once more are they not followed.
#[test]
fn columns_have_other_names() {
    let database = Database::new();
    database.run(
        "create table customer (id int, no int, unique (id, no), unique (no));
         create table orders (id int primary key, a int, b int,
                              constraint both_of foreign key (a, b) references customer (id, no) match full on update cascade,
                              constraint set_one foreign key (a, b) references customer (id, no) on delete set null (b));
         insert into customer values (1, 2), (3, 4); insert into orders values (1, 1, 2), (2, 3, 4);
         select repl_detach_foreign_keys('orders');
         update orders set b = 9 where id = 2;
         alter table orders rename a to c; alter table orders rename b to a; alter table orders rename c to \"the b\";
         alter table customer rename no to number; alter table customer rename to client;
         alter table orders drop id",
    );
    let lines = database.lines("select repl_restore_foreign_keys()");
    assert!(
        lines[0].starts_with("public.orders: foreign key both_of is back, NOT VALID: 1 row"),
        "{lines:?}"
    );
    assert!(lines[0].contains("(a = 9, the b = 3)"), "{lines:?}");
    assert!(
        lines[1].starts_with("public.orders: foreign key set_one is not back: "),
        "{lines:?}"
    );
    database.run(
        "alter table orders rename \"the b\" to c; alter table orders rename a to b; alter table orders rename c to a;
         alter table client rename number to no; update orders set b = 4 where b = 9;
         select repl_restore_foreign_keys()",
    );
    wait_none_detached(&database);
    assert_eq!(
        database.lines(KEYS),
        [
            "orders|both_of|FOREIGN KEY (a, b) REFERENCES client(id, no) MATCH FULL ON UPDATE CASCADE|t|f|NULL",
            "orders|set_one|FOREIGN KEY (a, b) REFERENCES client(id, no) ON DELETE SET NULL (b)|t|f|NULL",
        ]
    );
}

#[test]
fn owner_of_the_extension_goes() {
    let database = Database::without_extension();
    let boss = format!("boss_{}", database.name());
    database.run(&format!(
        "create role {boss} superuser; grant all on schema public to {OWNER};
         set role {boss}; create extension replwarden"
    ));
    database.run_as(OWNER, SHOP);
    // Of somebody who owns nothing of it.
    database.run(&format!("drop owned by {STRANGER}"));
    assert_eq!(
        database.lines(DETACHED),
        ["orders|orders_customer_fkey|detached"]
    );
    database.run(&format!("drop owned by {boss}; drop role {boss}"));
    assert!(
        database
            .lines("select from pg_extension where extname = 'replwarden'")
            .is_empty()
    );
    assert_eq!(
        database.lines(KEYS),
        [
            "orders|orders_customer_fkey|FOREIGN KEY (customer) REFERENCES customer(id) ON DELETE CASCADE NOT VALID|f|f|NULL"
        ]
    );
}

#[test]
fn tables_change_while_their_keys_wait() {
    let pair = shop(status::builder(Provider::Native).start());
    create_roles(pair.subscriber());
    pair.on_subscriber(
        "create table gone (customer int constraint gone_key references customer);
         create table moved (customer int constraint moved_key references customer);
         create table given (customer int constraint given_key references customer);
         insert into moved values (7); insert into given values (8)",
    );
    let copy = Lock::take(
        pair.publisher(),
        pair.database(),
        "customer",
        "access exclusive",
    );
    pair.on_subscriber("select repl_resync_table('customer')");
    pair.on_subscriber(&format!(
        "drop table gone; alter table given owner to {OWNER};
         create schema \"it's\"; alter table moved set schema \"it's\";
         alter table \"it's\".moved rename to \"the \"\"moved\"\"\""
    ));
    drop(copy);
    pair.wait_copied();
    let gone = "NULL|gone_key|detached|NULL|there is no table public.gone any more";
    wait_for_value(
        "all are back that can be",
        DEFAULT_DEADLINE,
        || detached(&pair),
        |seen| seen == &[gone],
    );
    let keys = "select conname, conrelid::regclass, convalidated from pg_constraint where contype = 'f' order by 1";
    assert_eq!(
        lines(&mut pair.subscriber().connect(pair.database()), keys),
        [
            "given_key|given|t",
            "moved_key|\"it's\".\"the \"\"moved\"\"\"|t",
            "orders_customer_fkey|orders|t"
        ]
    );
    let status = Status::of(&pair);
    status.wait_looked();
    assert!(status.report().ends_with(&["All is well.".to_owned()]));
    let of_keys = "select * from repl_cutover_check('sub') where check_name = 'foreign_keys'";
    let row = status.rows(of_keys).remove(0);
    assert!(row.is("ready", "t"), "{row:#?}");
    let warned = "select * from repl_diagnose() where cause = 'foreign_key_detached'";
    assert!(status.rows(warned).is_empty());
    pair.on_subscriber("select repl_restore_foreign_keys(); select repl_detach_foreign_keys(); select repl_restore_foreign_keys()");
}
