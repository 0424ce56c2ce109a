//! The states of a table's synchronization: the codes of the catalogs in words.

use pgrx::iter::TableIterator;
use pgrx::prelude::*;

/// One state of one provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyncState {
    pub(crate) provider: &'static str,
    /// As `pg_subscription_rel.srsubstate` or `pglogical.local_sync_status.sync_status` has it; empty for
    /// pglogical's `\0`.
    pub(crate) code: &'static str,
    pub(crate) state: &'static str,
    pub(crate) description: &'static str,
    /// A worker that stops in this state goes on from it by itself.
    pub(crate) resumable: bool,
}

const fn state(
    provider: &'static str,
    code: &'static str,
    state: &'static str,
    description: &'static str,
    resumable: bool,
) -> SyncState {
    SyncState {
        provider,
        code,
        state,
        description,
        resumable,
    }
}

/// Every code: of native replication those of `catalog/pg_subscription_rel.h`, of pglogical those of its
/// `pglogical_sync.h`. Codes that live only in shared memory are among them.
pub(crate) const SYNC_STATES: &[SyncState] = &[
    state(
        "native",
        "i",
        "initialize",
        "The table is waiting for its initial copy to start.",
        true,
    ),
    state(
        "native",
        "d",
        "copying data",
        "The existing rows are being copied. With no worker at work, the copy has failed and will be tried again from the start.",
        true,
    ),
    state(
        "native",
        "f",
        "copy finished",
        "The existing rows are copied and committed; changes made meanwhile are still to be applied.",
        true,
    ),
    state(
        "native",
        "w",
        "waiting to catch up",
        "The copy is done and the table's worker waits for the apply worker to say how far to catch up. Only in memory, never in the catalog.",
        true,
    ),
    state(
        "native",
        "c",
        "catching up",
        "The table's worker applies what changed during the copy. Only in memory, never in the catalog.",
        true,
    ),
    state(
        "native",
        "s",
        "synchronized",
        "The table has reached the position at which the apply worker takes over.",
        true,
    ),
    state(
        "native",
        "r",
        "ready",
        "Changes arrive through the apply worker.",
        true,
    ),
    state(
        "pglogical",
        "",
        "none",
        "No synchronization was asked for.",
        true,
    ),
    state(
        "pglogical",
        "i",
        "initialize",
        "Synchronization has been asked for and not yet started.",
        true,
    ),
    state(
        "pglogical",
        "s",
        "copying structure",
        "The definitions of tables are being copied. A subscription that stops here has to be dropped and created again.",
        false,
    ),
    state(
        "pglogical",
        "d",
        "copying data",
        "The existing rows are being copied. A subscription that stops here has to be dropped and created again; a single table starts again by itself.",
        false,
    ),
    state(
        "pglogical",
        "c",
        "creating constraints",
        "Constraints and indexes are being created after the copy. A subscription that stops here has to be dropped and created again.",
        false,
    ),
    state(
        "pglogical",
        "w",
        "waiting to catch up",
        "The copy is done and the table's worker waits for the apply worker's word.",
        true,
    ),
    state(
        "pglogical",
        "u",
        "catching up",
        "What changed during the copy is being applied.",
        true,
    ),
    state(
        "pglogical",
        "y",
        "synchronized",
        "The table is synchronized up to the given position, from which the apply worker takes over.",
        true,
    ),
    state(
        "pglogical",
        "r",
        "ready",
        "Changes arrive through the apply worker.",
        true,
    ),
];

/// `_repl_sync_states()`
#[pg_extern(sql = false)]
fn repl_sync_states() -> TableIterator<
    'static,
    (
        name!(provider, &'static str),
        name!(code, &'static str),
        name!(state, &'static str),
        name!(description, &'static str),
        name!(resumable, bool),
    ),
> {
    TableIterator::new(SYNC_STATES.iter().map(|one| {
        (
            one.provider,
            one.code,
            one.state,
            one.description,
            one.resumable,
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_code_of_a_provider_stands_twice() {
        let codes: HashSet<_> = SYNC_STATES
            .iter()
            .map(|one| (one.provider, one.code))
            .collect();
        assert_eq!(codes.len(), SYNC_STATES.len());
    }

    #[test]
    fn every_code_of_the_seed_is_there() {
        let of = |provider| -> String {
            SYNC_STATES
                .iter()
                .filter(|one| one.provider == provider)
                .map(|one| one.code)
                .collect()
        };
        assert_eq!(of("native"), "idfwcsr");
        assert_eq!(of("pglogical"), "isdcwuyr");
    }
}
