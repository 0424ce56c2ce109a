//! Rows that refer to nothing.

use super::book::{Book, Entry};
use crate::error::Error;
use crate::pg::session::{self, ALL_ROWS, SAFE_SEARCH_PATH};
use crate::pg::{spi, subtransaction};
use crate::subscription::quote::literal;

/// So many keys are shown.
const SHOWN: i64 = 10;

pub(super) struct Orphans {
    pub(super) number: i64,
    /// A JSON array of objects: columns of the primary key and of the foreign key.
    pub(super) keys: String,
}

/// What the query is made of, as it stands in the catalogs.
struct Parts {
    from: String,
    columns: Vec<String>,
    operators: Vec<String>,
    referenced: String,
    referenced_columns: Vec<String>,
    match_full: bool,
    /// Columns of the primary key.
    key: Vec<String>,
}

const PARTS: &str = "
select case when c.relkind = 'p' then '' else 'only ' end || c.oid::regclass::text,
       array(select quote_ident(a) from unnest(f.columns) a),
       f.operators,
       case when r.relkind = 'p' then '' else 'only ' end || r.oid::regclass::text,
       array(select quote_ident(a) from unnest(f.referenced_columns) a),
       f.match_full,
       array(select quote_ident(a.attname) from pg_index i
              cross join lateral unnest(i.indkey::int2[]) with ordinality k (attnum, place)
               join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
              where i.indrelid = c.oid and i.indisprimary and k.place <= i.indnkeyatts
                and not a.attname = any (f.columns)
              order by k.place)
  from {schema}._repl_foreign_keys f
  join pg_class c on c.oid = $2
  join pg_class r on r.oid = $3
 where f.id = $1 and f.operators is not null";

/// Those of a key that is detached or not valid, as the owner of the table sees them. Reads the whole table, and keeps nobody
/// from writing. `None`: it cannot be found out.
pub(super) fn find(book: &Book, entry: &Entry) -> Result<Option<Orphans>, Error> {
    let (Some(relation), Some(referenced), Some(owner)) =
        (entry.relation, entry.referenced, entry.owner)
    else {
        return Ok(None);
    };
    let arguments = [entry.id.into(), relation.into(), referenced.into()];
    let parts = book.query(PARTS, &arguments, |row| {
        Ok(Parts {
            from: spi::required(row, 1)?,
            columns: spi::required(row, 2)?,
            operators: spi::required(row, 3)?,
            referenced: spi::required(row, 4)?,
            referenced_columns: spi::required(row, 5)?,
            match_full: spi::required(row, 6)?,
            key: spi::required(row, 7)?,
        })
    })?;
    let Some(parts) = parts.into_iter().next() else {
        return Ok(None);
    };
    let sql = parts.query();
    // The owner may lack the right to read the other table, or row security hides some of it.
    let outcome = subtransaction::run(super::add::is_of_the_key, || {
        session::with_settings(&[SAFE_SEARCH_PATH, ALL_ROWS], || {
            spi::read_as(owner, &sql, |row| {
                Ok(Orphans {
                    number: spi::required(row, 1)?,
                    keys: spi::required(row, 2)?,
                })
            })
        })
    });
    match outcome {
        Ok(found) => Ok(found?.pop()),
        Err(_) => Ok(None),
    }
}

impl Parts {
    fn query(&self) -> String {
        let Self {
            from, referenced, ..
        } = self;
        let joined = |parts: Vec<String>, separator: &str| parts.join(separator);
        let matches = self
            .referenced_columns
            .iter()
            .zip(&self.operators)
            .zip(&self.columns)
            .map(|((there, operator), here)| format!("p.{there} {operator} f.{here}"));
        let missing = format!(
            "not exists (select from {referenced} p where {})",
            joined(matches.collect(), " and ")
        );
        let none_is = |what: &str| {
            let columns = self.columns.iter().map(|one| format!("f.{one} is {what}"));
            joined(columns.collect(), " and ")
        };
        let is_broken = if self.match_full {
            format!(
                "not ({}) and (not ({}) or {missing})",
                none_is("null"),
                none_is("not null")
            )
        } else {
            format!("{} and {missing}", none_is("not null"))
        };
        let shown = self.key.iter().chain(&self.columns);
        let shown = shown.map(|one| format!("{}, f.{one}", literal(&unquoted(one))));
        format!(
            "select (select pg_catalog.count(*) from {from} f where {is_broken}),
                    (select coalesce(pg_catalog.jsonb_agg(o.k), '[]')::text
                       from (select pg_catalog.jsonb_build_object({}) as k from {from} f where {is_broken} limit {SHOWN}) o)",
            joined(shown.collect(), ", ")
        )
    }
}

fn unquoted(identifier: &str) -> String {
    match identifier
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) => inner.replace("\"\"", "\""),
        None => identifier.to_owned(),
    }
}

impl Orphans {
    /// As in a sentence: `2 rows refer to nothing in public.customer: (id, customer) = (7, 99), …`.
    pub(super) fn sentence(&self, referenced: &str) -> String {
        let rows = match self.number {
            1 => "1 row refers".to_owned(),
            number => format!("{number} rows refer"),
        };
        let keys: Vec<serde_json::Map<String, serde_json::Value>> =
            serde_json::from_str(&self.keys).unwrap_or_default();
        let mut shown: Vec<String> = keys.iter().map(key).collect();
        if self.number > shown.len() as i64 {
            shown.push("…".to_owned());
        }
        format!("{rows} to nothing in {referenced}: {}", shown.join(", "))
    }
}

fn key(key: &serde_json::Map<String, serde_json::Value>) -> String {
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let parts: Vec<String> = key
        .iter()
        .map(|(name, one)| format!("{name} = {}", value(one)))
        .collect();
    // A line must not become two.
    format!("({})", parts.join(", ")).replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orphans_are_listed_with_their_keys() {
        let orphans = Orphans {
            number: 3,
            keys: r#"[{"id": 7, "customer": "A\n1"}, {"id": 8, "customer": null}]"#.to_owned(),
        };
        assert_eq!(
            orphans.sentence("public.customer"),
            "3 rows refer to nothing in public.customer: (customer = A?1, id = 7), (customer = null, id = 8), …"
        );
    }

    #[test]
    fn full_match_is_broken_by_half_a_key() {
        let parts = |match_full| Parts {
            from: "only public.f".to_owned(),
            columns: vec!["a".to_owned(), "\"B\"".to_owned()],
            operators: vec!["operator(pg_catalog.=)".to_owned(); 2],
            referenced: "only public.p".to_owned(),
            referenced_columns: vec!["x".to_owned(), "y".to_owned()],
            match_full,
            key: vec!["id".to_owned()],
        };
        let simple = parts(false).query();
        assert!(simple.contains("where f.a is not null and f.\"B\" is not null and not exists"));
        assert!(simple.contains("p.y operator(pg_catalog.=) f.\"B\""));
        assert!(simple.contains("'B', f.\"B\""));
        assert!(
            parts(true)
                .query()
                .contains("not (f.a is null and f.\"B\" is null) and (not (f.a is not null and")
        );
    }
}
