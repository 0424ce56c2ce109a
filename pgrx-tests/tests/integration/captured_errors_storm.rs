//! What the server logs is what it would log without replwarden, however much it is and whatever it is short of.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use postgres::Client;
use replwarden_tests::{Cluster, Pair, Provider};

use crate::captured_errors::wait_error;
use crate::database::lines;
use crate::status::{self, Status, builder, read};

const SESSIONS: usize = 8;
const ERRORS: usize = 2_000;

/// What pglogical calls a session in which it copies for the subscription `sub`.
const APPLICATION: &str = "sub_copy";

/// Every text is longer than the room that there is for it, and has characters of two to four bytes at the cut. All of
/// them say which error it is.
const FUNCTIONS: &str = "
    create function storm(session int, number int) returns void language plpgsql as $$
      declare
        id text := format('storm %s %s', session, number);
        long text := repeat('x', number % 5) || repeat('äöü€😀', 170 + number % 13);
      begin
        raise exception using errcode = 'RW002',
          message = format('%s %s %s', id, long, id), detail = format('%s %s %s', id, long, id),
          hint = format('%s %s %s', id, long, id);
      end $$;
    create function \"tief_äöü€\"(level int, session int, number int) returns void language plpgsql as $$
      begin
        if level = 0 then perform storm(session, number);
        else perform \"tief_äöü€\"(level - 1, session, number);
        end if;
      end $$;";
const DEPTH: usize = 20;

/// A session that the hook takes for one of pglogical.
#[track_caller]
pub(crate) fn copier(cluster: &Cluster, database: &str) -> Client {
    let mut client = cluster.connect(database);
    client
        .batch_execute(&format!(
            "set session_replication_role = replica; set application_name = '{APPLICATION}'"
        ))
        .expect("a superuser may");
    client
}

#[track_caller]
fn storm(cluster: &Cluster, database: &str, session: usize) {
    let mut client = copier(cluster, database);
    for number in 1..=ERRORS {
        let sql = format!("select \"tief_äöü€\"({DEPTH}, {session}, {number})");
        let error = client.batch_execute(&sql).expect_err("it raises");
        let answer = error.as_db_error().expect("an error of the server");
        assert_eq!(answer.code().code(), "RW002", "{answer:?}");
    }
}

#[track_caller]
fn run_storm(cluster: &Cluster, database: &str) {
    cluster.execute(database, FUNCTIONS);
    thread::scope(|scope| {
        for session in 1..=SESSIONS {
            scope.spawn(move || storm(cluster, database, session));
        }
    });
}

/// What the log has of such sessions, one text for each, without times and process ids, in an order that the storm does
/// not change.
fn logged(cluster: &Cluster) -> Vec<String> {
    let log = cluster.log();
    let mut sessions: BTreeMap<&str, String> = BTreeMap::new();
    let mut current = None;
    for line in log.lines() {
        if !line.starts_with('\t') {
            current = line
                .split_once(&format!("] {APPLICATION}: "))
                .and_then(|(head, text)| Some((head.rsplit_once('[')?.1, text)));
        }
        if let Some((pid, text)) = &mut current {
            let of_session = sessions.entry(*pid).or_default();
            of_session.push_str(if line.starts_with('\t') { line } else { text });
            of_session.push('\n');
        }
    }
    let mut texts: Vec<String> = sessions.into_values().collect();
    texts.sort();
    texts
}

#[track_caller]
fn assert_same_log(with: &Cluster, without: &Cluster) {
    let (with, without) = (logged(with), logged(without));
    assert_eq!(with.len(), without.len());
    for (with, without) in with.iter().zip(&without) {
        let mut both = with.lines().zip(without.lines());
        let difference = both.find(|(one, other)| one != other);
        assert_eq!(difference, None);
        assert_eq!(with.len(), without.len());
    }
}

