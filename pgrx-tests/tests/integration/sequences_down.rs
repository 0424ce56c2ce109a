//! `repl_sync_sequences` and a sequence that counts down and begins again.

use replwarden_tests::{Pair, Provider};

use crate::loan::on_both_providers;
use crate::sequences::{lines, next, subscribed, sync};

on_both_providers!(round_the_other_way);

fn round_the_other_way(provider: Provider) {
    let pair: Pair = subscribed(
        provider,
        "create table item (id int primary key);
         create sequence down increment by -1 minvalue -5 maxvalue -1 cycle",
        &["item"],
    );
    pair.on_publisher("select setval('down', -4)");
    assert_eq!(lines(&sync(&pair, 0)), ["down -4 -1 -4"]);
    assert_eq!(next(&pair, "down"), -5);
    // The publisher's has begun again; this one gives next what that gives next.
    pair.on_publisher("select nextval('down'), nextval('down')");
    assert_eq!(lines(&sync(&pair, 0)), ["down -1 -5 -1"]);
    assert_eq!(next(&pair, "down"), -2);
    // Two values further than -4 are -5 and -1.
    pair.on_publisher("select setval('down', -4)");
    assert_eq!(lines(&sync(&pair, 2)), ["down -4 -2 -1"]);
    // Each gives -1 next, the one because it was restarted, the other after its end: nothing moves.
    pair.on_publisher("alter sequence down restart");
    pair.on_subscriber("select setval('down', -5)");
    assert_eq!(lines(&sync(&pair, 0)), ["down -1 -5 -5"]);
    assert_eq!(next(&pair, "down"), -1);
}
