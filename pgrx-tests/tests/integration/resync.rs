//! `repl_resync_table` empties a table and has it copied again, and no change is lost or applied twice meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, Publication, wait_for_value, wait_until};

use crate::database::lines;
use crate::loan::on_both_providers;
use crate::status::{self, Status};

on_both_providers!(
    under_a_write_load,
    foreign_keys_come_back,
    rules_compute_what_is_copied,
    crash_in_the_middle,
    keys_come_back_where_it_is_not_preloaded
);

#[track_caller]
pub(crate) fn detached(pair: &Pair) -> Vec<String> {
    lines(
        &mut pair.subscriber().connect(pair.database()),
        "select relation, constraint_name, state, awaits, problem from repl_detached_foreign_keys order by 1, 2",
    )
}

#[track_caller]
pub(crate) fn wait_none_detached(pair: &Pair) {
    wait_for_value(
        "no foreign key is detached",
        DEFAULT_DEADLINE,
        || detached(pair),
        Vec::is_empty,
    );
}

/// Waits until a row is written to the publisher that comes over only when the table is in the stream again.
#[track_caller]
pub(crate) fn wait_in_step(pair: &Pair) {
    pair.wait_copied();
    pair.wait_caught_up();
}

const SHOP: &str = "
    create table customer (id int primary key, note text);
    create table orders (id int primary key, customer int references customer, note text);";

pub(crate) fn shop(pair: Pair) -> Pair {
    pair.on_both(SHOP);
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("customer").table("orders"));
    pair.on_publisher(
        "insert into customer select n, 'n' || n from generate_series(1, 200) n;
         insert into orders select n, 1 + n % 200, 'o' || n from generate_series(1, 500) n",
    );
    pair.subscribe();
    wait_in_step(&pair);
    pair
}

pub(crate) const BOTH: &str = "select 'c', id, null, note from customer union all select 'o', id, customer, note from orders order by 1, 2";

/// Inserts, updates and deletes rows of both tables, several in a transaction, until it is told to stop.
fn write(pair: &Pair, stop: &AtomicBool) -> u32 {
    let mut client = pair.publisher().connect(pair.database());
    let mut number = 1000;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        client
            .batch_execute(&format!(
                "begin;
                 insert into customer values ({number}, 'new');
                 insert into orders values ({number}, {number}, 'new');
                 update customer set note = 'changed {number}' where id = {number} - 3;
                 update orders set note = 'changed {number}' where id = 1 + {number} % 500;
                 delete from orders where id = {number} - 5;
                 delete from customer where id = {number} - 5;
                 commit"
            ))
            .expect("the publisher takes it");
    }
    number - 1000
}

fn under_a_write_load(provider: Provider) {
    let pair = shop(status::builder(provider).start());
    let status = Status::of(&pair);
    let stop = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&pair, &stop));
        for table in ["customer", "orders", "customer"] {
            // Somebody may have to give way to an apply worker.
            wait_until(
                &format!("{table} is copied again"),
                DEFAULT_DEADLINE,
                || match pair
                    .subscriber()
                    .connect(pair.database())
                    .batch_execute(&format!("select repl_resync_table('{table}')"))
                {
                    Ok(()) => true,
                    Err(error) => {
                        let code = error.code().map(|code| code.code().to_owned());
                        assert_eq!(code.as_deref(), Some("40P01"), "{error:?}");
                        false
                    }
                },
            );
            pair.wait_copied();
            wait_none_detached(&pair);
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("it writes")
    });
    assert!(written > 3, "{written}");
    wait_in_step(&pair);
    pair.compare(BOTH, BOTH);
    pair.on_publisher(
        "update customer set note = 'last'; insert into orders values (9999, 1, 'last')",
    );
    wait_in_step(&pair);
    pair.compare(BOTH, BOTH);
    let events = status.rows("select * from repl_events where event = 'table_resync'");
    assert_eq!(events.len(), 3, "{events:?}");
}

