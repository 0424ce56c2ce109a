//! Tables of this extension, and statements on them with the rights of its owner.

use super::session::{self, ORDINARY_TRIGGERS, SAFE_SEARCH_PATH};
use super::spi;
use crate::error::Error;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

/// Where they are in this database.
pub(crate) struct OwnTables {
    /// Quoted.
    pub(crate) schema: String,
    owner: pg_sys::Oid,
    /// System identifier and database: what rows of another origin (a dump, a copied database, the old server of pg_upgrade)
    /// say of positions, processes and OIDs means nothing.
    pub(crate) origin: String,
}

const FIND: &str = "
select pg_catalog.quote_ident(n.nspname), e.extowner,
       (select s.system_identifier from pg_catalog.pg_control_system() s) || '/' || d.oid,
       array(select c.oid from pg_catalog.unnest($1) with ordinality as t (name, place)
               join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.name
              order by t.place)
  from pg_catalog.pg_extension e
  join pg_catalog.pg_namespace n on n.oid = e.extnamespace
  join pg_catalog.pg_database d on d.datname = pg_catalog.current_database()
 where e.extname = 'replwarden'";

impl OwnTables {
    /// With their OIDs. Error `NotInstalled` where the extension is not there (any more).
    pub(crate) fn find<const N: usize>(
        names: [&str; N],
    ) -> Result<(Self, [pg_sys::Oid; N]), Error> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let found = spi::query_kept(FIND, &[names.into()], |row| {
            let tables = Self {
                schema: spi::required(row, 1)?,
                owner: spi::required(row, 2)?,
                origin: spi::required(row, 3)?,
            };
            Ok((tables, spi::required::<Vec<pg_sys::Oid>>(row, 4)?))
        })?;
        let found = found.into_iter().next();
        found
            .and_then(|(tables, oids)| Some((tables, oids.try_into().ok()?)))
            .ok_or(Error::NotInstalled)
    }

    /// Runs a statement in which `{schema}` stands for that of the extension, with the rights of its owner and under a new
    /// snapshot. Not as replication would: the tables ignore what replication brings.
    pub(crate) fn query<T>(
        &self,
        sql: &str,
        arguments: &[DatumWithOid],
        row: impl Fn(&SpiHeapTupleData) -> SpiResult<T>,
    ) -> Result<Vec<T>, Error> {
        let sql = self.filled(sql);
        session::with_settings(&[ORDINARY_TRIGGERS, SAFE_SEARCH_PATH], || {
            session::as_role(self.owner, || spi::query_kept(&sql, arguments, row))
        })
    }

    /// A statement whose rows nobody wants; says how many there are.
    pub(crate) fn run(&self, sql: &str, arguments: &[DatumWithOid]) -> Result<usize, Error> {
        Ok(self.query(sql, arguments, |_| Ok(()))?.len())
    }

    pub(crate) fn filled(&self, sql: &str) -> String {
        sql.replace("{schema}", &self.schema)
    }
}
