//! A query's rows as the rows of the function that runs it, without a detour: for functions that return thousands.

use super::raw;
use crate::error::Error;
use pgrx::{IntoDatum, pg_sys};
use std::ffi::{CStr, CString};

/// Runs a query, whose columns are of the types that the function declares, and makes its rows those of the call: a
/// set-returning function in materialize mode, as `InitMaterializedSRF` of `utils/fmgr/funcapi.c` has it. Parameters are
/// of type text.
///
/// # Safety
/// `call` comes from the server.
unsafe fn materialize(
    call: pg_sys::FunctionCallInfo,
    sql: &CStr,
    parameters: &[String],
) -> pg_sys::Datum {
    // SAFETY: the node's tag is checked before it is taken for a ReturnSetInfo. The store and its descriptor live in the
    // context of the query that calls; SPI puts each row into the store, which copies it.
    unsafe {
        let info = (*call).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        if info.is_null()
            || (*info).type_ != pg_sys::NodeTag::T_ReturnSetInfo
            || (*info).allowedModes & pg_sys::SetFunctionReturnMode::SFRM_Materialize as i32 == 0
        {
            pgrx::ereport!(
                ERROR,
                pgrx::PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                "set-valued function called in context that cannot accept a set",
                "Call it in the FROM clause of a query."
            );
        }
        let caller = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = (*(*info).econtext).ecxt_per_query_memory;
        let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
        let descriptor = pg_sys::CreateTupleDescCopy((*info).expectedDesc);
        (*info).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
        (*info).setResult = store;
        (*info).setDesc = descriptor;
        let store_context = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = caller;

        pg_sys::SPI_connect();
        let list = pg_sys::makeParamList(i32::try_from(parameters.len()).unwrap_or(0));
        let places = (*list).params.as_mut_slice(parameters.len());
        for (place, parameter) in places.iter_mut().zip(parameters) {
            let value = parameter.as_str().into_datum();
            place.isnull = value.is_none();
            place.value = value.unwrap_or(pg_sys::Datum::null());
            place.pflags = pg_sys::PARAM_FLAG_CONST as u16;
            place.ptype = pg_sys::TEXTOID;
        }
        let receiver = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            let receiver = raw::CreateTuplestoreDestReceiver();
            raw::SetTuplestoreDestReceiverParams(
                receiver,
                store,
                store_context,
                false,
                descriptor,
                c"a query of replwarden does not fit its function".as_ptr(),
            );
            receiver
        });
        let options = pg_sys::SPIExecuteOptions {
            params: list,
            read_only: true,
            dest: receiver,
            ..Default::default()
        };
        pg_sys::SPI_execute_extended(sql.as_ptr(), &raw const options);
        if let Some(destroy) = (*receiver).rDestroy {
            destroy(receiver);
        }
        pg_sys::SPI_finish();
        (*call).isnull = true;
    }
    pg_sys::Datum::null()
}

/// As `materialize`, or the error raised that kept the query from being made.
///
/// # Safety
/// `call` comes from the server.
pub(crate) unsafe fn answer(
    call: pg_sys::FunctionCallInfo,
    query: Result<(String, Vec<String>), Error>,
) -> pg_sys::Datum {
    match query {
        Ok((sql, parameters)) => {
            let sql = CString::new(sql).unwrap_or_default();
            // SAFETY: the caller's promise.
            unsafe { materialize(call, &sql, &parameters) }
        }
        Err(error) => error.raise(),
    }
}

/// Defines a function in C whose rows are those of the query, with its parameters, that `$query` makes.
macro_rules! result_set {
    ($(#[$comment:meta])* $name:ident, $finfo:ident, $query:expr) => {
        $(#[$comment])*
        #[allow(unsafe_code)]
        #[pgrx::pg_guard]
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name(
            call: pgrx::pg_sys::FunctionCallInfo,
        ) -> pgrx::pg_sys::Datum {
            // SAFETY: called by the server.
            unsafe { $crate::pg::result_set::answer(call, $query()) }
        }
        $crate::pg::version_1!($finfo);
    };
}
pub(crate) use result_set;
