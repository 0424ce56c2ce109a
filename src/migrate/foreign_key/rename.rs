//! Names that tables, columns and constraints have got since a key was detached.

use super::book::Book;
use crate::error::Error;

/// A key that is back, though not valid yet, may have got another name. `$1`: the origin.
const FOLLOW_NAMES: &str = "
update {schema}._repl_foreign_keys f set constraint_name = k.conname
  from pg_constraint k
 where k.oid = f.constraint_id and f.origin = $1 and k.conrelid = f.relation and k.conname <> f.constraint_name
   and not exists (
       select from {schema}._repl_foreign_keys o where o.relation = f.relation and o.constraint_name = k.conname)";

/// Columns may have got other names, too. The definition begins with them (`pg_get_constraintdef`); where it names columns
/// once more, it is left as it is. `$1`: the origin.
const FOLLOW_COLUMNS: &str = "
update {schema}._repl_foreign_keys f
   set columns = now.columns, referenced_columns = now.referenced_columns, definition = now.definition
  from (select k.id, a.names as columns, r.names as referenced_columns,
               'FOREIGN KEY (' || a.list || ') REFERENCES ' || k.referenced_name || '(' || r.list || ')' || before.rest as definition
          from {schema}._repl_foreign_keys k
         cross join lateral (
               select array_agg(a.attname order by n.place) as names, string_agg(quote_ident(a.attname), ', ' order by n.place) as list
                 from unnest(k.column_numbers) with ordinality n (number, place)
                 join pg_attribute a on a.attrelid = k.relation and a.attnum = n.number and not a.attisdropped) a
         cross join lateral (
               select array_agg(a.attname order by n.place) as names, string_agg(quote_ident(a.attname), ', ' order by n.place) as list
                 from unnest(k.referenced_column_numbers) with ordinality n (number, place)
                 join pg_attribute a on a.attrelid = k.referenced and a.attnum = n.number and not a.attisdropped) r
         cross join lateral (
               select 'FOREIGN KEY (' || (select string_agg(quote_ident(c), ', ' order by place)
                                            from unnest(k.columns) with ordinality c (c, place))
                      || ') REFERENCES ' || k.referenced_name || '('
                      || (select string_agg(quote_ident(c), ', ' order by place)
                            from unnest(k.referenced_columns) with ordinality c (c, place)) || ')' as prefix) known
         cross join lateral (select substr(k.definition, length(known.prefix) + 1) as rest) before
         where k.origin = $1 and (a.names <> k.columns or r.names <> k.referenced_columns)
           and cardinality(a.names) = cardinality(k.columns) and cardinality(r.names) = cardinality(k.referenced_columns)
           and starts_with(k.definition, known.prefix) and position('(' in before.rest) = 0) now
 where now.id = f.id";

/// What has got another name is kept under that.
pub(super) fn catch_up(book: &Book) -> Result<(), Error> {
    for follow in [FOLLOW_NAMES, FOLLOW_COLUMNS] {
        book.run(follow, &[book.origin().into()])?;
    }
    Ok(())
}

/// The definition, where the table that it refers to has another name now.
pub(super) fn in_definition(definition: &str, before: &str, now: &str) -> String {
    let reference = |name: &str| format!(" REFERENCES {name}(");
    // A column may be named like anything.
    if before == now || definition.matches(&reference(before)).count() != 1 {
        return definition.to_owned();
    }
    definition.replace(&reference(before), &reference(now))
}

#[cfg(test)]
mod tests {
    use super::in_definition;

    #[test]
    fn definition_follows_the_name_of_the_table_that_it_refers_to() {
        let definition = "FOREIGN KEY (a) REFERENCES public.p(id) ON DELETE CASCADE";
        assert_eq!(
            in_definition(definition, "public.p", "shop.\"the p\""),
            "FOREIGN KEY (a) REFERENCES shop.\"the p\"(id) ON DELETE CASCADE"
        );
        assert_eq!(
            in_definition(definition, "public.p", "public.p"),
            definition
        );
        let odd = "FOREIGN KEY (\" REFERENCES public.p(\") REFERENCES public.p(id)";
        assert_eq!(in_definition(odd, "public.p", "public.q"), odd);
    }
}
