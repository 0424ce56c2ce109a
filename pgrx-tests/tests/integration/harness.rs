//! The harness itself: a test that relies on it has to know that a pair replicates, dies and comes back.

use std::env;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::{self, Command, Output};
use std::time::Duration;

use replwarden_tests::{
    Cluster, DEFAULT_DEADLINE, Pair, Provider, Publication, ShutdownMode, wait_for_value,
    wait_until,
};

const TABLE: &str = "create table item (id bigint primary key, name text)";
const ROWS: &str = "select * from item order by id";

fn copies_and_streams(provider: Provider) {
    let pair = Pair::start(provider);
    pair.on_both(TABLE);
    pair.on_publisher("insert into item select n, 'item ' || n from generate_series(1, 1000) n");
    pair.publish(&Publication::of("item"));
    pair.subscribe();
    pair.wait_copied();
    pair.compare(ROWS, ROWS);

    pair.on_publisher("insert into item values (1001, null)");
    pair.on_publisher("update item set name = 'changed' where id % 10 = 0");
    pair.on_publisher("delete from item where id % 10 = 1");
    pair.wait_caught_up();
    pair.compare(ROWS, ROWS);
}

#[test]
fn native_pair_copies_and_streams() {
    copies_and_streams(Provider::Native);
}

#[test]
fn pglogical_pair_copies_and_streams() {
    copies_and_streams(Provider::Pglogical);
}

/// Set in a process that a test has started to run itself once more, as one that comes to a bad end.
const BAD_END: &str = "REPLWARDEN_TEST_BAD_END";

fn run_to_its_bad_end(test: &str, target_directory: &Path) -> Output {
    Command::new(env::current_exe().expect("the path of this test binary"))
        .args(["--exact", test, "--nocapture"])
        .env(BAD_END, "1")
        .env("CARGO_TARGET_DIR", target_directory)
        .output()
        .expect("the test binary runs")
}

#[test]
fn cluster_ends_with_the_process_that_started_it() {
    if env::var_os(BAD_END).is_some() {
        let cluster = Cluster::builder("orphan").start();
        println!("data directory:{}", cluster.data_directory().display());
        process::exit(1); // drops nothing
    }
    let output = run_to_its_bad_end(
        "harness::cluster_ends_with_the_process_that_started_it",
        Path::new("/nonexistent"),
    );
    let output = String::from_utf8_lossy(&output.stdout);
    let data = output
        .lines()
        .find_map(|line| line.split_once("data directory:"))
        .expect("the other process has started a cluster")
        .1;
    let directory = Path::new(data).parent().expect("the cluster's directory");
    wait_until("the orphan is removed", DEFAULT_DEADLINE, || {
        !directory.exists()
    });
}

#[test]
fn failed_test_leaves_the_server_log() {
    const NAME: &str = "harness::failed_test_leaves_the_server_log";
    if env::var_os(BAD_END).is_some() {
        let _cluster = Cluster::builder("witness").start();
        panic!("as it has to be");
    }
    let target = env::temp_dir().join(format!("replwarden-evidence-{}", process::id()));
    let output = run_to_its_bad_end(NAME, &target);
    let log = target
        .join("test-logs")
        .join(NAME.replace("::", "."))
        .join("witness.log");
    let log = fs::read_to_string(&log).expect("the log is saved");
    fs::remove_dir_all(&target).expect("it can be removed");
    for text in [log.as_str(), &String::from_utf8_lossy(&output.stderr)] {
        assert!(text.contains("ready to accept connections"), "{text}");
    }
}

/// Apply workers commit asynchronously, so a kill right after a copy could lose it, and the state that says it is done.
/// A commit that is not asynchronous flushes the WAL of all before it.
fn flush(pair: &Pair) {
    pair.on_subscriber("create table flushed ()");
}

fn survives_a_kill(provider: Provider) {
    let pair = Pair::start(provider);
    pair.on_both(TABLE);
    pair.publish(&Publication::of("item"));
    pair.subscribe();
    pair.wait_copied();
    let old_worker = pair.apply_worker_pid();
    flush(&pair);

    pair.subscriber().kill();
    pair.on_publisher("insert into item values (1, 'while the subscriber was down')");
    assert!(pair.subscriber().try_connect("shop").is_err());
    pair.subscriber().start();

    assert!(
        pair.subscriber().log().contains("was interrupted"),
        "a killed server starts with a crash recovery"
    );
    assert_ne!(pair.apply_worker_pid(), old_worker);
    pair.wait_caught_up();
    pair.compare(ROWS, ROWS);

    pair.publisher().restart();
    pair.disable();
    pair.enable();
    pair.on_publisher("insert into item values (2, 'after the publisher''s restart')");
    pair.wait_caught_up();
    pair.compare(ROWS, ROWS);
}

