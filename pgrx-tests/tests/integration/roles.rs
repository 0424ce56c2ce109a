//! Who may do what: every view and every function that users may call, by every kind of role. What is new in the extension has
//! to be written down here.

use std::collections::BTreeSet;
use std::fs;

use replwarden_tests::{DEFAULT_DEADLINE, Pair, Provider, Publication, wait_until};

use crate::backfill_state::Backfills;
use crate::database::lines;
use crate::internals::log_in;
use crate::status;

/// In the order of the letters below.
const ROLES: [&str; 5] = [
    "boss",        // a superuser
    "table_owner", // owns the tables
    "carrier",     // owns the subscription, and has a password in its connection string
    "monitor",     // a member of pg_monitor
    "stranger",    // nobody
];

/// A view or function, an SQL query of it, and what happens to each of [`ROLES`]: `w` it works; `d` it is denied (42501);
/// `h` it works, and hides from the role what is asked for (the query says `f`).
pub(crate) const MATRIX: &[(&str, &str, &str)] = &[
    (
        "repl_set_expression(regclass,name,text,text,boolean)",
        "select repl_set_expression('item', 'b', 'a * 2') is not null",
        "wwddd",
    ),
    (
        "repl_drop_expression(regclass,name)",
        "select repl_drop_expression('item', 'quotient')",
        "wwddd",
    ),
    (
        "repl_adopt_generated(regclass,name)",
        "select repl_adopt_generated('item')",
        "wwddd",
    ),
    (
        "repl_backfill(regclass,integer)",
        "select repl_backfill('item')",
        "wwddd",
    ),
    (
        "repl_cancel_backfill(bigint)",
        "select repl_cancel_backfill(min(id)) is not null from repl_backfills",
        "wwddd",
    ),
    (
        "repl_verify(regclass,integer)",
        "select * from repl_verify('detail')",
        "wwddd",
    ),
    (
        "repl_generated_columns",
        "select last_error like '%division%' from repl_generated_columns",
        "wwhwh",
    ),
    (
        "repl_generated_columns",
        "select column_name from repl_generated_columns",
        "wwwww",
    ),
    (
        "repl_backfills",
        "select error like '%division%' from repl_backfills",
        "wwhwh",
    ),
    (
        "repl_backfills",
        "select state from repl_backfills",
        "wwwww",
    ),
    ("repl_status(name)", "select repl_status()", "wddwd"),
    ("repl_status(name)", "select repl_status('sub')", "wddwd"),
    ("repl_snapshot()", "select repl_snapshot()", "wddwd"),
    (
        "repl_subscriptions",
        "select * from repl_subscriptions",
        "wddwd",
    ),
    ("repl_tables", "select * from repl_tables", "wddwd"),
    ("repl_workers", "select * from repl_workers", "wddwd"),
    (
        "repl_sync_states",
        "select * from repl_sync_states",
        "wwwww",
    ),
    (
        "repl_diagnose(name)",
        "select * from repl_diagnose()",
        "wddwd",
    ),
    (
        "repl_diagnose(name)",
        "select * from repl_diagnose('sub')",
        "wddwd",
    ),
    ("repl_errors", "select * from repl_errors", "wddwd"),
    ("repl_events", "select * from repl_events", "wddwd"),
    ("repl_enable(name)", "select repl_enable('sub')", "wdwdd"),
    ("repl_disable(name)", "select repl_disable('sub')", "wdwdd"),
    (
        "repl_restart_worker(name)",
        "select repl_restart_worker('sub') is not null",
        "wdwdd",
    ),
    (
        "repl_preflight(name)",
        "select * from repl_preflight('sub')",
        "wdwdd",
    ),
    (
        "repl_preflight(text,text[],text)",
        "select * from repl_preflight('CONNINFO', '{pub}')",
        "wdddd",
    ),
    (
        "repl_preflight(text,text[],text)",
        "select * from repl_preflight('CONNINFO', '{default}', 'pglogical')",
        "wdddd",
    ),
    (
        "repl_detach_foreign_keys(regclass)",
        "select repl_detach_foreign_keys('detail')",
        "wwddd",
    ),
    (
        "repl_restore_foreign_keys(regclass,boolean)",
        "select repl_restore_foreign_keys('loose')",
        "wwddd",
    ),
    (
        "repl_detached_foreign_keys",
        "select constraint_name from repl_detached_foreign_keys",
        "wwwww",
    ),
    (
        "repl_detached_foreign_keys",
        "select problem not like '<%' from repl_detached_foreign_keys",
        "wwhwh",
    ),
    (
        "repl_detached_foreign_keys",
        "select sample_keys is not null from repl_detached_foreign_keys",
        "wwhwh",
    ),
    (
        "repl_resync_table(regclass)",
        "select repl_resync_table('item')",
        "wdddd",
    ),
    (
        "repl_sync_sequences(name,bigint)",
        "select * from repl_sync_sequences('sub')",
        "wdwdd",
    ),
    (
        "repl_cutover_check(name)",
        "select * from repl_cutover_check('sub')",
        "wdwdd",
    ),
];

const PASSWORD: &str = "open-sesame";

