//! A subscription whose slot is to survive the publisher (`failover`), as there can be from 17 on.

use replwarden_tests::Provider;

use crate::diagnose::{assert_goes_on, wait_well};
use crate::preflight_check::Preflight;
use crate::since::since;
use crate::status::{self, Status};

#[test]
fn is_watched_and_copied_again_as_any_other() {
    if !since(17, "failover slots") {
        return;
    }
    let pair = status::with_item(status::builder(Provider::Native).start());
    pair.on_publisher("insert into item values (1), (2)");
    pair.on_subscriber(&format!(
        "{} with (failover = true)",
        pair.subscribe_sql(true)
    ));
    pair.wait_copied();
    wait_well(Status::of(&pair));
    Preflight::of_subscription(&pair).assert_in_order();
    pair.on_subscriber("select repl_resync_table('item')");
    assert_goes_on(&pair);
    pair.on_subscriber("select repl_disable('sub'); select repl_enable('sub')");
    assert_goes_on(&pair);
    assert!(pair.publisher().query_one_value::<bool>(
        pair.database(),
        "select failover from pg_replication_slots where slot_name = 'sub'"
    ));
}
