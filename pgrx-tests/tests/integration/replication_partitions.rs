//! Partitioned tables on the subscriber, fed by partitions or through their root.

use replwarden_tests::{Pair, Provider, Publication};

/// On the subscriber the partitions have their columns in another order, and dropped ones in between.
const SUBSCRIBER_TABLES: &str = "
create table reading (day int, id int, value int, label text, primary key (id, day)) partition by range (day);
create table reading_1 (gone int, label text, value int, id int not null, day int not null);
alter table reading_1 drop gone;
alter table reading attach partition reading_1 for values from (0) to (10);
create table reading_2 partition of reading for values from (10) to (20);";

const RULE: &str =
    "select repl_set_expression('reading', 'label', $$id || ' on ' || day || ': ' || value$$)";
const PUBLISHED: &str =
    "select id, day, value, id || ' on ' || day || ': ' || value from reading order by id";
const SUBSCRIBED: &str = "select id, day, value, label from reading order by id";

fn changes(pair: &Pair) {
    pair.on_publisher(
        "insert into reading (id, day, value) select n, n % 20, n from generate_series(101, 200) n",
    );
    pair.on_publisher("update reading set value = value + 1 where id % 3 = 0");
    // Moves rows from one partition to the other.
    pair.on_publisher("update reading set day = 19 - day where id % 5 = 0");
    pair.on_publisher("delete from reading where id % 7 = 0");
    pair.wait_caught_up();
    pair.compare(PUBLISHED, SUBSCRIBED);
}

fn insert_first_rows(pair: &Pair) {
    pair.on_publisher(
        "insert into reading (id, day, value) select n, n % 20, n from generate_series(1, 100) n",
    );
}

const PUBLISHER_PARTITIONS: &str = "
create table reading (id int, day int, value int, primary key (id, day)) partition by range (day);
create table reading_1 partition of reading for values from (0) to (10);
create table reading_2 partition of reading for values from (10) to (20);";

fn partitioned_pair(provider: Provider, publication: &Publication) -> Pair {
    let pair = Pair::start(provider);
    pair.on_publisher(PUBLISHER_PARTITIONS);
    pair.on_subscriber(SUBSCRIBER_TABLES);
    pair.on_subscriber("create extension replwarden");
    pair.on_subscriber(RULE);
    pair.publish(publication);
    insert_first_rows(&pair);
    pair.subscribe();
    pair.wait_copied();
    changes(&pair);
    pair
}

#[test]
fn native_by_partition() {
    partitioned_pair(Provider::Native, &Publication::of("reading"));
}

/// pglogical knows partitions only: its apply worker crashes on a partitioned table, rule or no rule.
#[test]
fn pglogical_by_partition() {
    let partitions = Publication::default().table("reading_1").table("reading_2");
    partitioned_pair(Provider::Pglogical, &partitions);
}

#[test]
fn native_via_partition_root() {
    let pair = partitioned_pair(
        Provider::Native,
        &Publication::of("reading").via_partition_root(),
    );
    // A partition that comes later has the rule from the moment it is there.
    pair.on_publisher("create table reading_3 partition of reading for values from (20) to (30)");
    pair.on_subscriber(
        "create table reading_3 (label text, value int, day int not null, id int not null);
         alter table reading attach partition reading_3 for values from (20) to (30)",
    );
    pair.on_publisher("insert into reading (id, day, value) values (301, 25, 1), (302, 29, 2)");
    pair.on_publisher("update reading set day = 5 where id = 302");
    pair.on_publisher("update reading set day = 26 where id = 101");
    pair.wait_caught_up();
    pair.compare(PUBLISHED, SUBSCRIBED);
}

#[test]
fn native_from_a_plain_table() {
    let pair = Pair::start(Provider::Native);
    pair.on_publisher("create table reading (id int, day int, value int, primary key (id, day))");
    pair.on_subscriber(SUBSCRIBER_TABLES);
    pair.on_subscriber("create extension replwarden");
    pair.on_subscriber(RULE);
    pair.publish(&Publication::of("reading"));
    insert_first_rows(&pair);
    pair.subscribe();
    pair.wait_copied();
    changes(&pair);
}
