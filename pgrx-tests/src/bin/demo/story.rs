//! The story itself, once through each provider.

use std::time::Instant;

use replwarden_tests::{Pair, Provider, Publication};

use crate::check::{self, Comparison, thousands};
use crate::stage::{Node, heading, say};

const ROWS: usize = 200_000;

pub(crate) const PUBLISHER_TABLE: &str = "create table loan_app (
    id bigserial primary key,
    userid bigint not null,
    amount numeric(12,2),
    loan_id text generated always as (userid::text || '#' || id::text) stored)";

const SUBSCRIBER_TABLE: &str = "create table loan_app (
    id bigserial primary key,
    userid bigint not null,
    amount numeric(12,2),
    loan_id text)";

const RULE: &str =
    "select repl_set_expression('loan_app', 'loan_id', $$userid::text || '#' || id::text$$)";

const FIRST_ROWS: &str = "select * from loan_app order by id limit 3";

/// The whole story, through PostgreSQL's own logical replication.
pub(crate) fn tell(pair: &Pair) -> Result<Vec<Comparison>, String> {
    let mut publisher = Node::new("publisher", pair.publisher(), pair.database());
    let mut subscriber = Node::new("subscriber", pair.subscriber(), pair.database());

    heading("A table with a generated column is on the move");
    say("On the publisher loan_id is computed from two other columns.");
    publisher.run(PUBLISHER_TABLE)?;
    publisher.run(&fill_sql())?;
    publisher.run(FIRST_ROWS)?;
    publish(pair, &mut publisher)?;

    heading("Without replwarden");
    say(
        "A publisher does not send generated columns, so on the subscriber loan_id is a plain column.",
    );
    subscriber.run(SUBSCRIBER_TABLE)?;
    copy(pair, &mut subscriber)?;
    subscriber.run(FIRST_ROWS)?;
    say("All rows have come, and loan_id is lost in each of them. Once more from the start:");
    subscriber.run("drop subscription sub")?;
    subscriber.run("truncate loan_app")?;

    heading("With replwarden");
    say("One rule, set on the subscriber before the copy starts.");
    subscriber.run("create extension replwarden")?;
    subscriber.run(RULE)?;
    copy(pair, &mut subscriber)?;
    subscriber.run(FIRST_ROWS)?;
    let copied = check::compare(pair, "initial copy", &mut publisher, &mut subscriber)?;

    heading("Changes stream in");
    let streamed = stream(pair, &mut publisher, &mut subscriber)?;

    heading("What to look at afterwards");
    subscriber.run("select * from repl_generated_columns")?;
    subscriber.run("select * from repl_verify('loan_app')")?;
    Ok(vec![copied, streamed])
}

/// The same through pglogical, without what the reader knows by now.
pub(crate) fn tell_again(pair: &Pair) -> Result<Vec<Comparison>, String> {
    let mut publisher = Node::new("publisher", pair.publisher(), pair.database());
    let mut subscriber = Node::new("subscriber", pair.subscriber(), pair.database());

    heading("The same through pglogical");
    say(&format!(
        "In another database of the same clusters, {}, with a pglogical node on each side. pglogical refuses to copy \
         a generated column, so the replication set names the columns without it. And it crashes the subscriber's \
         server when loan_id is generated there; a plain column with a rule is safe.",
        pair.database()
    ));
    publisher.run(PUBLISHER_TABLE)?;
    publisher.run(&fill_sql())?;
    publish(pair, &mut publisher)?;
    subscriber.run(SUBSCRIBER_TABLE)?;
    subscriber.run("create extension replwarden")?;
    subscriber.run(RULE)?;
    copy(pair, &mut subscriber)?;
    subscriber.run(FIRST_ROWS)?;
    let copied = check::compare(pair, "initial copy", &mut publisher, &mut subscriber)?;
    let streamed = stream(pair, &mut publisher, &mut subscriber)?;
    subscriber.run("select * from repl_generated_columns")?;
    subscriber.run("select * from repl_verify('loan_app')")?;
    Ok(vec![copied, streamed])
}

fn fill_sql() -> String {
    format!(
        "insert into loan_app (userid, amount)
    select 1000 + n % 7919, n * 0.25 from generate_series(1, {ROWS}) n"
    )
}

pub(crate) fn publish(pair: &Pair, publisher: &mut Node) -> Result<(), String> {
    let publication = match pair.provider() {
        Provider::Native => Publication::of("loan_app"),
        Provider::Pglogical => {
            Publication::default().table_columns("loan_app", &["id", "userid", "amount"])
        }
    };
    for sql in pair.publish_sql(&publication) {
        publisher.run(&sql)?;
    }
    Ok(())
}

fn copy(pair: &Pair, subscriber: &mut Node) -> Result<(), String> {
    let started = Instant::now();
    subscriber.run(&pair.subscribe_sql(true))?;
    pair.wait_copied();
    println!(
        "-- copied: {} rows in {:.1} s\n",
        thousands(ROWS),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn stream(pair: &Pair, publisher: &mut Node, subscriber: &mut Node) -> Result<Comparison, String> {
    let touched = format!(
        "select * from loan_app where id in (1, 2, 20, {}) order by id",
        ROWS + 1
    );
    say("Three rows before the publisher inserts, updates and deletes some:");
    subscriber.run(&touched)?;
    publisher.run(
        "insert into loan_app (userid, amount)
    select 9000 + n, n from generate_series(1, 5000) n",
    )?;
    publisher.run("update loan_app set userid = userid + 50000 where id % 20 = 0")?;
    publisher.run("update loan_app set userid = 4711, amount = null where id = 1")?;
    publisher.run("delete from loan_app where id % 50 = 2")?;
    pair.wait_caught_up();
    say("And after, on both sides: two have changed, one is gone, one is new.");
    publisher.run(&touched)?;
    subscriber.run(&touched)?;
    check::compare(pair, "stream", publisher, subscriber)
}
