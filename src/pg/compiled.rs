//! The expressions of one table, compiled once and evaluated for every row.

use super::expression::{Expression, Refusal, refusable};
use super::relation::Column;
use super::{error_note, raw, subtransaction};
use pgrx::pg_sys::panic::ErrorReportWithLevel;
use pgrx::{PgMemoryContexts, pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_int, c_void};

/// Owns what the server needs to compute the derived columns of one table: plan trees that the server's plan
/// cache keeps an eye on (`GetCachedExpression`), executable states, and the memory of both.
pub(crate) struct CompiledTable {
    memory: pg_sys::MemoryContext,
    evaluation: *mut pg_sys::ExprContext,
    columns: Vec<CompiledColumn>,
    usable: Cell<bool>,
    traits: Traits,
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

/// One expression to compile.
pub(crate) struct ColumnPlan {
    pub(crate) trigger: pg_sys::Oid,
    pub(crate) attnum: i16,
    pub(crate) column: Column,
    /// Already of the column's type.
    pub(crate) expression: Expression,
    /// Said in the CONTEXT of an error that the expression raises.
    pub(crate) description: CString,
    /// `None`: an error of the expression is the statement's error.
    pub(crate) null_on_error: Option<NullOnError>,
}

/// How a column that may become NULL instead of failing treats an error.
#[derive(Clone, Copy)]
pub(crate) struct NullOnError {
    /// The error is one that this row brought about.
    pub(crate) survivable: fn(&ErrorReportWithLevel) -> bool,
    /// Hears of an error survived.
    pub(crate) survived: fn(trigger: pg_sys::Oid, error: &ErrorReportWithLevel),
}

struct CompiledColumn {
    trigger: pg_sys::Oid,
    name: String,
    index: usize,
    by_value: bool,
    length: c_int,
    cached: *mut pg_sys::CachedExpression,
    state: *mut pg_sys::ExprState,
    description: CString,
    null_on_error: Option<NullOnError>,
    value: Cell<pg_sys::Datum>,
    null: Cell<bool>,
    /// What the last comparison has found.
    right: Cell<bool>,
    /// An error whose report depends on that.
    survived: RefCell<Option<ErrorReportWithLevel>>,
}

/// What a row is evaluated for, which decides which of its survived errors are reported.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Every error: the row is written as computed.
    Write,
    /// None: the row is only looked at.
    Verify,
    /// Those of a row that is right: NULL already. One that is not is going to be written.
    Backfill,
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
        let mut table = Self {
            memory,
            evaluation: std::ptr::null_mut(),
            columns: Vec::with_capacity(plans.len()),
            usable: Cell::new(true),
            traits,
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
    pub(crate) unsafe fn wrong_columns(
        &self,
        slot: *mut pg_sys::TupleTableSlot,
        purpose: Purpose,
    ) -> Vec<i16> {
        // SAFETY: nothing in the guarded block has a destructor.
        unsafe {
            pg_sys::ffi::pg_guard_ffi_boundary(|| {
                self.evaluate(slot, purpose);
                for column in &self.columns {
                    column.right.set(column.is_in(slot));
                }
                self.reset();
            });
        }
        let wrong = self.columns.iter().filter(|column| !column.right.get());
        let wrong: Vec<i16> = wrong.map(|column| column.index as i16 + 1).collect();
        for column in &self.columns {
            let error = column.survived.take();
            if let (true, Some(policy), Some(error)) =
                (wrong.is_empty(), column.null_on_error, error)
            {
                (policy.survived)(column.trigger, &error);
            }
        }
        wrong
    }

    /// # Safety
    /// As for `compute`.
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

            raw::slot_getallattrs(slot);
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
    /// As for `compute`; every value of the slot is there.
    unsafe fn form(
        &self,
        tuple: pg_sys::HeapTuple,
        slot: *mut pg_sys::TupleTableSlot,
    ) -> pg_sys::HeapTuple {
        // SAFETY: a derived column's index is below the number of the slot's attributes.
        unsafe {
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
    unsafe fn reset(&self) {
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

impl CompiledColumn {
    fn compile(plan: ColumnPlan) -> Self {
        // SAFETY: the expression is analysed and of the column's type; GetCachedExpression plans a copy and
        // keeps it; the state is made in the table's memory, the current context.
        unsafe {
            let cached = pg_sys::GetCachedExpression(plan.expression.as_node());
            let state = pg_sys::ExecInitExpr((*cached).expr.cast(), std::ptr::null_mut());
            Self {
                trigger: plan.trigger,
                name: plan.column.name,
                index: plan.attnum as usize - 1,
                by_value: plan.column.by_value,
                length: c_int::from(plan.column.length),
                cached,
                state,
                description: plan.description,
                null_on_error: plan.null_on_error,
                value: Cell::new(pg_sys::Datum::null()),
                null: Cell::new(true),
                right: Cell::new(true),
                survived: RefCell::new(None),
            }
        }
    }

    /// # Safety
    /// As for `CompiledTable::compute`.
    unsafe fn evaluate(&self, evaluation: *mut pg_sys::ExprContext) {
        // SAFETY: ExecInitExpr always sets evalfunc; this is ExecEvalExpr of executor/executor.h.
        unsafe {
            let mut null = false;
            if let Some(evaluate) = (*self.state).evalfunc {
                self.value.set(evaluate(self.state, evaluation, &mut null));
                self.null.set(null);
            }
        }
    }

    /// The slot's value is the computed one, byte for byte.
    ///
    /// # Safety
    /// Every value of the slot is there.
    unsafe fn is_in(&self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: index is below the number of attributes; both values are of the column's type.
        unsafe {
            let null = *(*slot).tts_isnull.add(self.index);
            if null || self.null.get() {
                return null == self.null.get();
            }
            let value = *(*slot).tts_values.add(self.index);
            raw::datum_image_eq(value, self.value.get(), self.by_value, self.length)
        }
    }

    /// Copies the result into the current memory context.
    ///
    /// # Safety
    /// The result is of the column's type.
    unsafe fn keep_value(&self) {
        if !self.null.get() {
            // SAFETY: the caller's promise.
            let kept = unsafe { raw::datumCopy(self.value.get(), self.by_value, self.length) };
            self.value.set(kept);
        }
    }

    /// # Safety
    /// Every value of the slot is there.
    unsafe fn swap_with(&self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: index is below the number of attributes.
        unsafe {
            let value = (*slot).tts_values.add(self.index);
            let null = (*slot).tts_isnull.add(self.index);
            *value = self.value.replace(*value);
            *null = self.null.replace(*null);
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

/// Evaluates in a subtransaction; an error that the row brought about becomes NULL.
#[pg_guard]
unsafe extern "C-unwind" fn evaluate_or_null(
    column: *const CompiledColumn,
    evaluation: *mut pg_sys::ExprContext,
    purpose: Purpose,
) {
    // SAFETY: called by `evaluate` with a column of a live table.
    let column = unsafe { &*column };
    let Some(policy) = column.null_on_error else {
        return;
    };
    let outcome = subtransaction::run(policy.survivable, || {
        // SAFETY: nothing in the guarded block has a destructor.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| column.evaluate(evaluation)) }
    });
    if let Err(error) = outcome {
        column.null.set(true);
        match purpose {
            Purpose::Write => (policy.survived)(column.trigger, &error),
            Purpose::Verify => {}
            Purpose::Backfill => {
                column.survived.replace(Some(error));
            }
        }
    }
}

/// The line of CONTEXT that says which derived column an error belongs to.
unsafe extern "C-unwind" fn describe_column(argument: *mut c_void) {
    // SAFETY: the argument is `current` of the `evaluate` that is under way; errcontext_msg copies the text.
    unsafe {
        let column = (*argument.cast::<Cell<*const CompiledColumn>>()).get();
        if !column.is_null() {
            raw::set_errcontext_domain(std::ptr::null());
            raw::errcontext_msg(c"%s".as_ptr(), (*column).description.as_ptr());
            error_note::note(&(*column).name, (*column).description.clone());
        }
    }
}
