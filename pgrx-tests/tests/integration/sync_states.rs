//! `repl_sync_states` has a word for every code that the catalogs of the providers show.

use crate::database::Database;
use crate::loan;
use replwarden_tests::{Pair, Provider};

#[test]
fn every_code_of_both_providers_has_its_word() {
    let database = Database::new();
    assert_eq!(
        database.lines(
            "select provider, string_agg(code, '' order by code), count(*) from repl_sync_states
              where state <> '' and description <> '' and resumable is not null
              group by provider order by provider"
        ),
        ["native|cdfirsw|7", "pglogical|cdirsuwy|9"]
    );
}

#[test]
fn anybody_may_read_them() {
    let database = Database::new();
    assert_eq!(
        database.lines(
            "set role stranger;
             select state from repl_sync_states where provider = 'native' and code = 'r'"
        ),
        ["ready"]
    );
}

fn states_of_a_running_pair(provider: Provider, states: &str) {
    let pair = loan::pair_with(Pair::start(provider), "text");
    loan::insert(&pair, 1, 10);
    pair.subscribe();
    pair.wait_copied();
    let found = pair.subscriber().rows_text(pair.database(), states);
    assert!(!found.is_empty(), "{provider:?} shows a state");
    for row in found {
        let state = row[0].as_deref();
        assert!(matches!(state, Some("ready" | "synchronized")), "{state:?}");
    }
}

#[test]
fn codes_of_a_running_native_subscription() {
    states_of_a_running_pair(
        Provider::Native,
        "select s.state from pg_subscription_rel r
           left join repl_sync_states s on s.provider = 'native' and s.code = r.srsubstate::text",
    );
}

#[test]
fn codes_of_a_running_pglogical_subscription() {
    states_of_a_running_pair(
        Provider::Pglogical,
        "select s.state from pglogical.local_sync_status l
           left join repl_sync_states s on s.provider = 'pglogical' and s.code = l.sync_status::text",
    );
}