/// Reads until the storm is over. What it reads is of one error each.
fn read_all_the_time(pair: &Pair, is_over: &AtomicBool) -> usize {
    let mut client = pair.subscriber().connect(pair.database());
    let mut seen = 0;
    loop {
        let is_last = is_over.load(Ordering::Relaxed);
        let rows = read(
            &mut client,
            "select message, detail, hint, context, occurrences from repl_errors where sqlstate = 'RW002'",
        );
        for row in &rows {
            let id: Vec<&str> = row.text("message").splitn(4, ' ').take(3).collect();
            let id = id.join(" ");
            for column in ["message", "detail", "hint"] {
                let text = row.text(column);
                let is_whole =
                    text.starts_with(&format!("{id} ")) && text.ends_with(&format!(" {id}"));
                assert!(is_whole && text.contains(" ... "), "{column}: {row:?}");
                assert!(!text.contains('\u{fffd}'), "{column}: {row:?}");
            }
            let context = row.text("context");
            assert!(context.starts_with("PL/pgSQL function storm("), "{row:?}");
            assert!(
                context.ends_with(" at PERFORM") && context.contains(" ... "),
                "{row:?}"
            );
            assert!(!context.contains('\u{fffd}'), "{row:?}");
            assert!(row.is("occurrences", "1"), "{row:?}");
        }
        seen = seen.max(rows.len());
        if is_last {
            return seen;
        }
    }
}

#[test]
fn storm_of_errors() {
    let pair = status::streaming(builder(Provider::Pglogical).start());
    let plain = Cluster::builder("plain").start();
    let before = pair.subscriber().postmaster_pid();
    let is_over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let reader = scope.spawn(|| read_all_the_time(&pair, &is_over));
        run_storm(pair.subscriber(), pair.database());
        is_over.store(true, Ordering::Relaxed);
        reader.join().expect("it reads no mixture of errors")
    });
    assert!(seen > 100, "{seen}");
    run_storm(&plain, "postgres");
    let expected = SESSIONS * ERRORS;
    let entries = plain.log().matches("ERROR:  storm").count();
    assert_eq!(entries, expected);
    assert_same_log(pair.subscriber(), &plain);
    let log = pair.subscriber().log();
    assert!(
        !log.contains("terminated by signal"),
        "the server has crashed"
    );
    assert_eq!(pair.subscriber().postmaster_pid(), before);
}

/// Leaves a backend so many bytes more than it has.
fn limit_memory(cluster: &Cluster, pid: &str, more: u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let kilobytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
        .expect("a size");
    // Of util-linux. Root may be without the right to do that to another user's process.
    let user = cluster.server().user();
    let done = user
        .command(Path::new("prlimit"))
        .args(["--pid", pid, &format!("--as={}", kilobytes * 1024 + more)])
        .status()
        .expect("prlimit is there");
    assert!(done.success(), "{done}");
}

#[track_caller]
fn run_out_of_memory(cluster: &Cluster, database: &str) {
    let mut client = copier(cluster, database);
    let pid = lines(&mut client, "select pg_backend_pid()").remove(0);
    limit_memory(cluster, &pid, 20 << 20);
    for _ in 0..3 {
        let error = client
            .batch_execute("select length(repeat('x', 900000000))")
            .expect_err("there is no such memory");
        let answer = error.as_db_error().expect("an error of the server");
        assert_eq!(answer.code().code(), "53200", "{answer:?}");
    }
    assert_eq!(lines(&mut client, "select 1"), ["1"]);
}

#[test]
fn out_of_memory() {
    let pair = status::streaming(builder(Provider::Pglogical).start());
    let plain = Cluster::builder("plain").start();
    run_out_of_memory(pair.subscriber(), pair.database());
    run_out_of_memory(&plain, "postgres");
    assert_same_log(pair.subscriber(), &plain);
    let row = wait_error(Status::of(&pair), "that memory is out", |row| {
        row.is("sqlstate", "53200") && row.is("occurrences", "3")
    });
    assert!(row.is("message", "out of memory"), "{row:#?}");
    assert!(
        row.text("detail").contains("Failed on request of size"),
        "{row:#?}"
    );
}
