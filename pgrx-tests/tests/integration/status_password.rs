//! Passwords of connection strings are used and never shown: not by a view or a function, not in an error, the server's
//! log or the list of sessions.

use std::fs;

use replwarden_tests::{
    Cluster, DEFAULT_DEADLINE, Pair, Provider, Proxy, SUBSCRIPTION, wait_for_value,
};

use crate::database::lines;
use crate::loan::on_both_providers;
use crate::status::{self, Status};
use crate::status_connection::subscribe_offline;
use crate::status_publisher::{wait_asked_anew, wait_no_facts, wait_where};

on_both_providers!(
    wrong_password_is_told_and_not_shown,
    passwords_that_work_are_not_shown,
    passwords_that_do_not_work_are_not_shown,
    password_with_quotes_and_spaces,
);

/// In each password, and nowhere else. Without its first letter it is also found where that is percent-encoded.
const SECRET: &str = "topsecret7731";
const MARK: &str = "opsecret7731";

const ROLE: &str = "carrier";

/// A watched pair without a table, whose publisher asks a role of its own for a password.
fn pair(provider: Provider) -> Pair {
    let pair = status::pair(provider);
    set_password(&pair, SECRET);
    // In front of the line that trusts everybody: the first that fits counts.
    let path = pair.publisher().data_directory().join("pg_hba.conf");
    let old = fs::read_to_string(&path).expect("the cluster's pg_hba.conf can be read");
    fs::write(
        &path,
        format!("host all {ROLE} 127.0.0.1/32 scram-sha-256\n{old}"),
    )
    .expect("the cluster's pg_hba.conf can be written");
    pair.publisher().reload();
    if provider == Provider::Native {
        pair.on_publisher("create publication pub");
    }
    pair
}

fn set_password(pair: &Pair, password: &str) {
    pair.publisher().execute(
        "postgres",
        &format!(
            "set password_encryption = 'scram-sha-256';
             do $$ begin create role {ROLE} superuser login; exception when duplicate_object then end $$;
             alter role {ROLE} password $pw${password}$pw$"
        ),
    );
}

/// Ends the role's sessions, so that whoever needs one has to log in again.
fn end_sessions(pair: &Pair) {
    pair.publisher().execute(
        "postgres",
        &format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{ROLE}'"),
    );
}

/// A subscription with a connection string that works now.
#[track_caller]
fn subscribe(pair: &Pair, name: &str, conninfo: &str) {
    match pair.provider() {
        Provider::Native => pair.on_subscriber(&format!(
            "create subscription {name} connection '{}' publication pub",
            doubled(conninfo)
        )),
        Provider::Pglogical => {
            subscribe_to_a_set_of_its_own(pair, name);
            reconnect(pair, name, conninfo);
        }
    }
}

/// A subscription of pglogical with the plain connection string: all have to be made with the same, and no two may share
/// a replication set.
#[track_caller]
fn subscribe_to_a_set_of_its_own(pair: &Pair, name: &str) {
    let conninfo = working(pair).remove(0).1;
    pair.on_publisher(&format!(
        "select pglogical.create_replication_set('{name}')"
    ));
    pair.on_subscriber(&format!(
        "select pglogical.create_subscription('{name}', provider_dsn := '{}',
            replication_sets := '{{{name}}}', synchronize_data := false)",
        doubled(&conninfo)
    ));
}

/// Gives a subscription a connection string that need not work.
#[track_caller]
fn reconnect(pair: &Pair, name: &str, conninfo: &str) {
    let quoted = doubled(conninfo);
    pair.on_subscriber(&match pair.provider() {
        // ALTER SUBSCRIPTION would refuse what libpq cannot read, and the log would quote the statement.
        Provider::Native => {
            format!("update pg_subscription set subconninfo = '{quoted}' where subname = '{name}'")
        }
        Provider::Pglogical => format!(
            "select pglogical.alter_node_add_interface('provider', '{name}', '{quoted}');
             select pglogical.alter_subscription_interface('{name}', '{name}')"
        ),
    });
}

/// For a literal in SQL.
fn doubled(text: &str) -> String {
    text.replace('\'', "''")
}

#[track_caller]
fn disable(pair: &Pair, name: &str) {
    pair.on_subscriber(&match pair.provider() {
        Provider::Native => format!("alter subscription {name} disable"),
        Provider::Pglogical => {
            format!("select pglogical.alter_subscription_disable('{name}', immediate := true)")
        }
    });
}

/// The forms that a connection string with a password can have.
fn working(pair: &Pair) -> Vec<(&'static str, String)> {
    let (port, database) = (pair.publisher().port(), pair.database());
    let encoded = format!("%74{}", &SECRET[1..]);
    let place = format!("host=127.0.0.1 port={port} user={ROLE} dbname={database}");
    vec![
        ("plain", format!("{place} password={SECRET}")),
        ("quoted", format!("password='{SECRET}' {place}")),
        ("escaped", format!("{place} password = \\{SECRET}")),
        (
            "of_key",
            format!("{place} password={SECRET} sslpassword='{SECRET}'"),
        ),
        (
            "uri",
            format!("postgresql://{ROLE}:{encoded}@127.0.0.1:{port}/{database}"),
        ),
        (
            "uri_parameter",
            format!("postgres://127.0.0.1:{port}/{database}?user={ROLE}&password={SECRET}"),
        ),
    ]
}

