//! The expressions of one table, compiled once and evaluated for every row.

use super::compiled_column::{CompiledColumn, Purpose, describe_column, evaluate_or_null};
use super::expression::{Refusal, refusable};
use super::raw;
use pgrx::{PgMemoryContexts, pg_sys};
use std::cell::Cell;
use std::ffi::c_int;

pub(crate) use super::compiled_column::{ColumnPlan, NullOnError};

/// Owns what the server needs to compute the derived columns of one table: plan trees that the server's plan
/// cache keeps an eye on (`GetCachedExpression`), executable states, and the memory of both.
pub(crate) struct CompiledTable {
    memory: pg_sys::MemoryContext,
    evaluation: *mut pg_sys::ExprContext,
    columns: Vec<CompiledColumn>,
    usable: Cell<bool>,
    traits: Traits,
    counts_failures: bool,
    /// How many attributes of a row have to be taken apart to compare the derived columns.
    attributes: c_int,
    /// Nesting level of the transaction in which an evaluation is under way; 0: none is.
    evaluating_at: Cell<c_int>,
}

/// What else there is to know of compiled expressions: when they are stale beyond what the plan cache watches, and how
/// their results may be handed over.
#[derive(Clone, Copy)]
pub(crate) struct Traits {
    /// The constraints of some domain are part of what is compiled.
    pub(crate) checks_domain: bool,
    /// Some function or operator is not the server's own.
    pub(crate) calls_user_function: bool,
    /// No other trigger looks at the row after this one.
    pub(crate) fires_last: bool,
}

impl CompiledTable {
    /// An error names the column whose expression the server refused to prepare, for want of a right to execute a
    /// function for one.
    pub(crate) fn compile(
        plans: Vec<ColumnPlan>,
        traits: Traits,
    ) -> Result<Self, (String, Refusal)> {
        // SAFETY: the context is a child of the one that lives as long as the backend, and is deleted on drop.
        let memory = unsafe {
            pg_sys::AllocSetContextCreateExtended(
                pg_sys::CacheMemoryContext,
                c"replwarden rules".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        };
        let attributes = plans.iter().map(|plan| c_int::from(plan.attnum)).max();
        let mut table = Self {
            memory,
            evaluation: std::ptr::null_mut(),
            columns: Vec::with_capacity(plans.len()),
            usable: Cell::new(true),
            traits,
            counts_failures: plans.iter().any(|plan| plan.null_on_error.is_some()),
            attributes: attributes.unwrap_or(0),
            evaluating_at: Cell::new(0),
        };
        // SAFETY: states and evaluation context are made in `memory`, which the table owns.
        unsafe {
            PgMemoryContexts::For(memory).switch_to(|_| {
                table.evaluation = pg_sys::CreateStandaloneExprContext();
                for plan in plans {
                    let name = plan.column.name.clone();
                    let column = refusable(|| CompiledColumn::compile(plan))
                        .map_err(|refusal| (name, refusal))?;
                    table.columns.push(column);
                }
                Ok(())
            })?;
        }
        Ok(table)
    }

    /// Nothing that the expressions depend on has changed since.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        self.usable.get()
            && self.columns.iter().all(|column| {
                // SAFETY: the plan cache keeps the cached expression until it is freed on drop.
                unsafe { (*column.cached).is_valid }
            })
    }

    pub(crate) fn traits(&self) -> Traits {
        self.traits
    }

    pub(crate) fn mark_unusable(&self) {
        self.usable.set(false);
    }

    /// An evaluation was under way at this nesting level of the transaction or inside it: it has come to an
    /// end with an error, and what it left in the states is not to be trusted.
    pub(crate) fn evaluation_aborted(&self, level: c_int) {
        if self.evaluating_at.get() >= level {
            self.evaluating_at.set(0);
            self.mark_unusable();
        }
    }

    /// The states cannot be entered a second time: an expression calls a function that writes to its own table.
    #[inline]
    pub(crate) fn is_evaluating(&self) -> bool {
        self.evaluating_at.get() != 0
    }