fn foreign_keys_come_back(provider: Provider) {
    let pair = shop(status::builder(provider).start());
    let status = Status::of(&pair);
    // The copy cannot begin.
    let lock = pair.publisher().connect(pair.database());
    let mut lock = lock;
    lock.batch_execute("begin; lock table customer in access exclusive mode")
        .expect("it can be locked");
    pair.on_subscriber("select repl_resync_table('customer')");
    assert_eq!(
        detached(&pair),
        ["orders|orders_customer_fkey|waiting|customer|NULL"]
    );
    let report = status.report().join("\n");
    assert!(
        report.contains("public.orders, orders_customer_fkey: comes back when")
            || report.contains("orders, orders_customer_fkey: comes back when"),
        "{report}"
    );
    // While it is copied it does not come back by hand either.
    let said = lines(
        &mut pair.subscriber().connect(pair.database()),
        "select repl_restore_foreign_keys()",
    );
    assert_eq!(
        said,
        [
            "public.orders: foreign key orders_customer_fkey waits for public.customer to be copied, and comes back by itself then"
        ]
    );
    let error = pair
        .subscriber()
        .expect_error(pair.database(), "select repl_resync_table('customer')");
    assert_eq!(error.code().code(), "55006", "{error:?}");
    lock.batch_execute("commit").expect("it is unlocked");
    wait_in_step(&pair);
    wait_none_detached(&pair);
    pair.compare(BOTH, BOTH);
    assert_eq!(
        lines(
            &mut pair.subscriber().connect(pair.database()),
            "select conname, convalidated from pg_constraint where contype = 'f' and conrelid = 'orders'::regclass"
        ),
        ["orders_customer_fkey|t"]
    );
    let events = status.rows("select * from repl_events where event = 'foreign_key_restored'");
    assert_eq!(events.len(), 1, "{events:?}");
}

fn rules_compute_what_is_copied(provider: Provider) {
    let pair = status::streaming(status::builder(provider).start());
    pair.on_subscriber(
        "alter table item add loud text; select repl_set_expression('item', 'loud', 'upper(note)')",
    );
    pair.on_publisher("update item set note = 'n' || id; insert into item select n, 'n' || n from generate_series(3, 300) n");
    pair.wait_caught_up();
    pair.on_subscriber("select repl_backfill('item'); select repl_resync_table('item')");
    wait_in_step(&pair);
    pair.on_publisher("insert into item values (1000, 'last')");
    wait_in_step(&pair);
    pair.compare(
        "select id, note, upper(note) from item order by id",
        "select id, note, loud from item order by id",
    );
    wait_until("the backfill ends", DEFAULT_DEADLINE, || {
        lines(
            &mut pair.subscriber().connect(pair.database()),
            "select state from repl_backfills where state in ('queued', 'running')",
        )
        .is_empty()
    });
    assert_eq!(
        lines(
            &mut pair.subscriber().connect(pair.database()),
            "select rows_wrong from repl_verify('item')"
        ),
        ["0"]
    );
}

/// Whatever ends, the keys come back.
fn crash_in_the_middle(provider: Provider) {
    let pair = shop(status::builder(provider).start());
    let mut lock = pair.publisher().connect(pair.database());
    lock.batch_execute("begin; lock table customer in access exclusive mode")
        .expect("it can be locked");
    pair.on_subscriber("select repl_resync_table('customer')");
    pair.subscriber().kill();
    pair.subscriber().start();
    assert_eq!(
        detached(&pair),
        ["orders|orders_customer_fkey|waiting|customer|NULL"]
    );
    lock.batch_execute("commit").expect("it is unlocked");
    wait_in_step(&pair);
    wait_none_detached(&pair);
    pair.compare(BOTH, BOTH);
}

