//! The demo: how a generated column gets lost in logical replication, and what replwarden does about it. It runs on
//! throw-away clusters, checks every row, and fails when one is wrong or the status at the end does not say that all is well.

mod check;
mod crash_loop;
mod cut_over;
mod late;
mod stage;
mod status;
mod story;
mod table;

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use replwarden_tests::{Pair, Provider, SUBSCRIPTION, Server};

use check::Comparison;
use stage::say;

/// The second database, on both sides.
const PGLOGICAL_DATABASE: &str = "shop_pglogical";

/// The third one.
const LOOP_DATABASE: &str = "shop_loop";

const USAGE: &str = "usage: demo [--keep]\n\n  --keep  leave the clusters up at the end (as KEEP=1 in the environment)";

fn main() -> ExitCode {
    let mut keep = env::var("KEEP").is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--keep" => keep = true,
            "--help" | "-h" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match run(keep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nThe demo failed: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(keep: bool) -> Result<(), String> {
    let started = Instant::now();
    let server = Server::find()?;
    if !server.has_library("replwarden") {
        return Err("replwarden is not installed: make install".to_owned());
    }
    if !server.has_library("pglogical") {
        return Err(format!(
            "pglogical is not installed (Debian: apt-get install postgresql-{}-pglogical)",
            server.major()
        ));
    }
    stage::heading("Two throw-away clusters");
    say(&format!(
        "A publisher and a subscriber, {}, each in a temporary directory. The subscriber preloads replwarden.",
        server.version()
    ));
    let native = Pair::builder(Provider::Native)
        .publisher_setting("shared_preload_libraries", "pglogical")
        .subscriber_setting("shared_preload_libraries", "pglogical, replwarden")
        .start();

    let outcome = story::tell(&native)
        .and_then(|mut results| {
            let pglogical = native.beside(Provider::Pglogical, PGLOGICAL_DATABASE);
            results.extend(story::tell_again(&pglogical)?);
            late::tell(&native)?;
            let looping = native.beside(Provider::Pglogical, LOOP_DATABASE);
            results.push(crash_loop::tell(&looping)?);
            cut_over::tell(&native)?;
            Ok(results)
        })
        .and_then(|results| judge(&results))
        .and_then(|()| status::tell(&native));
    // Kept after a failure too: that is when one wants to look.
    if keep {
        leave_up(&native);
    }
    outcome?;
    say(&format!(
        "Every row is right, with both providers. {:.0} s in all{}.",
        started.elapsed().as_secs_f64(),
        if keep {
            ""
        } else {
            "; both clusters are removed now"
        }
    ));
    Ok(())
}

fn judge(results: &[Comparison]) -> Result<(), String> {
    stage::heading("The result");
    print!("{}", check::summary(results));
    check::first_wrong(results).map_or(Ok(()), Err)
}

fn leave_up(native: &Pair) {
    stage::heading("The clusters stay up");
    let publisher = native.publisher();
    let subscriber = native.subscriber();
    println!("{}", publisher.psql_command(native.database()));
    println!("{}", subscriber.psql_command(native.database()));
    println!();
    say(&format!(
        "The first is the publisher, the second the subscriber. \\c {PGLOGICAL_DATABASE} and \\c {LOOP_DATABASE} go to the \
         databases that pglogical replicates. All subscriptions are called {SUBSCRIPTION}."
    ));
    say("To stop and remove them:");
    for cluster in [subscriber, publisher] {
        for command in cluster.keep() {
            println!("{command}");
        }
    }
    println!();
}