/// All that the extension shows of it in a database, and the server in the list of sessions, each with where it is shown.
fn shown(pair: &Pair) -> Vec<(String, String)> {
    let mut client = pair.subscriber().connect(pair.database());
    let member = "join pg_depend d on d.objid = o.oid and d.deptype = 'e'
          join pg_extension e on e.oid = d.refobjid and e.extname = 'replwarden'";
    let mut queries: Vec<String> = lines(
        &mut client,
        &format!(
            "select format('select to_jsonb(t)::text from %s t', o.oid::regclass) from pg_class o {member}
              where d.classid = 'pg_class'::regclass and o.relkind in ('v', 'm', 'r')
             union all
             select format('select to_jsonb(f)::text from %s() f', o.oid::regproc) from pg_proc o {member}
              where d.classid = 'pg_proc'::regclass and o.pronargs = o.pronargdefaults
                and o.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype, 'void'::regtype)"
        ),
    );
    for needed in [
        "repl_subscriptions t",
        "repl_tables t",
        "repl_workers t",
        "repl_status() f",
        "repl_snapshot() f",
    ] {
        assert!(
            queries.iter().any(|query| query.ends_with(needed)),
            "{needed}: {queries:?}"
        );
    }
    queries.extend(lines(
        &mut client,
        "select format('select repl_status(%L)', subscription) from repl_subscriptions",
    ));
    queries.push(
        "select to_jsonb(a)::text from pg_stat_activity a where backend_type like 'replwarden%'"
            .to_owned(),
    );
    let mut shown = Vec::new();
    for query in queries {
        for line in lines(&mut client, &query) {
            shown.push((query.clone(), line));
        }
    }
    let error = pair
        .subscriber()
        .expect_error(pair.database(), "select repl_status('nobody')");
    shown.push(("error".to_owned(), format!("{error:?}")));
    shown
}

/// The entries of the subscriber's log, but for those of the providers' own processes, whose words are not ours:
/// pglogical's quote the whole connection string.
fn log_entries(subscriber: &Cluster) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    for line in subscriber.log().lines() {
        match entries.last_mut() {
            Some(entry) if line.starts_with('\t') => {
                entry.push('\n');
                entry.push_str(line);
            }
            _ => entries.push(line.to_owned()),
        }
    }
    entries.retain(|entry| !entry.contains("] pglogical "));
    entries
}

#[track_caller]
fn assert_secret(pair: &Pair) {
    for (place, text) in shown(pair) {
        assert!(!text.contains(MARK), "{place}: {text}");
    }
    assert_secret_in_log(pair.subscriber());
}

#[track_caller]
fn assert_secret_in_log(subscriber: &Cluster) {
    for entry in log_entries(subscriber) {
        assert!(!entry.contains(MARK), "in the log: {entry}");
    }
}

fn passwords_that_work_are_not_shown(provider: Provider) {
    let pair = pair(provider);
    let status = Status::of(&pair);
    let working = working(&pair);
    for (name, conninfo) in &working {
        subscribe(&pair, name, conninfo);
    }
    let (port, database) = (pair.publisher().port(), pair.database());
    for (name, _) in &working {
        wait_asked_anew(status, name);
        let row = wait_where(status, name, "state = 'streaming'");
        let publisher = row.text("publisher");
        for part in [
            "host=127.0.0.1",
            &format!("port={port}"),
            &format!("user={ROLE}"),
            &format!("dbname={database}"),
        ] {
            assert!(
                publisher.split(' ').any(|one| one == part),
                "{part}: {publisher}"
            );
        }
        assert!(!publisher.contains("password"), "{publisher}");
    }
    assert_secret(&pair);
}

/// A password with everything in it that has a meaning somewhere in a connection string.
fn password_with_quotes_and_spaces(provider: Provider) {
    let pair = pair(provider);
    let status = Status::of(&pair);
    let names = ["quoted", "encoded"];
    for name in names {
        match provider {
            Provider::Native => subscribe(&pair, name, &working(&pair)[0].1),
            Provider::Pglogical => subscribe_to_a_set_of_its_own(&pair, name),
        }
        wait_asked_anew(status, name);
    }
    let password = format!("it's {SECRET} \"50%\" \\ a@b:c/d?e=f&g");
    set_password(&pair, &password);
    let (port, database) = (pair.publisher().port(), pair.database());
    let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
    let encoded: String = password
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    reconnect(
        &pair,
        "quoted",
        &format!("password='{quoted}' host=127.0.0.1 port={port} user={ROLE} dbname={database}"),
    );
    reconnect(
        &pair,
        "encoded",
        &format!("postgresql://{ROLE}:{encoded}@127.0.0.1:{port}/{database}"),
    );
    end_sessions(&pair);
    for name in names {
        wait_asked_anew(status, name);
    }
    assert_secret(&pair);
    for (place, text) in shown(&pair) {
        for part in [&encoded, "it's", "50%\"", "a@b"] {
            assert!(!text.contains(part), "{part} in {place}: {text}");
        }
    }
}