    /// Makes every derived column of the row as its expression says, and gives the tuple for the trigger to
    /// return: `tuple` itself when it is so already or when the slot could be changed in place, else a new one in the
    /// current memory context.
    ///
    /// An apply worker brings its row in a virtual slot, of which `tuple` is a copy, made for triggers to look at.
    /// ExecBRInsertTriggers goes on with the slot, into which it unpacks the tuple that a trigger returns,
    /// unless that is the one it was given. So the last trigger can spare the forming and the unpacking of a tuple and
    /// write its values where they would end up, with the same lifetime: the current memory context.
    ///
    /// # Safety
    /// `tuple` and `slot` hold the same row of the relation that was compiled. An error of an expression
    /// leaves by `longjmp`: no caller up to the server's handler owns anything with a destructor, unless the
    /// call stands inside `pg_guard_ffi_boundary`.
    pub(crate) unsafe fn compute(
        &self,
        tuple: pg_sys::HeapTuple,
        slot: *mut pg_sys::TupleTableSlot,
    ) -> pg_sys::HeapTuple {
        // SAFETY: the caller's promise; results of the expressions live until the reset at the end.
        unsafe {
            self.evaluate(slot, Purpose::Write);
            let result = if self.columns.iter().all(|column| column.is_in(slot)) {
                tuple
            } else if self.traits.fires_last && is_virtual(slot) {
                for column in &self.columns {
                    column.keep_value();
                    column.swap_with(slot);
                }
                tuple
            } else {
                self.form(tuple, slot)
            };
            self.reset();
            result
        }
    }