/// On the subscriber: a rule that has failed for a row and whose backfill has failed, a generated column, a foreign key that is
/// detached and cannot be valid, and a subscription whose owner is no superuser.
pub(crate) fn pair() -> Pair {
    let pair = status::builder(Provider::Native).start();
    pair.publisher().execute(
        "postgres",
        &format!("set password_encryption = 'scram-sha-256'; create role carrier superuser login password '{PASSWORD}'"),
    );
    let path = pair.publisher().data_directory().join("pg_hba.conf");
    let old = fs::read_to_string(&path).expect("pg_hba.conf can be read");
    fs::write(
        &path,
        format!("host all carrier 127.0.0.1/32 scram-sha-256\n{old}"),
    )
    .expect("pg_hba.conf can be written");
    pair.publisher().reload();
    pair.subscriber().execute(
        "postgres",
        "create role boss superuser login; create role table_owner login; create role carrier superuser login;
         create role monitor login in role pg_monitor; create role stranger login",
    );
    pair.on_publisher(
        "create table item (id serial primary key, a int); insert into item (a) values (10), (0);
         create table detail (id int primary key, item int references item)",
    );
    pair.on_subscriber(
        "create table item (id serial primary key, a int, b int, quotient int, g int generated always as (a + 1) stored);
         create table detail (id int primary key, item int references item, twice int);
         create table loose (item int constraint loose_item references item);
         alter table item owner to table_owner; alter table detail owner to table_owner; alter table loose owner to table_owner;
         grant all on item, detail, item_id_seq to carrier;
         create extension replwarden",
    );
    pair.publish(&Publication::of("item").table("detail"));
    let own = pair.publisher().conninfo(pair.database());
    pair.on_subscriber(&pair.subscribe_sql(true).replace(&own, &conninfo(&pair)));
    pair.wait_copied();
    pair.wait_caught_up();
    pair.on_subscriber("alter subscription sub owner to carrier; alter role carrier nosuperuser");
    let backfills = Backfills::of(pair.subscriber(), pair.database());
    let id = backfills.queue("select repl_set_expression('item', 'quotient', '100 / a')");
    backfills.wait_failed(id);
    pair.on_subscriber(
        "select repl_set_expression('detail', 'twice', 'id * 2', backfill => false)",
    );
    pair.on_subscriber(
        "select repl_detach_foreign_keys('loose'); insert into loose values (99);
         select repl_restore_foreign_keys('loose')",
    );
    wait_until("the key is found to be broken", DEFAULT_DEADLINE, || {
        pair.subscriber().query_one_value(
            pair.database(),
            "select problem is not null and sample_keys is not null from repl_detached_foreign_keys",
        )
    });
    pair
}

pub(crate) fn conninfo(pair: &Pair) -> String {
    format!(
        "host=127.0.0.1 port={} user=carrier password={PASSWORD} dbname={}",
        pair.publisher().port(),
        pair.database()
    )
}

/// The letter of what happens, in a transaction that is rolled back.
#[track_caller]
fn outcome(pair: &Pair, role: &str, sql: &str) -> char {
    if sql.contains("repl_restart_worker") {
        // Without one there is nothing to be denied.
        pair.apply_worker_pid();
    }
    let mut client = log_in(pair.subscriber(), pair.database(), role);
    client.batch_execute("begin").expect("it can begin");
    let answer = client.simple_query(sql);
    // It is for nobody's eye.
    let told = format!("{answer:?}");
    assert!(!told.contains(PASSWORD), "{role}: {sql}: {told}");
    match answer {
        Ok(messages) => {
            let first = messages.iter().find_map(|message| match message {
                postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
                _ => None,
            });
            match first {
                Some(Some(value)) if value == "f" => 'h',
                Some(None) => panic!("{role}: {sql}: NULL"),
                _ => 'w',
            }
        }
        Err(error) => match error.as_db_error() {
            Some(answer) if answer.code().code() == "42501" => 'd',
            Some(answer) => panic!("{role}: {sql}: {answer:?}"),
            None => panic!("{role}: {sql}: {error}"),
        },
    }
}

/// The views and functions of the extension whose names begin so.
fn members(pair: &Pair, like: &str) -> BTreeSet<String> {
    let sql = format!(
        "select coalesce(p.oid::regprocedure::text, c.oid::regclass::text)
           from pg_depend d
           left join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
           left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid
          where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
            and d.refobjid = (select oid from pg_extension where extname = 'replwarden')
            and coalesce(p.proname, c.relname) like '{like}'"
    );
    lines(&mut pair.subscriber().connect(pair.database()), &sql)
        .into_iter()
        .collect()
}

#[test]
fn matrix_of_roles_and_functions() {
    let pair = pair();
    let written: BTreeSet<String> = MATRIX.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(members(&pair, "repl\\_%"), written);
    let mut wrong = Vec::new();
    for (_, sql, expected) in MATRIX {
        let sql = sql.replace("CONNINFO", &conninfo(&pair));
        let found: String = ROLES
            .iter()
            .map(|role| outcome(&pair, role, &sql))
            .collect();
        if found != *expected {
            wrong.push(format!("{sql}: {found}, expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}: {wrong:#?}", ROLES.join(", "));
}
