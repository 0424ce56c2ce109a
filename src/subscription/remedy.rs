//! What to do about what was found.

use super::captured::CapturedError;
use super::cause::Cause;
use super::known::KnownSubscription;
use super::provider::{self, Provider, Subscription};
use super::quote::{identifier, literal};

mod mend;

/// What a remedy is made from.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) subscription: &'a Subscription,
    pub(super) known: Option<&'a KnownSubscription>,
    /// The error that says so.
    pub(super) error: Option<&'a CapturedError>,
    /// The publisher refuses.
    pub(super) is_remote: bool,
}

impl<'a> Case<'a> {
    pub(super) fn of(subscription: &'a Subscription, known: Option<&'a KnownSubscription>) -> Self {
        Self {
            subscription,
            known,
            error: None,
            is_remote: false,
        }
    }

    fn provider(&self) -> &'static dyn Provider {
        provider::named(&self.subscription.provider)
    }

    fn is_native(&self) -> bool {
        self.subscription.provider != "pglogical"
    }

    /// The statement of this extension that acts on the subscription.
    fn call(&self, function: &str) -> String {
        let name = literal(&self.subscription.subscription);
        format!("SELECT {function}({name});")
    }
}

/// SQL that can be pasted, with a comment where it is for the publisher, or a comment that says what to do. `None`: nothing
/// has to be done.
pub(super) fn remedy(case: Case, cause: Cause) -> Option<String> {
    // In a comment or on a terminal it could become something else.
    if case.subscription.subscription.contains(char::is_control) {
        return Some(
            "-- its name holds control characters: rename it before anything else".to_owned(),
        );
    }
    let of_worker = match cause {
        Cause::Disabled | Cause::DisabledOnError | Cause::CrashLoop => enabling(case, cause),
        Cause::LockWait => locks(case),
        _ => of_place(case, cause),
    };
    of_worker.or_else(|| mend::remedy(case, cause))
}

/// Of what switches it off.
fn enabling(case: Case, cause: Cause) -> Option<String> {
    let (provider, name) = (case.provider(), &case.subscription.subscription);
    if cause == Cause::CrashLoop {
        return Some(crash_loop(case));
    }
    if case.subscription.slot_name.is_none() {
        return Some(
            "-- it has no replication slot: SET (slot_name = ...) before it can be enabled, or create it again"
                .to_owned(),
        );
    }
    let enable = provider.enable(name);
    if cause == Cause::Disabled {
        return Some(enable);
    }
    Some(match case.error {
        Some(error) => {
            let failure = super::failure::classify(error);
            let case = Case {
                is_remote: failure.is_remote,
                ..case
            };
            match remedy(case, failure.cause) {
                Some(first) => format!("{first}\n{enable}"),
                None => enable,
            }
        }
        None => format!("{enable} -- after mending what the server log names"),
    })
}

fn crash_loop(case: Case) -> String {
    let tables = case.known.map(|known| known.generated_tables.as_slice());
    let tables = tables.unwrap_or_default();
    let mut lines = Vec::new();
    if case.subscription.enabled {
        lines.push(case.call("repl_disable"));
    }
    if case.is_native() || tables.is_empty() {
        lines.push(
            "-- find out first why its worker crashes: the server log, a core file".to_owned(),
        );
    } else {
        lines.extend(adoptions(tables));
    }
    lines.push(case.call("repl_enable"));
    lines.join("\n")
}

/// Make generated columns plain ones with a rule.
fn adoptions(tables: &[String]) -> impl Iterator<Item = String> {
    let tables = tables.iter();
    let tables = tables.filter(|table| !table.contains(char::is_control));
    tables.map(|table| format!("SELECT repl_adopt_generated({});", literal(table)))
}

fn locks(case: Case) -> Option<String> {
    let blockers = blockers(case.subscription);
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
    Some(format!(
        "SELECT pg_terminate_backend(pid) FROM unnest('{{{}}}'::int[]) AS pid; -- ends those who hold the lock",
        blockers.join(",")
    ))
}

