//! `pg_dump` takes rules along, and a restore brings them back.

use std::io::Write;
use std::process::Stdio;
use std::thread;

use crate::database::{Database, OWNER};
use replwarden_tests::Cluster;

/// Without the counts of failed rows, which start anew.
const RULES: &str = "select relation, column_name, expression, on_error, state <> 'broken' from repl_generated_columns
                      order by relation::text, column_name";
const TRIGGERS: &str =
    "select tgrelid::regclass, tgname, tgenabled, pg_get_triggerdef(oid) from pg_trigger
                         where not tgisinternal and tgname <> 'ignore_replicated' order by tgrelid::regclass::text, tgname";
const ROWS: [&str; 3] = [
    "select * from shop.item order by id",
    "select tableoid::regclass, * from part order by id",
    "select * from \"The Item\" order by 1",
];

/// Runs one of the server's client programs on a database, with this on its standard input, and returns what it
/// printed.
#[track_caller]
pub(crate) fn run_on(
    cluster: &Cluster,
    database: &str,
    program: &str,
    arguments: &[&str],
    input: &[u8],
) -> Vec<u8> {
    let mut child = cluster
        .server()
        .command(program)
        .args(arguments)
        .arg("-d")
        .arg(cluster.conninfo(database))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("could not run {program}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    let output = thread::scope(|scope| {
        // A program that fails may not read it to the end; its own words are better then.
        scope.spawn(move || {
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().expect("it can be waited for")
    });
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[track_caller]
fn run(database: &Database, program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    run_on(
        database.cluster(),
        database.name(),
        program,
        arguments,
        input,
    )
}

#[track_caller]
fn dump(database: &Database, arguments: &[&str]) -> Vec<u8> {
    run(database, "pg_dump", arguments, b"")
}

#[track_caller]
fn psql(database: &Database, script: &[u8]) {
    let arguments = ["-X", "-q", "-v", "ON_ERROR_STOP=1"];
    run(database, "psql", &arguments, script);
}

#[track_caller]
fn restore(database: &Database, arguments: &[&str], dump: &[u8]) {
    let mut all = vec!["--exit-on-error"];
    all.extend(arguments);
    run(database, "pg_restore", &all, dump);
}

/// The words of a plain dump, without those that differ from one dump to the next.
#[track_caller]
fn text_of(database: &Database) -> Vec<String> {
    String::from_utf8(dump(database, &[]))
        .expect("the database is in UTF-8")
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .map(str::to_owned)
        .collect()
}

/// Rules of several kinds: two of one table with a function of another schema, those of a partitioned table with a
/// partition of another shape, names that need quotes. The extension is in a schema of its own.
fn full() -> Database {
    let database = Database::without_extension();
    database.run(
        "create schema \"The Warden\";
         create extension replwarden schema \"The Warden\";
         create schema shop;
         create schema \"My Functions\";
         create function \"My Functions\".\"Double\"(int) returns int language sql immutable as 'select $1 * 2';

         create table shop.item (id int primary key, a int, gone int, b int, c int, d text);
         alter table shop.item drop gone;
         select \"The Warden\".repl_set_expression('shop.item', 'b', '\"My Functions\".\"Double\"(a)');
         select \"The Warden\".repl_set_expression('shop.item', 'c', '100 / a', 'null');
         insert into shop.item values (1, 10, null, null, 'x'), (2, 0, null, null, e'tab\\t');
         create table \"The Item\" (\"The Id\" int primary key, \"A's\" text, \"B\"\"s\" text);
         select \"The Warden\".repl_set_expression('\"The Item\"', 'B\"s', $$upper(\"A's\") || '''!'$$);
         insert into \"The Item\" values (1, 'abc'), (2, null);
         create table part (id int primary key, a int, b int) partition by range (id);
         create table part_1 partition of part for values from (0) to (10);
         create table part_2 (b int, a int, id int primary key);
         alter table part attach partition part_2 for values from (10) to (20);
         select \"The Warden\".repl_set_expression('part', 'b', 'a + 1');
         insert into part values (1, 10), (11, 20);
         alter database :name set search_path = public, \"The Warden\""
            .replace(":name", database.name())
            .as_str(),
    );
    database
}

/// A database to restore into, with the same search_path.
fn empty() -> Database {
    let database = Database::without_extension();
    database.run(&format!(
        "alter database {} set search_path = public, \"The Warden\"",
        database.name()
    ));
    database
}

#[track_caller]
fn assert_same(original: &Database, restored: &Database) {
    for query in ROWS.into_iter().chain([RULES, TRIGGERS]) {
        assert_eq!(restored.lines(query), original.lines(query), "{query}");
    }
    let enabled =
        "select tgname = 'zzz_replwarden', string_agg(distinct tgenabled::text, '') from pg_trigger
                    where not tgisinternal and tgname <> 'ignore_replicated' group by 1 order by 1";
    assert_eq!(restored.lines(enabled), ["f|D", "t|A"]);
}

/// Asserts that replicated and local rows are derived.
#[track_caller]
fn assert_computes(database: &Database) {
    for (id, role) in [(3, "origin"), (4, "replica")] {
        database.run(&format!(
            "set session_replication_role = {role};
             insert into shop.item values ({id}, 20, -1, -1);
             insert into \"The Item\" values ({id}, 'd', '');
             insert into part values ({id}, 30, -1), (1{id}, 40, -1)"
        ));
        assert_eq!(
            database.lines(&format!("select b, c from shop.item where id = {id}")),
            ["40|5"]
        );
        assert_eq!(
            database.lines(&format!(
                "select \"B\"\"s\" from \"The Item\" where \"The Id\" = {id}"
            )),
            ["D'!"]
        );
        assert_eq!(
            database.lines(&format!(
                "select b from part where id in ({id}, 1{id}) order by id"
            )),
            ["31", "41"]
        );
    }
}

/// Asserts that rules fall with their columns, as those that were set do.
#[track_caller]
fn assert_falls_with_its_column(database: &Database) {
    database.run(
        "alter table shop.item drop c;
         alter table shop.item drop b;
         alter table \"The Item\" drop \"B\"\"s\";
         alter table part drop b",
    );
    let left = database.lines(TRIGGERS);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn plain_dump_brings_rules_back() {
    let original = full();
    let restored = empty();
    psql(&restored, &dump(&original, &[]));
    assert_same(&original, &restored);
    assert_computes(&restored);
    assert_falls_with_its_column(&restored);
}

#[test]
fn custom_dump_brings_rules_back() {
    let original = full();
    let restored = empty();
    restore(&restored, &[], &dump(&original, &["-Fc"]));
    assert_same(&original, &restored);
    assert_computes(&restored);
    assert_falls_with_its_column(&restored);
}

#[test]
fn dump_in_one_transaction_brings_rules_back() {
    let original = full();
    let restored = empty();
    restore(
        &restored,
        &["--single-transaction"],
        &dump(&original, &["-Fc"]),
    );
    assert_same(&original, &restored);
    assert_falls_with_its_column(&restored);
}

#[test]
fn dump_that_several_sessions_restore_brings_rules_back() {
    let original = full();
    let restored = empty();
    // Only from a file, and the servers' user has to be able to read it.
    let file = original
        .cluster()
        .data_directory()
        .join(format!("{}.dump", original.name()));
    let file = file.to_str().expect("a plain path");
    dump(&original, &["-Fc", "-f", file]);
    restore(&restored, &["-j", "3", file], b"");
    assert_same(&original, &restored);
    assert_falls_with_its_column(&restored);
}

#[test]
fn owner_who_is_no_superuser_restores_a_table() {
    let original = Database::with_item();
    original.run("insert into item values (1, 10)");
    let restored = Database::new();
    let mut script = format!("set role {OWNER};\n").into_bytes();
    script.extend(dump(&original, &["-O", "-x", "-t", "item"]));
    psql(&restored, &script);
    restored.run_as(OWNER, "insert into item values (2, 20)");
    assert_eq!(
        restored.lines("select id, b from item order by id"),
        ["1|20", "2|40"]
    );
    restored.run_as(OWNER, "alter table item drop b");
    let left = restored.lines(TRIGGERS);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn schema_first_and_data_later() {
    let original = full();
    let restored = empty();
    psql(&restored, &dump(&original, &["-s"]));
    assert_eq!(restored.lines(RULES), original.lines(RULES));
    psql(&restored, &dump(&original, &["-a"]));
    assert_same(&original, &restored);
    assert_computes(&restored);
}

#[test]
fn data_as_inserts_through_the_root() {
    let original = full();
    let restored = empty();
    psql(&restored, &dump(&original, &["-s"]));
    psql(
        &restored,
        &dump(
            &original,
            &["-a", "--column-inserts", "--load-via-partition-root"],
        ),
    );
    assert_same(&original, &restored);
}

#[test]
fn dump_with_clean_replaces_what_is_there() {
    let original = full();
    // pg_dump itself cannot clean up partitions whose primary key is that of their table.
    original.run("drop table part; create table part (id int); insert into part values (1)");
    let restored = empty();
    let script = dump(&original, &["--clean", "--if-exists"]);
    psql(&restored, &script);
    psql(&restored, &script);
    assert_same(&original, &restored);
}

#[test]
fn dump_of_the_restored_is_that_of_the_original() {
    let original = full();
    let restored = empty();
    psql(&restored, &dump(&original, &[]));
    assert_eq!(text_of(&restored), text_of(&original));
}

#[test]
fn one_table_is_dumped_with_its_rules() {
    let original = full();
    let restored = empty();
    restored.run(
        "create schema \"The Warden\"; create extension replwarden schema \"The Warden\";
         create schema \"My Functions\"; create schema shop;
         create function \"My Functions\".\"Double\"(int) returns int language sql immutable as 'select $1 * 2'",
    );
    psql(&restored, &dump(&original, &["-t", "shop.item"]));
    assert_eq!(
        restored.lines(RULES),
        original.lines(&RULES.replace("order", "where relation = 'shop.item'::regclass order"))
    );
    assert_eq!(restored.lines(ROWS[0]), original.lines(ROWS[0]));
}

#[test]
fn restored_counts_start_anew() {
    let original = full();
    let count = "select rows_failed from repl_generated_columns where on_error = 'null'";
    original.run("update shop.item set a = 0");
    assert_ne!(original.lines(count), ["0"]);
    let restored = empty();
    psql(&restored, &dump(&original, &[]));
    assert_eq!(restored.lines(count), ["0"]);
}

#[test]
fn renamed_column_is_restored_with_its_rule() {
    let original = Database::with_item();
    original.run(
        "alter table item rename b to old_b;
         alter table item rename a to old_a;
         alter table item add a int, add b int;
         select repl_set_expression('item', 'b', 'a + 1');
         insert into item (id, old_a, a) values (1, 10, 20)",
    );
    let restored = Database::without_extension();
    psql(&restored, &dump(&original, &[]));
    assert_eq!(restored.lines(RULES), original.lines(RULES));
    restored.run("insert into item (id, old_a, a) values (2, 30, 40)");
    assert_eq!(
        restored.lines("select * from item order by id"),
        ["1|10|20|20|21", "2|30|60|40|41"]
    );
}

#[test]
fn data_restored_with_disabled_triggers_leaves_a_broken_rule_with_its_remedy() {
    let original = full();
    let restored = empty();
    let script = dump(&original, &["-Fc"]);
    restore(&restored, &["-s"], &script);
    restore(&restored, &["-a", "--disable-triggers"], &script);
    for query in ROWS {
        assert_eq!(restored.lines(query), original.lines(query));
    }
    assert_eq!(
        restored.lines("select distinct state from repl_generated_columns"),
        ["broken"]
    );
    // Each one mends a table at least.
    for _ in 0..5 {
        for problem in
            restored.lines("select last_error from repl_generated_columns where state = 'broken'")
        {
            let (_, remedy) = problem.split_once(": ").expect("a remedy after a colon");
            restored.run(remedy);
        }
    }
    assert_same(&original, &restored);
    assert_computes(&restored);
}
