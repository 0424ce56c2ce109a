//! One derived column of a table: its expression, compiled, and the value that was computed last.

use super::expression::Expression;
use super::relation::Column;
use super::{error_note, raw, subtransaction};
use pgrx::pg_sys::panic::ErrorReportWithLevel;
use pgrx::varlena::{varatt_is_1b, varatt_is_1b_e, varatt_is_4b_u, vardata_any, varsize_any_exhdr};
use pgrx::{pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_int, c_void};

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

/// What a row is evaluated for, which decides which of its survived errors are reported.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Every error: the row is written as computed.
    Write,
    /// None: the row is only looked at.
    Verify,
    /// Kept for `CompiledTable::settle`, which is told when it is known what becomes of the row.
    Backfill,
}

pub(super) struct CompiledColumn {
    pub(super) trigger: pg_sys::Oid,
    pub(super) name: String,
    pub(super) index: usize,
    by_value: bool,
    length: c_int,
    pub(super) cached: *mut pg_sys::CachedExpression,
    state: *mut pg_sys::ExprState,
    description: CString,
    pub(super) null_on_error: Option<NullOnError>,
    value: Cell<pg_sys::Datum>,
    null: Cell<bool>,
    /// What the last comparison has found.
    pub(super) right: Cell<bool>,
    /// An error whose report depends on that.
    pub(super) survived: RefCell<Option<ErrorReportWithLevel>>,
}

impl CompiledColumn {
    pub(super) fn compile(plan: ColumnPlan) -> Self {
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
    #[inline]
    pub(super) unsafe fn evaluate(&self, evaluation: *mut pg_sys::ExprContext) {
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
    #[inline]
    pub(super) unsafe fn is_in(&self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: index is below the number of attributes; both values are of the column's type.
        unsafe {
            let null = *(*slot).tts_isnull.add(self.index);
            if null || self.null.get() {
                return null == self.null.get();
            }
            let value = *(*slot).tts_values.add(self.index);
            if self.length == VARLENA
                && let Some(same) =
                    same_bytes(value.cast_mut_ptr(), self.value.get().cast_mut_ptr())
            {
                return same;
            }
            raw::datum_image_eq(value, self.value.get(), self.by_value, self.length)
        }
    }

    /// Copies the result into the current memory context.
    ///
    /// # Safety
    /// The result is of the column's type.
    pub(super) unsafe fn keep_value(&self) {
        if !self.null.get() {
            // SAFETY: the caller's promise.
            let kept = unsafe { raw::datumCopy(self.value.get(), self.by_value, self.length) };
            self.value.set(kept);
        }
    }

    /// # Safety
    /// Every value of the slot is there.
    pub(super) unsafe fn swap_with(&self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: index is below the number of attributes.
        unsafe {
            let value = (*slot).tts_values.add(self.index);
            let null = (*slot).tts_isnull.add(self.index);
            *value = self.value.replace(*value);
            *null = self.null.replace(*null);
        }
    }
}

/// `pg_type.typlen` of types whose values have a header with their length.
const VARLENA: c_int = -1;

/// What `datum_image_eq` finds for two values that lie there plainly, neither compressed nor elsewhere; `None` for others.
/// Comparing is a good part of what a row costs that is right.
///
/// # Safety
/// Both are values of a type of variable length.
unsafe fn same_bytes(left: *const pg_sys::varlena, right: *const pg_sys::varlena) -> Option<bool> {
    // SAFETY: the caller's promise; a plain value has as many bytes behind its header as the header says.
    unsafe {
        let is_plain =
            |value| varatt_is_4b_u(value) || (varatt_is_1b(value) && !varatt_is_1b_e(value));
        if !is_plain(left) || !is_plain(right) {
            return None;
        }
        let bytes = |value| {
            std::slice::from_raw_parts(vardata_any(value).cast::<u8>(), varsize_any_exhdr(value))
        };
        Some(bytes(left) == bytes(right))
    }
}

/// Evaluates in a subtransaction; an error that the row brought about becomes NULL.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn evaluate_or_null(
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
pub(super) unsafe extern "C-unwind" fn describe_column(argument: *mut c_void) {
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