/// Those who block its workers, and are none of them: the apply worker waits for those that help it.
fn blockers(subscription: &Subscription) -> Vec<String> {
    let workers = || {
        let apply = subscription.worker.iter();
        apply
            .chain(&subscription.sync_workers)
            .chain(&subscription.parallel_workers)
    };
    let mut pids: Vec<i32> = workers()
        .filter_map(|one| one.blocked_by.as_ref())
        .flatten()
        .copied()
        .filter(|pid| workers().all(|worker| worker.pid != *pid))
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids.iter().map(i32::to_string).collect()
}

/// Of the place where the workers run, and of the way to the publisher.
fn of_place(case: Case, cause: Cause) -> Option<String> {
    let (provider, name) = (case.provider(), &case.subscription.subscription);
    let slot = case.subscription.slot_name.as_deref().unwrap_or_default();
    Some(match cause {
        Cause::PublisherUnreachable => format!(
            "-- see that the publisher runs and lets this server in (address, port, pg_hba.conf, password),\n\
             -- or say where it is now: {}",
            provider.change_connection()
        ),
        Cause::AuthenticationFailed => format!(
            "-- see that the publisher lets this user in (password, pg_hba.conf, LOGIN and REPLICATION of the role),\n\
             -- or change how to connect: {}",
            provider.change_connection()
        ),
        Cause::SlotMissing | Cause::InitializationFailed => provider.start_over(name),
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
        Cause::OutputPluginRefused => output_plugins(case),
        Cause::WorkerPoolExhausted => {
            let (workers, processes) = case.subscription.pools;
            let more = workers.max(8);
            let mut lines = String::new();
            if case.is_native() {
                let workers = workers.saturating_add(more);
                lines =
                    format!("ALTER SYSTEM SET max_logical_replication_workers = {workers};\n");
            }
            format!(
                "{lines}ALTER SYSTEM SET max_worker_processes = {}; -- and restart the server",
                processes.saturating_add(more)
            )
        }
        Cause::OriginsExhausted => {
            let (setting, value) = case.subscription.origin_limit.as_ref()?;
            format!(
                "ALTER SYSTEM SET {} = {}; -- and restart the server",
                identifier(setting),
                value.saturating_mul(2).max(10)
            )
        }
        Cause::LauncherMissing => {
            "-- restart the server; its log says why the launcher of replication does not run"
                .to_owned()
        }
        Cause::WalReceiverTimeout => {
            "ALTER SYSTEM SET wal_receiver_timeout = '5min';\nSELECT pg_reload_conf();".to_owned()
        }
        Cause::WalSenderTimeout => {
            "ALTER SYSTEM SET wal_sender_timeout = '5min'; -- on the publisher\n\
             SELECT pg_reload_conf(); -- on the publisher; see, too, what proxies between them do with idle connections"
                .to_owned()
        }
        Cause::PublisherSilent | Cause::RelaunchBackoff => case.call("repl_restart_worker"),
        Cause::CatchupHang => {
            "SELECT txid_current(); -- on the publisher: the next transaction lets it go on".to_owned()
        }
        Cause::SlotCreationWait => {
            "SELECT pid, usename, state, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start; \
             -- on the publisher: the slot waits for these (and for pg_prepared_xacts) to end"
                .to_owned()
        }
        Cause::PublisherOverloaded => {
            "-- on the publisher: fewer slots that decode the same WAL, a larger machine, or less that is published"
                .to_owned()
        }
        // Without the first, the second waits for the standby, too; without the last, the worker goes on waiting.
        Cause::SynchronousCommit if case.is_native() => format!(
            "SET synchronous_commit = local;\n\
             ALTER SUBSCRIPTION {} SET (synchronous_commit = 'off');\n{}",
            identifier(name),
            case.call("repl_restart_worker")
        ),
        Cause::SynchronousCommit => {
            "ALTER SYSTEM SET pglogical.synchronous_commit = off; -- and restart the server".to_owned()
        }
        Cause::ReadOnly => read_only(case),
        Cause::TablesNotSubscribed => provider.refresh(name),
        Cause::PublicationMissing => publications(case),
        _ => return None,
    })
}

