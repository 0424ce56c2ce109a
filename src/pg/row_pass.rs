//! One pass over rows of a table in the order of their places, which brings up those that are wrong.
//!
//! Below SQL, for three reasons. An UPDATE waits for a row that somebody else has locked, holding the rows that it has
//! changed already; here such a row is left alone (`table_tuple_update` without waiting), so that replication never
//! waits for more than the batch that is under way. An UPDATE would compute every row twice, to find it and in the row
//! trigger. And a table with a BEFORE trigger locks each row before it updates it.

use super::compiled::CompiledTable;
use super::relation::Relation;
use super::tid::Tid;
use super::{raw, version};
use pgrx::pg_sys;

/// Why a stretch of rows has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StretchEnd {
    /// There are no more rows.
    End,
    /// As many as were asked for, or one that the caller has to look at: what became of the last one.
    Row(RowResult),
}

/// What a pass has done so far.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) scanned: i64,
    pub(crate) changed: i64,
    /// The row that it is at, also after an error.
    pub(crate) place: Option<Tid>,
}

/// What became of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RowResult {
    /// Every derived column is as its rule says.
    Right,
    /// It was wrong, and now has a new version.
    Changed,
    /// It is wrong and stays so: the pass only looks.
    Wrong,
    /// It is wrong, and somebody else has it locked or is changing it.
    Locked,
    /// Somebody else has changed or deleted it meanwhile.
    Gone,
}

/// What a pass does with a row that is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowPassMode {
    /// Writes a new version, as an UPDATE for which no trigger fires.
    Update,
    /// Only tells.
    Look,
}

pub(crate) struct RowPass<'a> {
    relation: &'a Relation,
    counted_since: pg_sys::TransactionId,
    mode: RowPassMode,
    scan: pg_sys::TableScanDesc,
    slot: *mut pg_sys::TupleTableSlot,
    fresh: *mut pg_sys::TupleTableSlot,
    state: *mut pg_sys::EState,
    result: *mut pg_sys::ResultRelInfo,
}

impl<'a> RowPass<'a> {
    /// From a place to another one, both included, under the active snapshot.
    ///
    /// Of rows that are NULL because their expression fails, those are counted that a transaction before `counted_since` has
    /// written.
    ///
    /// The relation has no stored generated column; in mode `Update`, the caller holds its `RowExclusiveLock`.
    pub(crate) fn begin(
        relation: &'a Relation,
        from: Tid,
        to: Tid,
        mode: RowPassMode,
        counted_since: pg_sys::TransactionId,
    ) -> Self {
        let (mut first, mut last) = (from.to_server(), to.to_server());
        // SAFETY: the relation is open and locked, and outlives the pass; all that is made here lives in the
        // executor state's memory or is freed on drop, or by the abort of the transaction.
        unsafe {
            let rel = relation.as_ptr();
            let snapshot = pg_sys::GetActiveSnapshot();
            // A large table must not push everything else out of the shared buffers: hence SO_ALLOW_STRAT, which
            // table_beginscan_tidrange does not set.
            let flags = pg_sys::ScanOptions::SO_TYPE_TIDRANGESCAN
                | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE
                | pg_sys::ScanOptions::SO_ALLOW_STRAT;
            let methods = &*(*rel).rd_tableam;
            let scan = pg_sys::ffi::pg_guard_ffi_boundary(|| {
                let no_keys = std::ptr::null_mut();
                let scan = match methods.scan_begin {
                    Some(begin) => begin(rel, snapshot, 0, no_keys, std::ptr::null_mut(), flags),
                    None => std::ptr::null_mut(),
                };
                if let Some(set_range) = methods.scan_set_tidrange {
                    set_range(scan, &raw mut first, &raw mut last);
                }
                scan
            });
            let state = pg_sys::CreateExecutorState();
            let result = pg_sys::MemoryContextAllocZero(
                (*state).es_query_cxt,
                size_of::<pg_sys::ResultRelInfo>(),
            )
            .cast::<pg_sys::ResultRelInfo>();
            (*result).type_ = pg_sys::NodeTag::T_ResultRelInfo;
            // Makes the per-tuple context that the server's macros make on first use.
            pg_sys::MakePerTupleExprContext(state);
            // No range table entry: as CatalogOpenIndexes of catalog/indexing.c.
            pg_sys::InitResultRelInfo(result, rel, 0, std::ptr::null_mut(), 0);
            if mode == RowPassMode::Update {
                pg_sys::CheckCmdReplicaIdentity(rel, pg_sys::CmdType::CMD_UPDATE);
                pg_sys::ExecOpenIndices(result, false);
            }
            Self {
                relation,
                counted_since,
                mode,
                scan,
                slot: pg_sys::table_slot_create(rel, std::ptr::null_mut()),
                fresh: pg_sys::MakeSingleTupleTableSlot(
                    (*rel).rd_att,
                    &raw const pg_sys::TTSOpsVirtual,
                ),
                state,
                result,
            }
        }
    }