    /// Numbers of the derived columns of the row that are not as their expressions say.
    ///
    /// # Safety
    /// `slot` holds a row of the relation that was compiled.
    pub(crate) unsafe fn wrong_columns(&self, slot: *mut pg_sys::TupleTableSlot) -> Vec<i16> {
        // SAFETY: nothing in the guarded block has a destructor.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                self.evaluate(slot, Purpose::Verify);
                for column in &self.columns {
                    column.right.set(column.is_in(slot));
                }
                self.reset();
            });
        }
        let wrong = self.columns.iter().filter(|column| !column.right.get());
        wrong.map(|column| column.index as i16 + 1).collect()
    }

    /// Some column becomes NULL where its expression fails.
    #[inline]
    pub(super) fn counts_failures(&self) -> bool {
        self.counts_failures
    }

    /// After an evaluation for `Purpose::Backfill`: reports the errors survived, or forgets them.
    #[inline]
    pub(super) fn settle(&self, report: bool) {
        if self.counts_failures {
            self.settle_survived(report);
        }
    }

    fn settle_survived(&self, report: bool) {
        for column in self
            .columns
            .iter()
            .filter(|column| column.null_on_error.is_some())
        {
            let error = column.survived.take();
            if let (true, Some(policy), Some(error)) = (report, column.null_on_error, error) {
                (policy.survived)(column.trigger, &error);
            }
        }
    }

    /// Evaluates the row; true if some derived column is not as its expression says. What was computed is there until
    /// `reset`.
    ///
    /// # Safety
    /// As for `compute`, for the row in `slot`.
    #[inline]
    pub(super) unsafe fn is_wrong(&self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            self.evaluate(slot, Purpose::Backfill);
            !self.columns.iter().all(|column| column.is_in(slot))
        }
    }

    /// Puts the row as it should be, which `is_wrong` has computed, into `fresh`, an empty virtual slot of the same
    /// descriptor. It points into `slot` and is good until `reset`.
    ///
    /// # Safety
    /// As for `compute`.
    pub(super) unsafe fn store_into(
        &self,
        slot: *mut pg_sys::TupleTableSlot,
        fresh: *mut pg_sys::TupleTableSlot,
    ) {
        // SAFETY: both slots have room for the attributes of their descriptor.
        unsafe {
            raw::slot_getallattrs(slot);
            let attributes = (*(*slot).tts_tupleDescriptor).natts as usize;
            std::ptr::copy_nonoverlapping((*slot).tts_values, (*fresh).tts_values, attributes);
            std::ptr::copy_nonoverlapping((*slot).tts_isnull, (*fresh).tts_isnull, attributes);
            for column in &self.columns {
                column.swap_with(fresh);
            }
            raw::ExecStoreVirtualTuple(fresh);
        }
    }

    /// # Safety
    /// As for `compute`.
    #[inline]
    unsafe fn evaluate(&self, slot: *mut pg_sys::TupleTableSlot, purpose: Purpose) {
        // SAFETY: `current` and `callback` live until the callback is taken off again, or, after an error,
        // until the server's handler has done so. Memory context and slot are those of the caller.
        unsafe {
            let current: Cell<*const CompiledColumn> = Cell::new(std::ptr::null());
            let mut callback = pg_sys::ErrorContextCallback {
                previous: pg_sys::error_context_stack,
                callback: Some(describe_column),
                arg: (&raw const current).cast_mut().cast(),
            };
            pg_sys::error_context_stack = &raw mut callback;
            self.evaluating_at
                .set(raw::GetCurrentTransactionNestLevel());

            raw::slot_getsomeattrs(slot, self.attributes);
            (*self.evaluation).ecxt_scantuple = slot;
            let caller = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = (*self.evaluation).ecxt_per_tuple_memory;
            for column in &self.columns {
                current.set(column);
                if column.null_on_error.is_some() {
                    evaluate_or_null(column, self.evaluation, purpose);
                } else {
                    column.evaluate(self.evaluation);
                }
            }
            pg_sys::CurrentMemoryContext = caller;

            self.evaluating_at.set(0);
            pg_sys::error_context_stack = callback.previous;
        }
    }

    /// A new tuple of the slot's values but for the derived columns, as `heap_modify_tuple` makes it. The
    /// results stand in the slot meanwhile, which saves a copy of the whole row.
    ///
    /// # Safety
    /// As for `compute`.
    unsafe fn form(
        &self,
        tuple: pg_sys::HeapTuple,
        slot: *mut pg_sys::TupleTableSlot,
    ) -> pg_sys::HeapTuple {
        // SAFETY: a derived column's index is below the number of the slot's attributes.
        unsafe {
            raw::slot_getallattrs(slot);
            for column in &self.columns {
                column.swap_with(slot);
            }
            let formed = raw::heap_form_tuple(
                (*slot).tts_tupleDescriptor,
                (*slot).tts_values,
                (*slot).tts_isnull,
            );
            for column in &self.columns {
                column.swap_with(slot);
            }
            (*(*formed).t_data).t_ctid = (*(*tuple).t_data).t_ctid;
            (*formed).t_self = (*tuple).t_self;
            (*formed).t_tableOid = (*tuple).t_tableOid;
            formed
        }
    }

    /// # Safety
    /// No result of an expression is in use any more.
    #[inline]
    pub(super) unsafe fn reset(&self) {
        // SAFETY: as ResetExprContext, and ReScanExprContext where a function asked to be told.
        unsafe {
            if (*self.evaluation).ecxt_callbacks.is_null() {
                raw::MemoryContextReset((*self.evaluation).ecxt_per_tuple_memory);
            } else {
                pg_sys::ReScanExprContext(self.evaluation);
            }
        }
    }
}

impl Drop for CompiledTable {
    fn drop(&mut self) {
        // SAFETY: all of it was made in compile, and nothing points into it: a table that is being evaluated
        // is never dropped.
        unsafe {
            for column in &self.columns {
                pg_sys::FreeCachedExpression(column.cached);
            }
            pg_sys::MemoryContextDelete(self.memory);
        }
    }
}

/// The slot holds values, not a tuple (`TTS_IS_VIRTUAL` of `executor/tuptable.h`).
///
/// # Safety
/// `slot` is a slot.
unsafe fn is_virtual(slot: *mut pg_sys::TupleTableSlot) -> bool {
    // SAFETY: the caller's promise; the operations are compared by their address only.
    unsafe { std::ptr::eq((*slot).tts_ops, &raw const pg_sys::TTSOpsVirtual) }
}
