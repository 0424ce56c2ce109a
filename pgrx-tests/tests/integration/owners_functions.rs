//! The owner of a table can put functions into its indexes, which run as soon as somebody plans a query of the table. Nothing
//! that replwarden does with the rights of a superuser runs them with these.

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, Publication, wait_until};

use crate::database::lines;
use crate::status::{self, Status};

/// A role, and an expression for the index of a table of hers, which makes her a superuser if it is evaluated by one.
const MALLORY: &str = "
    create role mallory;
    grant create on schema public to mallory;
    create schema hers authorization mallory;
    create function hers.take() returns void language plpgsql volatile as $$
    begin
        if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
            create table if not exists hers.loot as select current_user::text as victim;
            alter role mallory superuser;
        end if;
    end $$;
    create function hers.look(int) returns boolean language plpgsql immutable as $$
    begin
        perform hers.take();
        return true;
    end $$;";

#[track_caller]
fn assert_no_superuser(pair: &Pair) {
    assert_eq!(
        lines(
            &mut pair.subscriber().connect(pair.database()),
            "select rolsuper from pg_roles where rolname = 'mallory'"
        ),
        ["f"]
    );
}

/// Replicated: `item`, with a sequence that is behind, and `part`, partitioned, which refers to it.
fn pair() -> Pair {
    let pair = status::builder(Provider::Native).start();
    let tables = "
        create table item (id serial primary key, note text);
        create table part (id int, item int references item) partition by range (id);
        create table part_1 partition of part for values from (0) to (1000);";
    pair.on_both(tables);
    pair.on_subscriber(MALLORY);
    pair.on_subscriber(
        "alter table item owner to mallory; alter table part owner to mallory; alter table part_1 owner to mallory",
    );
    pair.on_subscriber("create extension replwarden");
    pair.publish(&Publication::of("item").table("part"));
    pair.on_publisher(
        "insert into item select n from generate_series(1, 10) n; insert into part select n, n from generate_series(1, 10) n",
    );
    pair
}

/// As her, while replication does not look: an index is evaluated by who makes it.
fn lay_trap(pair: &Pair) {
    pair.on_subscriber(
        "set role mallory; create index on item (note) where hers.look(1); create index on part_1 (item) where hers.look(1)",
    );
    assert_no_superuser(pair);
}

/// The worker of the database is one.
#[test]
fn worker_that_compares_a_sequence_with_its_column() {
    let pair = pair();
    pair.subscribe();
    pair.wait_copied();
    lay_trap(&pair);
    let status = Status::of(&pair);
    wait_until("the sequence is found behind", DEFAULT_DEADLINE, || {
        !status
            .rows("select * from repl_diagnose() where cause = 'sequence_behind'")
            .is_empty()
    });
    // Each look reads it again.
    status.wait_looked();
    assert_no_superuser(&pair);
}

#[test]
fn checks_that_a_superuser_asks_for() {
    let pair = pair();
    lay_trap(&pair);
    let conninfo = pair.publisher().conninfo(pair.database());
    let status = Status::of(&pair);
    let rows = status.rows(&format!(
        "select * from repl_preflight('{conninfo}', '{{pub}}') where check_name = 'target_rows'"
    ));
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_no_superuser(&pair);
}

#[test]
fn what_a_superuser_does_for_the_cut_over() {
    let pair = pair();
    pair.subscribe();
    pair.wait_copied();
    lay_trap(&pair);
    let status = Status::of(&pair);
    pair.on_subscriber("select * from repl_detach_foreign_keys('item')");
    status.rows("select * from repl_sync_sequences('sub')");
    status.rows("select * from repl_cutover_check('sub')");
    assert_no_superuser(&pair);
}

/// The key of a partitioned table is checked as it comes back.
#[test]
fn keys_that_come_back() {
    for how in [
        "select repl_restore_foreign_keys()",
        "drop extension replwarden",
    ] {
        let pair = pair();
        pair.on_subscriber("select * from repl_detach_foreign_keys('item')");
        lay_trap(&pair);
        pair.on_subscriber(how);
        wait_until("the key is back", DEFAULT_DEADLINE, || {
            lines(
                &mut pair.subscriber().connect(pair.database()),
                "select count(*) from pg_constraint where conrelid = 'part'::regclass and contype = 'f' and convalidated",
            ) == ["1"]
        });
        assert_no_superuser(&pair);
    }
}