    /// Goes on by up to `most` rows, at least one, and deals with them. Ends early at a row that is locked or wrong.
    ///
    /// Several at once, because going in and out of the server's error handling costs as much as reading a row.
    pub(crate) fn stretch(
        &mut self,
        rules: &CompiledTable,
        most: u32,
        tally: &mut Tally,
    ) -> StretchEnd {
        // SAFETY: nothing that has a destructor is alive where the server may raise: settle, which has some inside, calls
        // nothing that raises. The per-tuple memory holds nothing of an earlier row.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                let memory = (*(*self.state).es_per_tuple_exprcontext).ecxt_per_tuple_memory;
                let caller = pg_sys::CurrentMemoryContext;
                let mut left = most;
                loop {
                    if pg_sys::InterruptPending != 0 {
                        raw::ProcessInterrupts();
                    }
                    if !self.fetch() {
                        return StretchEnd::End;
                    }
                    tally.place = Some(Tid::from_server(&(*self.slot).tts_tid));
                    tally.scanned += 1;
                    left -= 1;
                    let result = if !rules.is_wrong(self.slot) {
                        RowResult::Right
                    } else if self.mode == RowPassMode::Look {
                        RowResult::Wrong
                    } else {
                        pg_sys::CurrentMemoryContext = memory;
                        let result = self.update(rules);
                        pg_sys::CurrentMemoryContext = caller;
                        raw::MemoryContextReset(memory);
                        result
                    };
                    rules.reset();
                    // Whoever wrote a younger version has counted it; an UPDATE has the row trigger count.
                    rules.settle(match result {
                        RowResult::Changed => true,
                        RowResult::Right => rules.counts_failures() && self.is_old(),
                        RowResult::Wrong | RowResult::Locked | RowResult::Gone => false,
                    });
                    match result {
                        RowResult::Locked | RowResult::Wrong => return StretchEnd::Row(result),
                        RowResult::Changed => tally.changed += 1,
                        RowResult::Right | RowResult::Gone => {}
                    }
                    if left == 0 {
                        return StretchEnd::Row(result);
                    }
                }
            })
        }
    }

    /// The row in `slot` was written before the transaction `counted_since`.
    ///
    /// # Safety
    /// As for `fetch`; the slot holds a row.
    unsafe fn is_old(&self) -> bool {
        // SAFETY: the slot of a heap table is a BufferHeapTupleTableSlot, which begins with a HeapTupleTableSlot; its tuple
        // is there while the slot holds a row. As HeapTupleHeaderGetXmin and TransactionIdPrecedes.
        unsafe {
            if !std::ptr::eq(
                (*self.slot).tts_ops,
                &raw const pg_sys::TTSOpsBufferHeapTuple,
            ) {
                return true;
            }
            let header = &*(*(*self.slot.cast::<pg_sys::HeapTupleTableSlot>()).tuple).t_data;
            let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
            let xmin = header.t_choice.t_heap.t_xmin.into_inner();
            header.t_infomask & frozen == frozen
                || xmin < pg_sys::FirstNormalTransactionId.into_inner()
                || (xmin
                    .wrapping_sub(self.counted_since.into_inner())
                    .cast_signed())
                    < 0
        }
    }

    /// The next row, into `slot`.
    ///
    /// # Safety
    /// Errors leave by `longjmp`.
    unsafe fn fetch(&self) -> bool {
        // SAFETY: a table's access method; `table_scan_getnextslot_tidrange` of access/tableam.h is inline there.
        unsafe {
            let methods = &*(*self.relation.as_ptr()).rd_tableam;
            let forward = pg_sys::ScanDirection::ForwardScanDirection;
            match methods.scan_getnextslot_tidrange {
                Some(next) => next(self.scan, forward, self.slot),
                None => false,
            }
        }
    }

    /// Writes a new version of the row in `slot`, as ExecUpdate does it for a table without triggers, but for not
    /// waiting.
    ///
    /// # Safety
    /// `rules` have just evaluated the row; errors leave by `longjmp`.
    unsafe fn update(&self, rules: &CompiledTable) -> RowResult {
        // SAFETY: as in ExecUpdate of executor/nodeModifyTable.c. The command id is that of the snapshot or a later
        // one, so that the scan does not meet the new versions.
        unsafe {
            let rel = self.relation.as_ptr();
            if let Some(clear) = (*(*self.fresh).tts_ops).clear {
                clear(self.fresh);
            }
            rules.store_into(self.slot, self.fresh);
            (*self.fresh).tts_tableOid = (*rel).rd_id;
            if !(*(*rel).rd_att).constr.is_null() {
                raw::ExecConstraints(self.result, self.fresh, self.state);
            }
            let mut failure = pg_sys::TM_FailureData::default();
            let mut lock_mode: pg_sys::LockTupleMode::Type = 0;
            let mut indexes = version::IndexesToUpdate::default();
            let Some(update) = (*(*rel).rd_tableam).tuple_update else {
                return RowResult::Gone;
            };
            let done = update(
                rel,
                &raw mut (*self.slot).tts_tid,
                self.fresh,
                raw::GetCurrentCommandId(true),
                pg_sys::GetActiveSnapshot(),
                std::ptr::null_mut(),
                false,
                &raw mut failure,
                &raw mut lock_mode,
                &raw mut indexes,
            );
            match done {
                pg_sys::TM_Result::TM_Ok => {
                    if (*self.result).ri_NumIndices > 0 {
                        version::insert_index_entries(self.result, self.fresh, self.state, indexes);
                    }
                    RowResult::Changed
                }
                pg_sys::TM_Result::TM_BeingModified | pg_sys::TM_Result::TM_WouldBlock => {
                    RowResult::Locked
                }
                _ => RowResult::Gone,
            }
        }
    }
}

impl Drop for RowPass<'_> {
    fn drop(&mut self) {
        // After an error the transaction is about to be aborted, which frees all of it.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: each was made in begin and is freed once.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.fresh);
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::table_endscan(self.scan);
            if self.mode == RowPassMode::Update {
                pg_sys::ExecCloseIndices(self.result);
            }
            pg_sys::FreeExecutorState(self.state);
        }
    }
}