fn wrong_password_is_told_and_not_shown(provider: Provider) {
    let pair = pair(provider);
    let status = Status::of(&pair);
    let conninfo = working(&pair).remove(0).1;
    subscribe(&pair, SUBSCRIPTION, &conninfo);
    assert!(wait_asked_anew(status, SUBSCRIPTION).is_null("last_error"));
    set_password(&pair, "another");
    end_sessions(&pair);
    wait_no_facts(status, SUBSCRIPTION);
    let wrong = wait_where(
        status,
        SUBSCRIPTION,
        "state = 'retrying' and cause = 'authentication_failed' and last_error like '%authentication failed%'
           and last_error_at is not null",
    );
    assert!(!wrong.text("remedy").is_empty());
    assert!(
        status.report().join("\n").contains("authentication failed"),
        "{:#?}",
        status.report()
    );
    assert_secret(&pair);
    set_password(&pair, SECRET);
    wait_asked_anew(status, SUBSCRIPTION);
    pair.disable();
    pair.enable();
    status.wait_cause("streaming", None);
    assert_secret(&pair);
}

/// What has a meaning in a URI and is not percent-encoded ends the password: the rest is taken for a port or a host.
#[test]
fn password_that_is_not_encoded_in_a_uri() {
    let pair = pair(Provider::Native);
    let status = Status::of(&pair);
    let (port, database) = (pair.publisher().port(), pair.database());
    let names = ["slash", "at_sign"];
    for (name, password) in names
        .iter()
        .zip([format!("{SECRET}/"), format!("@{SECRET}")])
    {
        subscribe_offline(
            &pair,
            name,
            &format!("postgresql://{ROLE}:{password}@127.0.0.1:{port}/{database}"),
        );
    }
    for name in names {
        wait_where(status, name, "last_error is not null");
    }
    assert_secret(&pair);
}

/// What the apply worker itself says of such a string is not ours, so the subscriptions are disabled; replwarden asks
/// their publishers all the same.
fn passwords_that_do_not_work_are_not_shown(provider: Provider) {
    let pair = pair(provider);
    let status = Status::of(&pair);
    let silent = Proxy::frozen(pair.publisher());
    let (port, database) = (pair.publisher().port(), pair.database());
    let place = format!("port={port} user={ROLE} dbname={database}");
    let broken = [
        (
            "wrong",
            format!("host=127.0.0.1 {place} password='not {SECRET}'"),
        ),
        (
            "refused",
            format!("host=127.0.0.1 port=1 user={ROLE} password={SECRET}"),
        ),
        (
            "silent",
            format!("{} password={SECRET}", silent.conninfo(database)),
        ),
        (
            "no_socket",
            format!("host=/nonexistent {place} password={SECRET}"),
        ),
        (
            "no_database",
            format!("host=127.0.0.1 port={port} user={ROLE} dbname=no password={SECRET}"),
        ),
        // libpq quotes a part of each of these in its message.
        (
            "unquoted",
            format!("host=127.0.0.1 {place} password=two {SECRET}"),
        ),
        (
            "unended",
            format!("host=127.0.0.1 {place} password='{SECRET}"),
        ),
        (
            "option",
            format!("host=127.0.0.1 {place} {SECRET}=password"),
        ),
        (
            "token",
            format!("postgresql://{ROLE}:%zz{SECRET}@127.0.0.1:{port}/{database}"),
        ),
        (
            "bracket",
            format!("postgresql://{ROLE}:{SECRET}@[127.0.0.1:{port}/{database}"),
        ),
        (
            "parameter",
            format!("postgresql://127.0.0.1:{port}/{database}?{SECRET}=password"),
        ),
        (
            "scheme",
            format!("mysql://{ROLE}:{SECRET}@127.0.0.1:{port}/{database}"),
        ),
    ];
    let conninfo = working(&pair).remove(0).1;
    for (name, broken) in &broken {
        match provider {
            Provider::Native => subscribe_offline(&pair, name, &conninfo),
            Provider::Pglogical => {
                subscribe_to_a_set_of_its_own(&pair, name);
                disable(&pair, name);
            }
        }
        reconnect(&pair, name, broken);
    }
    for (name, _) in &broken {
        let row = status.wait_named(name, "tells an error", |row| !row.is_null("last_error"));
        assert!(
            !row.is_null("last_error_at") && row.is("state", "disabled"),
            "{row:?}"
        );
    }
    assert_secret(&pair);
    // And after it was tried again.
    wait_for_value(
        "the silent publisher was asked again",
        DEFAULT_DEADLINE,
        || silent.begun_by("replwarden"),
        |begun| *begun >= 2,
    );
    assert_secret(&pair);
    // The end of the worker, and its start, say nothing either.
    pair.subscriber().restart();
    wait_where(status, "wrong", "last_error is not null");
    assert_secret(&pair);
}