/// Where the setting comes from.
fn read_only(case: Case) -> String {
    let places = case.subscription.read_only_settings.iter();
    let mut lines: Vec<String> = places
        .filter_map(|(database, role)| {
            // Whoever pastes it may be read-only, too.
            const RESET: &str = "RESET default_transaction_read_only; COMMIT;";
            let names = [database, role].into_iter().flatten();
            if names.clone().any(|name| name.contains(char::is_control)) {
                return None;
            }
            let quoted = |name: &Option<String>| name.as_deref().map(identifier);
            Some(match (quoted(database), quoted(role)) {
                (Some(database), None) => {
                    format!("BEGIN READ WRITE; ALTER DATABASE {database} {RESET}")
                }
                (Some(database), Some(role)) => {
                    format!("BEGIN READ WRITE; ALTER ROLE {role} IN DATABASE {database} {RESET}")
                }
                (None, Some(role)) => format!("BEGIN READ WRITE; ALTER ROLE {role} {RESET}"),
                (None, None) => format!("BEGIN READ WRITE; ALTER ROLE ALL {RESET}"),
            })
        })
        .collect();
    if lines.is_empty() {
        lines.push("ALTER SYSTEM SET default_transaction_read_only = off;".to_owned());
        lines.push("SELECT pg_reload_conf();".to_owned());
    }
    lines.join("\n")
}

/// A list in which each element stands for itself: quotes around the whole would make one of it.
fn output_plugins(case: Case) -> String {
    let needed = if case.is_native() {
        "pgoutput"
    } else {
        "pglogical_output"
    };
    let publisher = case.known.and_then(|known| known.publisher.as_ref());
    let allowed = publisher.and_then(|publisher| publisher.output_plugin_libraries.as_deref());
    let allowed = allowed.unwrap_or("pgoutput, test_decoding");
    let allowed = allowed.split(',').map(str::trim);
    let plugins: Vec<&str> = [needed]
        .into_iter()
        .chain(allowed.filter(|one| is_simple(one) && *one != needed))
        .collect();
    format!(
        "ALTER SYSTEM SET output_plugin_libraries = {}; -- on the publisher\n\
         SELECT pg_reload_conf(); -- on the publisher",
        plugins.join(", ")
    )
}

/// A name that needs no quotes.
fn is_simple(name: &str) -> bool {
    let mut letters = name.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_lowercase() || first == '_')
        && letters.all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_')
}

fn publications(case: Case) -> String {
    let missing = case
        .known
        .map(|known| known.publications_missing.as_slice());
    let missing = missing.unwrap_or_default().iter();
    let missing: Vec<String> = missing
        .filter(|name| !name.contains(char::is_control))
        .map(|name| identifier(name))
        .collect();
    let what = if missing.is_empty() {
        "what is missing".to_owned()
    } else {
        missing.join(", ")
    };
    let name = &case.subscription.subscription;
    let again = format!(
        "-- on the publisher, create {what} again (CREATE PUBLICATION ... FOR TABLE ...), then"
    );
    if case.is_native() && case.error.is_some() {
        // It is looked up as it was when the change was made (get_rel_sync_entry of pgoutput.c).
        let slot = case.subscription.slot_name.as_deref().unwrap_or_default();
        format!(
            "{again} start over: what was changed while it was missing cannot be sent any more\n{}\n\
             SELECT pg_drop_replication_slot({}); -- on the publisher",
            case.provider().start_over(name),
            literal(slot)
        )
    } else if case.is_native() {
        format!(
            "{again}:\n{}\n\
             -- from PostgreSQL 18 on, nothing tells of what was changed while it was missing: copy its tables again with\n\
             -- repl_resync_table()",
            case.provider().refresh(name)
        )
    } else {
        format!(
            "-- on the publisher, create {what} again (pglogical.create_replication_set, replication_set_add_table),\n\
             -- or take it out of the subscription: pglogical.alter_subscription_remove_replication_set"
        )
    }
}

#[cfg(test)]
mod tests;