#[test]
fn native_subscriber_comes_back_after_a_kill() {
    survives_a_kill(Provider::Native);
}

#[test]
fn pglogical_subscriber_comes_back_after_a_kill() {
    survives_a_kill(Provider::Pglogical);
}

#[test]
fn subscription_without_copy_carries_only_what_comes_later() {
    let pair = Pair::start(Provider::Native);
    pair.on_both(TABLE);
    pair.on_publisher("insert into item values (1, 'before')");
    pair.publish(&Publication::of("item"));
    pair.subscribe_without_copy();
    pair.on_publisher("insert into item values (2, 'after')");
    pair.wait_caught_up();
    pair.compare("select * from item where id = 2", ROWS);
}

#[test]
fn column_list_leaves_out_the_other_columns() {
    for provider in [Provider::Native, Provider::Pglogical] {
        let pair = Pair::start(provider);
        if provider == Provider::Native && pair.publisher().server().major() < 15 {
            continue; // column lists came with 15
        }
        pair.on_both(TABLE);
        pair.on_publisher("insert into item values (1, 'copied')");
        pair.publish(&Publication::default().table_columns("item", &["id"]));
        pair.subscribe();
        pair.wait_copied();
        pair.on_publisher("insert into item values (2, 'streamed')");
        pair.wait_caught_up();
        pair.compare("select id, null from item order by id", ROWS);
    }
}

#[test]
fn settings_can_be_given_and_changed() {
    let cluster = Cluster::builder("settings")
        .setting("work_mem", "3MB")
        .start();
    assert_eq!(
        cluster.query_one_value::<String>("postgres", "show work_mem"),
        "3MB"
    );
    cluster.set("work_mem", "5MB");
    assert_eq!(
        cluster.query_one_value::<String>("postgres", "show work_mem"),
        "5MB"
    );
    cluster.set("session_preload_libraries", "auto_explain, passwordcheck");
    assert_eq!(
        cluster.query_one_value::<String>("postgres", "show session_preload_libraries"),
        "auto_explain, passwordcheck"
    );
}

#[test]
fn cluster_leaves_no_file_and_no_process() {
    let cluster = Cluster::builder("gone").start();
    let data = cluster.data_directory().to_owned();
    let pid = cluster.postmaster_pid().expect("it is running");
    cluster.stop(ShutdownMode::Fast);
    assert_eq!(cluster.postmaster_pid(), None);
    cluster.start();
    let second_pid = cluster.postmaster_pid().expect("it is running again");
    drop(cluster);
    assert!(!data.parent().expect("the cluster's directory").exists());
    for pid in [pid, second_pid] {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn expected_error_is_returned_in_full() {
    let cluster = Cluster::builder("errors").start();
    let error = cluster.expect_error("postgres", "select 1 / 0");
    assert_eq!(error.code().code(), "22012");
}

#[test]
fn rows_come_as_text_with_null() {
    let cluster = Cluster::builder("rows").start();
    assert_eq!(
        cluster.rows_text("postgres", "values (1, null), (2, 'b')"),
        vec![
            vec![Some("1".to_owned()), None],
            vec![Some("2".to_owned()), Some("b".to_owned())]
        ]
    );
}

fn panic_text(body: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let payload = catch_unwind(body).expect_err("it has to panic");
    payload
        .downcast_ref::<String>()
        .expect("a formatted panic")
        .clone()
}

#[test]
fn waiting_in_vain_says_for_what() {
    let text = panic_text(|| {
        wait_until("pigs fly", Duration::from_millis(60), || false);
    });
    assert_eq!(text, "waited 60ms in vain until pigs fly");

    let text = panic_text(|| {
        wait_for_value(
            "there are two",
            Duration::from_millis(60),
            || 1,
            |&count| count == 2,
        );
    });
    assert_eq!(
        text,
        "waited 60ms in vain until there are two; last seen: 1"
    );
}

#[test]
fn waiting_ends_with_the_condition() {
    let mut tries = 0;
    wait_until("three tries are made", DEFAULT_DEADLINE, || {
        tries += 1;
        tries == 3
    });
    assert_eq!(tries, 3);
}
