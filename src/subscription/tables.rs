//! The tables of the subscriptions, and the processes that replicate: queries put together from the providers' parts.

use super::provider;
use crate::error::Error;
use crate::pg::board::{self, Part};
use crate::pg::spi;

/// What the worker has laid out about tables ([`KnownTables`](super::known::KnownTables)), as JSON.
pub(super) fn known() -> String {
    let known = board::read(Part::Tables).and_then(|text| String::from_utf8(text).ok());
    known.unwrap_or_else(|| "{}".to_owned())
}

/// A query for the tables of all providers that are there ([`Provider::tables`](provider::Provider::tables)).
pub(crate) fn base() -> Result<String, Error> {
    let (schema, _) = spi::extension()?;
    let schema = pgrx::spi::quote_identifier(schema);
    let parts: Vec<String> = provider::present()?
        .into_iter()
        .map(|provider| {
            format!(
                "select provider, id, schema_name::text, table_name::text, code, relation, pid, is_subscribed from {schema}.{}",
                provider.tables()
            )
        })
        .collect();
    Ok(parts.join(" union all "))
}

/// For the rows of `repl_workers`.
pub(super) fn workers_query() -> Result<String, Error> {
    let parts: Vec<String> = provider::present()?
        .into_iter()
        .map(|provider| format!("({})", provider.workers()))
        .collect();
    let base = parts.join("\nunion all\n");
    Ok(include_str!("sql/workers.sql").replace("{workers}", &base))
}
