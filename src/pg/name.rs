//! The server's type `name`.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};

/// A value of type `name` to return from a function. (As an argument, take `&CStr`.)
pub(crate) struct Name(pub(crate) String);

// SAFETY: a `name` is NAMEDATALEN bytes, filled with zeros behind the text, at least one of them.
unsafe impl BoxRet for Name {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let size = pg_sys::NAMEDATALEN as usize;
        let length = self.0.len().min(size - 1);
        // SAFETY: palloc0 gives `size` zeros, of which `length` < `size` are written.
        unsafe {
            let name = pg_sys::palloc0(size).cast::<u8>();
            std::ptr::copy_nonoverlapping(self.0.as_ptr(), name, length);
            fcinfo.return_raw_datum(pg_sys::Datum::from(name))
        }
    }
}

// SAFETY: only says which SQL type it is.
unsafe impl SqlTranslatable for Name {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Name);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("name"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("name")));
}
