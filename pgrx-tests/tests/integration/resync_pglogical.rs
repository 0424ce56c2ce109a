//! What pglogical would apply to a table that it copies again, or leave in it, is kept away from it, as long as the copy takes.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, Publication, wait_for_value, wait_until};

use crate::database::lines;
use crate::resync::{BOTH, shop, wait_in_step, wait_none_detached};
use crate::status;

const CALL: &str = "select repl_resync_table('customer')";
const STATES: &str =
    "select sync_status::text from pglogical.local_sync_status where sync_relname = 'customer'";

fn streaming_shop() -> Pair {
    let pair = shop(status::builder(Provider::Pglogical).start());
    pair.on_both("create table other (id int primary key)");
    pair.publish(&Publication::of("other"));
    pair.on_subscriber("select pglogical.alter_subscription_synchronize('sub')");
    wait_in_step(&pair);
    pair
}

fn guards(pair: &Pair) -> Vec<String> {
    lines(
        &mut pair.subscriber().connect(pair.database()),
        "select tgrelid::regclass || ' ' || tgname from pg_trigger where tgname like 'aaa_replwarden%' order by 1",
    )
}

/// It is gone when the stream is past the copy.
#[track_caller]
fn wait_unguarded(pair: &Pair) {
    pair.on_publisher(
        "insert into other select 1 + max(id) from (select id from other union all select 0) o",
    );
    wait_for_value(
        "no table is guarded",
        DEFAULT_DEADLINE,
        || guards(pair),
        Vec::is_empty,
    );
}

#[track_caller]
fn assert_right_and_unguarded(pair: &Pair) {
    wait_in_step(pair);
    wait_none_detached(pair);
    pair.compare(BOTH, BOTH);
    wait_unguarded(pair);
    pair.on_publisher(
        "update customer set note = 'last' where id > 3; delete from orders where id = 2; insert into customer values (7777, 'last')",
    );
    wait_in_step(pair);
    pair.compare(BOTH, BOTH);
}

/// The copy waits for it: its slot is made when all transactions have ended that run at that moment.
fn hold_copy(pair: &Pair) -> postgres::Client {
    let mut session = pair.publisher().connect(pair.database());
    session
        .batch_execute("begin; select pg_current_xact_id()")
        .expect("a transaction begins");
    session
}

/// The apply worker is in the middle of a transaction, and waits for the table.
#[test]
fn transaction_that_is_being_applied() {
    let pair = streaming_shop();
    let mut session = pair.subscriber().connect(pair.database());
    session
        .batch_execute("begin; lock table customer in access exclusive mode")
        .expect("it can be locked");
    let copy = hold_copy(&pair);
    pair.on_publisher("begin; insert into other values (1); insert into customer values (900, 'new'), (901, 'new'); commit");
    wait_until("the apply worker waits", DEFAULT_DEADLINE, || {
        lines(
            &mut pair.subscriber().connect(pair.database()),
            "select count(*) from pg_locks where not granted and relation = 'customer'::regclass",
        ) != ["0"]
    });
    session
        .batch_execute(&format!("{CALL}; commit"))
        .expect("it is copied again");
    assert_eq!(
        guards(&pair),
        ["customer aaa_replwarden", "customer aaa_replwarden_copy"]
    );
    // The copy does not bring this one.
    pair.on_publisher("delete from customer where id = 900");
    drop(copy);
    assert_right_and_unguarded(&pair);
}

/// An attempt before has left rows, and the server went down before that was written down.
#[test]
fn copy_that_begins_again() {
    let pair = streaming_shop();
    let copy = hold_copy(&pair);
    pair.on_subscriber(CALL);
    pair.on_subscriber("insert into customer values (1, 'left'), (2, 'left'), (90000, 'left')");
    drop(copy);
    assert_right_and_unguarded(&pair);
    assert!(
        pair.subscriber()
            .log()
            .contains("deleted 3 rows of public.customer before pglogical copies it again"),
    );
}

/// What others write meanwhile is theirs.
#[test]
fn rows_of_sessions_are_not_left_out() {
    let pair = streaming_shop();
    let copy = hold_copy(&pair);
    pair.on_subscriber(CALL);
    pair.on_subscriber(
        "set session_replication_role = replica; insert into customer values (5, 'mine'), (6, 'mine');
         update customer set note = 'changed' where id = 5; delete from customer where id = 6",
    );
    assert_eq!(
        lines(
            &mut pair.subscriber().connect(pair.database()),
            "select note from customer"
        ),
        ["changed"]
    );
    drop(copy);
    assert_right_and_unguarded(&pair);
}

/// The guard does not outlive the subscription, nor keep the extension from being dropped for ever.
#[test]
fn subscription_that_is_dropped_meanwhile() {
    let pair = streaming_shop();
    let copy = hold_copy(&pair);
    pair.on_subscriber(CALL);
    assert_eq!(
        lines(&mut pair.subscriber().connect(pair.database()), STATES),
        ["i"]
    );
    pair.on_subscriber("select pglogical.drop_subscription('sub')");
    wait_for_value(
        "no table is guarded",
        DEFAULT_DEADLINE,
        || guards(&pair),
        Vec::is_empty,
    );
    drop(copy);
}
