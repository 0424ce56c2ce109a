//! What `repl_cutover_check` says of foreign keys that `repl_detach_foreign_keys` has taken away.

use replwarden_tests::{DEFAULT_DEADLINE, Provider, wait_until};

use crate::cutover::{CHILD, check, mend, of, ready, wait_not_ready, wait_ready};
use crate::loan::on_both_providers;
use crate::resync::detached;
use crate::status::Status;

on_both_providers!(keys_that_are_detached);

const KEY: &str = "\"It's a \"\"child\"\"_parent_fkey\"";

fn keys_that_are_detached(provider: Provider) {
    let pair = ready(provider);
    pair.on_subscriber("select repl_detach_foreign_keys('parent')");
    // The check says it once all the same.
    wait_until("repl_diagnose() warns of it", DEFAULT_DEADLINE, || {
        let warned = "select * from repl_diagnose() where cause = 'foreign_key_detached'";
        Status::of(&pair).rows(warned).len() == 1
    });
    mend(
        &pair,
        "foreign_keys",
        &format!("1 foreign key is not back: {KEY} of public.{CHILD} (detached)."),
    );
    assert!(detached(&pair).is_empty());

    // One that somebody has to decide about: nothing that is only pasted mends it.
    pair.on_subscriber(&format!(
        "select repl_detach_foreign_keys('parent');
         insert into {CHILD} (parent, note) values (7777, 'orphan')"
    ));
    let rows = wait_not_ready(&pair, &["foreign_keys"]);
    let remedy = of(&rows, "foreign_keys").text("remedy").to_owned();
    for _ in 0..2 {
        pair.on_subscriber(&remedy);
        let rows = wait_not_ready(&pair, &["foreign_keys"]);
        let row = of(&rows, "foreign_keys");
        assert!(
            row.text("finding")
                .contains(&format!("{KEY} of public.{CHILD} (not valid)")),
            "{row:#?}"
        );
        assert_eq!(row.text("remedy"), remedy);
    }
    pair.on_subscriber(&format!("delete from {CHILD} where parent = 7777"));
    pair.on_subscriber(&remedy);
    wait_ready(&pair);
    // Whoever validates it by hand is done as well.
    pair.on_subscriber(
        "select repl_detach_foreign_keys('parent'); select repl_restore_foreign_keys(validate => false)",
    );
    wait_not_ready(&pair, &["foreign_keys"]);
    pair.on_subscriber(&format!("alter table {CHILD} validate constraint {KEY}"));
    wait_ready(&pair);
}

/// A key goes with its tables, as it would if it were not detached.
#[test]
fn keys_whose_tables_are_dropped() {
    let pair = ready(Provider::Native);
    for (dropped, is_mended) in [("referring", false), ("referred", true)] {
        pair.on_subscriber(
            "create table referred (id int primary key);
             create table referring (id int references referred)",
        );
        pair.on_subscriber("select repl_detach_foreign_keys('referred')");
        wait_not_ready(&pair, &["foreign_keys"]);
        pair.on_subscriber(&format!("drop table {dropped}"));
        wait_ready(&pair);
        let remembered = detached(&pair);
        assert_eq!(remembered.len(), 1, "{remembered:?}");
        // It is said why, and nothing fails.
        pair.on_subscriber("select repl_restore_foreign_keys()");
        let remembered = detached(&pair).remove(0);
        assert!(
            remembered.ends_with(&format!("there is no table public.{dropped} any more"))
                || remembered.ends_with(&format!(
                    "there is no table public.{dropped} any more, to which it refers"
                )),
            "{remembered}"
        );
        wait_ready(&pair);
        if is_mended {
            pair.on_subscriber("create table referred (id int primary key)");
            mend(
                &pair,
                "foreign_keys",
                "referring_id_fkey of public.referring (detached)",
            );
            assert!(detached(&pair).is_empty());
        }
        pair.on_subscriber(
            "drop table if exists referring, referred; delete from _repl_foreign_keys",
        );
    }
    // One of the publisher's is missing all the same.
    pair.on_subscriber(&format!(
        "select repl_detach_foreign_keys('parent'); alter table {CHILD} rename to gone"
    ));
    let rows = check(&pair);
    assert!(of(&rows, "foreign_keys").is("ready", "f"), "{rows:#?}");
}
