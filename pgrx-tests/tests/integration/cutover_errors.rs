//! What `repl_cutover_check` says of an error that is pending, and of one that is over.

use replwarden_tests::{DEFAULT_DEADLINE, Provider, wait_for_value};

use crate::cutover::{check, of, ready, wait_not_ready, wait_ready};
use crate::loan::on_both_providers;
use crate::status::Status;

on_both_providers!(change_that_cannot_be_applied);

fn change_that_cannot_be_applied(provider: Provider) {
    let pair = ready(provider);
    let status = Status::of(&pair);
    let errors = || {
        of(&wait_not_ready(&pair, &[]), "errors")
            .text("finding")
            .to_owned()
    };
    assert_eq!(errors(), "repl_diagnose() finds nothing else.");
    let constraint = "alter table parent add constraint named check (note <> 'wrong')";
    pair.on_subscriber(constraint);
    pair.on_publisher("insert into parent (id, note) values (5000, 'wrong')");
    let rows = wait_for_value(
        "the error is pending",
        DEFAULT_DEADLINE,
        || check(&pair),
        |rows| of(rows, "errors").is("ready", "f"),
    );
    let finding = of(&rows, "errors").text("finding");
    assert!(
        finding.starts_with("The last one, ") && finding.contains("\"named\""),
        "{rows:#?}"
    );
    let row = of(&rows, "subscription");
    assert!(
        row.is("ready", "f") && row.text("finding").contains("\"named\""),
        "{rows:#?}"
    );
    assert!(
        of(&rows, "plan").text("finding").contains("[ ] 1."),
        "{rows:#?}"
    );
    let known = status.rows("select * from repl_errors where sqlstate = '23514'");
    assert_eq!(known.len(), 1, "{known:#?}");

    pair.on_subscriber("alter table parent drop constraint named");
    wait_ready(&pair);
    let finding = errors();
    assert!(
        finding.starts_with("None is pending. The last one, ") && finding.contains("\"named\""),
        "{finding}"
    );
}
