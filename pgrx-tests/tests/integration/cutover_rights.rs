//! Who may call `repl_cutover_check`, and what it refuses.

use replwarden_tests::{Pair, Provider};

use crate::cutover::{check, not_ready};
use crate::database::{OWNER, STRANGER, create_roles};
use crate::loan::on_both_providers;
use crate::status;

on_both_providers!(others_are_refused);

fn others_are_refused(provider: Provider) {
    let pair = status::streaming(Pair::start(provider));
    create_roles(pair.subscriber());
    for (sql, code) in [
        (
            "select * from repl_cutover_check('nosuch')".to_owned(),
            "42704",
        ),
        ("select * from repl_cutover_check(null)".to_owned(), "22004"),
        (
            format!(
                "set session authorization {STRANGER}; select * from repl_cutover_check('sub')"
            ),
            "42501",
        ),
        (
            format!("set session authorization {OWNER}; select * from _repl_cutover_check('sub')"),
            "42501",
        ),
    ] {
        let error = pair.subscriber().expect_error(pair.database(), &sql);
        assert_eq!(error.code().code(), code, "{sql}: {error:?}");
        assert!(
            error.detail().is_some() && error.hint().is_some(),
            "{error:?}"
        );
    }
    // It writes nothing.
    pair.on_subscriber("begin read only; select * from repl_cutover_check('sub')");
    // The publisher's part is not to be had with a role that may not see it; the rest is.
    assert!(!not_ready(&check(&pair)).contains(&"subscription"));
}
