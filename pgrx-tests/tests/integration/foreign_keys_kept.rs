//! Detached foreign keys outlive restarts, and go along with a dump.

use replwarden_tests::Cluster;

use crate::database::lines;
use crate::dump_restore::run_on;

const SHOP: &str = r##"
    create extension replwarden;
    create schema "The Shop";
    create table "The Shop".customer (id int primary key);
    create table "The Shop"."Order's" (id int primary key, customer int);
    alter table "The Shop"."Order's" add constraint "a ""key""" foreign key (customer)
        references "The Shop".customer on delete cascade deferrable initially deferred;
    select repl_detach_foreign_keys('"The Shop".customer');
    alter table "The Shop".customer rename to "Client""s";
    insert into "The Shop"."Client""s" values (1);
    insert into "The Shop"."Order's" values (1, 1);
"##;

const DETACHED: &str =
    "select relation, constraint_name, state, referenced from repl_detached_foreign_keys";
const EXPECTED: &str = "\"The Shop\".\"Order's\"|a \"key\"|detached|\"The Shop\".\"Client\"\"s\"";
const DEFINITION: &str =
    "select pg_get_constraintdef(oid) from pg_constraint where contype = 'f' and convalidated";

#[test]
fn they_outlive_restart_and_dump() {
    let cluster = Cluster::builder("dump")
        .setting("shared_preload_libraries", "replwarden")
        .start();
    cluster.execute("postgres", "create database original");
    cluster.execute("postgres", "create database restored");
    cluster.execute("original", SHOP);
    cluster.restart();
    assert_eq!(
        lines(&mut cluster.connect("original"), DETACHED),
        [EXPECTED]
    );
    let dump = run_on(&cluster, "original", "pg_dump", &["-Fc"], b"");
    run_on(
        &cluster,
        "restored",
        "pg_restore",
        &["--exit-on-error"],
        &dump,
    );
    assert_eq!(
        lines(&mut cluster.connect("restored"), DETACHED),
        [EXPECTED]
    );
    // What was under way elsewhere is not under way here.
    cluster.execute("restored", "update _repl_foreign_keys set task = 'restore'");
    assert_eq!(
        lines(&mut cluster.connect("restored"), DETACHED),
        [EXPECTED]
    );
    for database in ["original", "restored"] {
        cluster.execute(database, "select repl_restore_foreign_keys()");
        replwarden_tests::wait_for_value(
            "the key is valid",
            replwarden_tests::DEFAULT_DEADLINE,
            || lines(&mut cluster.connect(database), DEFINITION),
            |seen| {
                seen == &["FOREIGN KEY (customer) REFERENCES \"The Shop\".\"Client\"\"s\"(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED".to_owned()]
            },
        );
        assert!(lines(&mut cluster.connect(database), DETACHED).is_empty());
    }
    // The next one has an id of its own.
    cluster.execute(
        "restored",
        "select repl_detach_foreign_keys('\"The Shop\".\"Order''s\"')",
    );
    assert_eq!(
        lines(&mut cluster.connect("restored"), DETACHED),
        [EXPECTED]
    );
}
