//! The server's type `name`.

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::{IntoDatum, pg_sys};

/// A value of type `name` to return from a function. (As an argument, take `&CStr`.)
pub(crate) struct Name(pub(crate) String);

impl IntoDatum for Name {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let size = pg_sys::NAMEDATALEN as usize;
        let length = self.0.len().min(size - 1);
        // SAFETY: palloc0 gives `size` zeros, of which `length` < `size` are written: a `name` is NAMEDATALEN
        // bytes, filled with zeros behind the text, at least one of them.
        unsafe {
            let name = pg_sys::palloc0(size).cast::<u8>();
            std::ptr::copy_nonoverlapping(self.0.as_ptr(), name, length);
            Some(pg_sys::Datum::from(name))
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::NAMEOID
    }
}

// SAFETY: into_datum gives a `name`, which the server's function call convention passes by its address.
unsafe impl BoxRet for Name {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum is of the type that the function is declared to return.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
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