/// What does not fit then is said, and stays to be seen.
#[test]
fn key_that_does_not_fit_any_more() {
    let pair = shop(status::builder(Provider::Native).start());
    let status = Status::of(&pair);
    pair.on_subscriber("insert into customer values (5000, 'local'); insert into orders values (5000, 5000, 'local')");
    pair.on_subscriber("select repl_resync_table('customer')");
    wait_for_value(
        "the orphan is named",
        DEFAULT_DEADLINE,
        || detached(&pair),
        |seen| {
            seen == &["orders|orders_customer_fkey|not valid|NULL|1 row refers to nothing in public.customer: (customer = 5000, id = 5000)".to_owned()]
        },
    );
    let warned = wait_for_value(
        "repl_diagnose() warns of it",
        DEFAULT_DEADLINE,
        || status.rows("select * from repl_diagnose() where cause = 'foreign_key_detached'"),
        |rows| rows.len() == 1,
    );
    let report = status.report().join("\n");
    assert!(
        report.contains("SELECT repl_restore_foreign_keys("),
        "{report}"
    );
    pair.on_subscriber("delete from orders where id = 5000");
    pair.on_subscriber(warned[0].text("remedy"));
    wait_none_detached(&pair);
    wait_for_value(
        "repl_diagnose() warns no more",
        DEFAULT_DEADLINE,
        || status.rows("select * from repl_diagnose() where cause = 'foreign_key_detached'"),
        Vec::is_empty,
    );
}

/// Those of all subscriptions, and nobody has to know their names.
#[test]
fn keys_of_all_replicated_tables() {
    let pair = shop(status::builder(Provider::Native).start());
    let status = Status::of(&pair);
    pair.on_subscriber("create table other (id int primary key); create table elsewhere (other int references other)");
    let said = lines(
        &mut pair.subscriber().connect(pair.database()),
        "select repl_detach_foreign_keys()",
    );
    assert_eq!(
        said,
        ["public.orders: foreign key orders_customer_fkey to public.customer is detached"]
    );
    let warned = wait_for_value(
        "repl_diagnose() warns of it",
        DEFAULT_DEADLINE,
        || status.rows("select * from repl_diagnose() where cause = 'foreign_key_detached'"),
        |rows| rows.len() == 1,
    );
    assert!(warned[0].is("severity", "warning"), "{warned:?}");
    pair.on_subscriber(warned[0].text("remedy"));
    wait_none_detached(&pair);
}

/// A worker that a session has started waits for the copy.
fn keys_come_back_where_it_is_not_preloaded(provider: Provider) {
    let pair = shop(Pair::start(provider));
    pair.on_subscriber("select repl_resync_table('customer')");
    wait_in_step(&pair);
    wait_none_detached(&pair);
    pair.compare(BOTH, BOTH);
}

/// What pg_subscription_rel has counts: the partitioned table, or each partition.
#[test]
fn partitioned_tables() {
    let tables = "
        create table reading (id int, day int, note text, primary key (id, day)) partition by range (day);
        create table reading_1 partition of reading for values from (0) to (10);
        create table reading_2 partition of reading for values from (10) to (20);
        create table seen (id int, day int, foreign key (id, day) references reading);";
    for via_root in [true, false] {
        let pair = status::builder(Provider::Native).start();
        pair.on_both(tables);
        pair.on_subscriber("create extension replwarden");
        let publication = Publication::of("reading").table("seen");
        pair.publish(&if via_root {
            publication.via_partition_root()
        } else {
            publication
        });
        pair.on_publisher(
            "insert into reading select n, n % 20, 'x' from generate_series(1, 100) n; insert into seen values (5, 5), (15, 15)",
        );
        pair.subscribe();
        wait_in_step(&pair);
        let (meant, other) = if via_root {
            ("reading", "reading_1")
        } else {
            ("reading_1", "reading")
        };
        let error = pair.subscriber().expect_error(
            pair.database(),
            &format!("select repl_resync_table('{other}')"),
        );
        assert_eq!(error.code().code(), "55000", "{error:?}");
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains(&format!("repl_resync_table('public.{meant}')"))),
            "{error:?}"
        );
        pair.on_publisher("update reading set note = 'y'");
        pair.on_subscriber(&format!("select repl_resync_table('{meant}')"));
        wait_in_step(&pair);
        wait_none_detached(&pair);
        let all = "table reading order by 1, 2";
        pair.compare(all, all);
        assert_eq!(
            lines(
                &mut pair.subscriber().connect(pair.database()),
                "select count(*), bool_and(convalidated) from pg_constraint where contype = 'f' and conparentid = 0"
            ),
            ["1|t"]
        );
    }
}
