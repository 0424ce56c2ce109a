//! What to do about the cause of a subscription's state.

use super::condition::Cause;
use super::provider::{Provider, Subscription};
use super::quote::literal;

/// What to do about it: SQL that can be pasted, with a comment where it is for the publisher. `None`: nothing has to be
/// done.
pub(crate) fn remedy(
    provider: &dyn Provider,
    subscription: &Subscription,
    cause: Option<Cause>,
) -> Option<String> {
    let name = &subscription.subscription;
    let slot = subscription.slot_name.as_deref().unwrap_or_default();
    // In a comment or on a terminal it could become something else.
    if cause.is_some() && name.contains(char::is_control) {
        return Some(
            "-- its name holds control characters: rename it before anything else".to_owned(),
        );
    }
    Some(match cause? {
        Cause::Disabled | Cause::DisabledOnError if subscription.slot_name.is_none() => {
            "-- it has no replication slot: SET (slot_name = ...) before it can be enabled, or create it again"
                .to_owned()
        }
        Cause::Disabled => provider.enable(name),
        Cause::DisabledOnError => format!(
            "{} -- after mending what the server log names",
            provider.enable(name)
        ),
        Cause::PublisherUnreachable => format!(
            "-- see that the publisher runs and lets this server in (address, port, pg_hba.conf, password),\n\
             -- or say where it is now: {}",
            provider.change_connection()
        ),
        Cause::SlotMissing => provider.start_over(name),
        Cause::SlotInvalidated => format!(
            "SELECT pg_drop_replication_slot({}); -- on the publisher\n{}",
            literal(slot),
            provider.start_over(name)
        ),
        Cause::SlotInUse => format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = {}; \
             -- on the publisher, unless another subscriber is meant to use the slot",
            literal(slot)
        ),
        Cause::WorkerPoolExhausted => {
            let (workers, processes) = subscription.pools;
            let more = workers.max(8);
            format!(
                "ALTER SYSTEM SET max_logical_replication_workers = {};\n\
                 ALTER SYSTEM SET max_worker_processes = {}; -- and restart the server",
                workers.saturating_add(more),
                processes.saturating_add(more)
            )
        }
        Cause::Standby => return None,
        Cause::LauncherMissing => {
            "-- restart the server; its log says why the launcher of replication does not run".to_owned()
        }
        Cause::InitializationFailed => provider.start_over(name),
        Cause::LockWait => {
            let blockers = blockers(subscription);
            if blockers.is_empty() {
                return None;
            }
            // As pg_blocking_pids() has it.
            if blockers == ["0"] {
                return Some(
                    "SELECT gid, prepared, owner FROM pg_prepared_xacts; -- one of them holds the lock: COMMIT PREPARED or ROLLBACK PREPARED"
                        .to_owned(),
                );
            }
            format!(
                "SELECT pg_terminate_backend(pid) FROM unnest('{{{}}}'::int[]) AS pid; -- ends those who hold the lock",
                blockers.join(",")
            )
        }
        Cause::SyncQueued => return None,
        Cause::Unknown if subscription.tables_interrupted > 0 => {
            "-- the server log says why the copy fails; the tables: SELECT * FROM repl_tables WHERE state = 'copy interrupted';"
                .to_owned()
        }
        Cause::Unknown => "-- the server log says why the apply worker ends".to_owned(),
    })
}

fn blockers(subscription: &Subscription) -> Vec<String> {
    let workers = subscription.worker.iter().chain(&subscription.sync_workers);
    let mut pids: Vec<i32> = workers
        .filter_map(|one| one.blocked_by.as_ref())
        .flatten()
        .copied()
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids.iter().map(i32::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::provider::{self, Worker};

    fn blocked_by(pids: &[i32]) -> Subscription {
        Subscription {
            subscription: "sub".to_owned(),
            worker: Some(Worker {
                blocked_by: Some(pids.to_vec()),
                ..Worker::default()
            }),
            ..Subscription::default()
        }
    }

    #[test]
    fn remedies_name_things_as_sql_has_to() {
        let native = provider::named("native");
        let mut subscription = blocked_by(&[7, 5, 7]);
        subscription.subscription = "odd \"sub\"".to_owned();
        subscription.slot_name = Some("slot".to_owned());
        assert_eq!(
            remedy(native, &subscription, Some(Cause::Disabled)).as_deref(),
            Some("ALTER SUBSCRIPTION \"odd \"\"sub\"\"\" ENABLE;")
        );
        let text = remedy(native, &subscription, Some(Cause::LockWait));
        assert!(text.is_some_and(|text| text.contains("'{5,7}'")));
        assert_eq!(remedy(native, &subscription, None), None);
        let text = remedy(native, &blocked_by(&[0]), Some(Cause::LockWait));
        assert!(text.is_some_and(|text| text.contains("pg_prepared_xacts")));
        subscription.pools = (20, 30);
        let text = remedy(native, &subscription, Some(Cause::WorkerPoolExhausted));
        assert!(text.is_some_and(|text| text.contains("workers = 40;") && text.contains("= 50;")));
    }

    #[test]
    fn name_that_ends_a_comment_is_in_no_remedy() {
        let native = provider::named("native");
        let mut subscription = blocked_by(&[7, 5, 7]);
        subscription.subscription = "a\nDROP TABLE b; --".to_owned();
        for cause in [
            Cause::PublisherUnreachable,
            Cause::SlotMissing,
            Cause::Disabled,
        ] {
            let text = remedy(native, &subscription, Some(cause));
            assert!(
                text.is_some_and(|text| !text.contains("DROP TABLE")),
                "{cause:?}"
            );
        }
    }
}
