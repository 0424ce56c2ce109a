//! What to do about an error: mostly a comment, since what is right depends on what the data mean. What an error says comes
//! from the publisher, too: nothing of it gets out of a comment but as a quoted name.

use super::{Case, adoptions};
use crate::subscription::captured::CapturedError;
use crate::subscription::cause::Cause;
use crate::subscription::failure;
use crate::subscription::finding::{lsn, plain};
use crate::subscription::quote::{identifier, literal};

pub(super) fn remedy(case: Case, cause: Cause) -> Option<String> {
    let table = case.error.and_then(table);
    let named = table.as_deref().unwrap_or("the table");
    let mut lines: Vec<String> = Vec::new();
    match cause {
        Cause::TableMissing if case.is_remote => {
            lines.push(case.provider().refresh(&case.subscription.subscription));
        }
        Cause::TableMissing => lines.extend(missing_table(case)),
        Cause::ColumnMissing => lines.extend(missing_columns(case, named)),
        Cause::GeneratedColumnIncompatible => lines.extend(generated_column(case)),
        Cause::DuplicateKey => lines.extend(duplicate_key(case, named)),
        Cause::NotNullViolation => {
            let column = case.error.and_then(|error| first_quoted(&error.message));
            let column = column.map_or("<column>".to_owned(), identifier);
            lines.push(format!(
                "-- let the row in: ALTER TABLE {named} ALTER COLUMN {column} DROP NOT NULL; (or SET DEFAULT, where the publisher does not send it)"
            ));
        }
        Cause::CheckViolation | Cause::ForeignKeyViolation => {
            let constraint = case.error.and_then(|error| last_quoted(&error.message));
            let constraint = constraint.map_or("<constraint>".to_owned(), identifier);
            lines.push(format!(
                "-- let the row in: ALTER TABLE {named} DROP CONSTRAINT {constraint}; (or add what it refers to, or the partition that it belongs to)"
            ));
        }
        Cause::InvalidData => lines.push(format!(
            "-- make the columns of {named} as wide and of the same types as those of the publisher"
        )),
        Cause::TriggerError => lines.push(format!(
            "-- mend the trigger or function that the error names (SELECT * FROM repl_errors;): it runs with an empty search_path;\n\
             -- or keep it from firing in replication: ALTER TABLE {named} ENABLE TRIGGER <trigger>; instead of ENABLE ALWAYS"
        )),
        Cause::ReplicaIdentity => lines.extend(replica_identity(case, table.as_deref())),
        Cause::PermissionDenied => lines.push(permission(case, table.as_deref())),
        Cause::RowSecurity => lines.push(format!(
            "-- ALTER TABLE {named} DISABLE ROW LEVEL SECURITY; or let {} pass it: ALTER ROLE ... BYPASSRLS;",
            owner(case).unwrap_or_else(|| "the owner of the subscription".to_owned())
        )),
        Cause::LockWait => lines.push(
            "-- another session holds a lock for longer than lock_timeout allows: see repl_workers, pg_locks and lock_timeout of the owner"
                .to_owned(),
        ),
        Cause::StatementCancelled => lines.push(format!(
            "-- see statement_timeout and transaction_timeout {}: of the database and of the role",
            place(case)
        )),
        Cause::DiskFull => lines.push(format!("-- make room {}", place(case))),
        Cause::DiskIo => {
            lines.push("-- look at the disks of this server, and into its log".to_owned());
        }
        Cause::OutOfMemory => lines.push(
            "-- more memory, fewer sessions, or less work_mem and maintenance_work_mem here".to_owned(),
        ),
        Cause::IdentityFullWithoutIndex => lines.extend(without_identity(case)),
        Cause::Unknown => lines.push(unknown(case)),
        _ => return None,
    }
    if cause.nature() == Some(crate::subscription::cause::Nature::Deterministic) {
        lines.extend(skip(case));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn place(case: Case) -> &'static str {
    if case.is_remote {
        "on the publisher"
    } else {
        "on this server"
    }
}

/// With schema, quoted. `None`: the error does not name it, or so that it could not stand in a comment.
fn table(error: &CapturedError) -> Option<String> {
    let (schema, table) = error.relation.as_ref()?;
    let is_odd = |name: &str| name.is_empty() || plain(name) != *name;
    if is_odd(schema) || is_odd(table) {
        return None;
    }
    Some(format!("{}.{}", identifier(schema), identifier(table)))
}

fn owner(case: Case) -> Option<String> {
    let owner = case.subscription.owner.as_deref()?;
    (plain(owner) == owner).then(|| identifier(owner))
}

/// The whole transaction of the publisher is left out (15+): the last resort.
fn skip(case: Case) -> Vec<String> {
    let Some(finish_lsn) = case
        .error
        .filter(|error| case.is_native() && !case.is_remote && !failure::is_of_copy(error))
        .and_then(|error| error.finish_lsn)
    else {
        return Vec::new();
    };
    let name = identifier(&case.subscription.subscription);
    vec![format!(
        "-- or leave out the whole transaction of the publisher: ALTER SUBSCRIPTION {name} SKIP (lsn = '{}');",
        lsn(finish_lsn)
    )]
}

fn missing_table(case: Case) -> Vec<String> {
    let refresh = case.provider().refresh(&case.subscription.subscription);
    let dump = case.error.and_then(|error| error.relation.as_ref());
    let is_plain = |name: &str| {
        let mut letters = name.chars();
        letters.all(|one| one.is_alphanumeric() || matches!(one, '_' | ' ' | '-'))
    };
    // The pattern is for a shell, which would read other characters in its own way.
    let dump = dump.filter(|(schema, table)| is_plain(schema) && is_plain(table));
    let mut lines = match dump {
        Some((schema, table)) => vec![format!(
            "-- create it as the publisher has it: pg_dump --schema-only -t '\"{schema}\".\"{table}\"' <publisher> | psql <here>"
        )],
        None => vec![
            "-- create the table as the publisher has it (pg_dump --schema-only -t)".to_owned(),
        ],
    };
    if case.is_native() {
        lines.push(refresh);
    }
    lines
}

fn missing_columns(case: Case, named: &str) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    if let Some(error) = case.error {
        // "... is missing replicated columns: "a", "b"", and pglogical's "unknown column name a".
        if let Some((_, list)) = error.message.rsplit_once(": ") {
            let names = list.split(", ").map(str::trim);
            columns = names
                .filter_map(|name| name.strip_prefix('"')?.strip_suffix('"'))
                .map(str::to_owned)
                .collect();
        } else if let Some(name) = error.message.strip_prefix("unknown column name ") {
            columns.push(name.to_owned());
        }
    }
    columns.retain(|name| plain(name) == *name);
    if columns.is_empty() {
        columns.push("<column>".to_owned());
    }
    let columns = columns.iter().map(|name| {
        let name = match name.as_str() {
            "<column>" => name.clone(),
            name => identifier(name),
        };
        format!(
            "-- ALTER TABLE {named} ADD COLUMN {name} <type>; with the type that it has on the publisher"
        )
    });
    columns.collect()
}

fn generated_column(case: Case) -> Vec<String> {
    let of_error = case.error.and_then(table);
    let known = case.known.map(|known| known.generated_tables.clone());
    let tables = match of_error {
        Some(table) => vec![table],
        None => known.unwrap_or_default(),
    };
    let mut lines: Vec<String> = adoptions(&tables).collect();
    if lines.is_empty() {
        lines.push(
            "-- make the column a plain one here: SELECT repl_adopt_generated(...);".to_owned(),
        );
    }
    lines
}

fn duplicate_key(case: Case, named: &str) -> Vec<String> {
    let Some(error) = case.error else {
        return vec!["-- delete the row that is in the way".to_owned()];
    };
    if failure::is_of_copy(error) {
        return vec![format!(
            "-- the table has to be empty before its copy: TRUNCATE {named};"
        )];
    }
    let key = error.detail.as_deref().and_then(key_condition);
    vec![match key {
        Some(condition) => {
            format!("-- delete the row that is in the way: DELETE FROM {named} WHERE {condition};")
        }
        None => format!("-- delete the row of {named} that is in the way"),
    }]
}

/// "Key (id)=(1) already exists." as `"id" = '1'`, as long as there is no doubt what belongs to what. The words are
/// translated, the brackets are not.
fn key_condition(detail: &str) -> Option<String> {
    // 18 says in a line before that which index it is, and goes on with the rows:
    // "Key (id)=(1); existing local row (1, 2); remote row (1, 3)."
    let told = match detail.split_once('\n') {
        Some((index, told)) if !index.contains(")=(") => told,
        _ => detail,
    };
    let (before, rest) = told.split_once(")=(")?;
    let (_, columns) = before.split_once('(')?;
    let values = match rest.split_once("); ") {
        Some((values, rows)) if are_rows(rows) => values,
        Some(_) => return None,
        None => rest.rsplit_once(')')?.0,
    };
    let columns: Vec<&str> = columns.split(", ").collect();
    let values: Vec<&str> = if columns.len() == 1 {
        vec![values]
    } else {
        values.split(", ").collect()
    };
    let is_name = |name: &str| {
        let unquoted = name
            .strip_prefix('"')
            .and_then(|name| name.strip_suffix('"'));
        super::is_simple(name) || unquoted.is_some_and(|name| !name.contains('"'))
    };
    if columns.len() != values.len()
        || !columns.iter().all(|name| is_name(name))
        || plain(told) != told
    {
        return None;
    }
    let pairs = columns.iter().zip(values);
    let conditions: Vec<String> = pairs
        .map(|(column, value)| match value {
            "null" => format!("{column} IS NULL"),
            value => format!("{column} = {}", literal(value)),
        })
        .collect();
    Some(conditions.join(" AND "))
}

/// Not the end of a value in which there is such a bracket.
fn are_rows(text: &str) -> bool {
    let rows: Vec<&str> = text.split("); ").collect();
    let is_row = |row: &&str| {
        let words = row.split_once('(').map(|(words, _)| words);
        words.is_some_and(|words| words.chars().all(|c| c.is_alphabetic() || c == ' '))
    };
    // That here, that of the publisher, and by what it is found.
    rows.len() <= 3 && rows.iter().all(is_row)
}

fn replica_identity(case: Case, table: Option<&str>) -> Vec<String> {
    let Some(table) = table else {
        return vec!["-- give the table a primary key, here and on the publisher".to_owned()];
    };
    // What this server publishes itself.
    let is_local = case
        .error
        .is_some_and(|error| error.message_id.contains("replica identity and publishes"));
    if is_local {
        return vec![format!(
            "ALTER TABLE {table} REPLICA IDENTITY FULL; -- here, where it is published, too; a primary key is better"
        )];
    }
    vec![
        format!(
            "ALTER TABLE {table} REPLICA IDENTITY FULL; -- on the publisher: for changes from then on"
        ),
        "-- or give it the same primary key on both sides".to_owned(),
    ]
}

fn permission(case: Case, table: Option<&str>) -> String {
    if case.is_remote {
        return format!(
            "-- on the publisher, for the user of the connection string: GRANT SELECT ON {} TO <user>;",
            table.unwrap_or("<table>")
        );
    }
    let may_not_log_in = case
        .error
        .is_some_and(|error| error.message_id.contains("not permitted to log in"));
    if may_not_log_in && let Some(owner) = owner(case) {
        return format!("ALTER ROLE {owner} LOGIN;");
    }
    let is_of_role = case
        .error
        .is_some_and(|error| error.message_id.contains("SET ROLE"));
    match (table, owner(case)) {
        (_, Some(owner)) if is_of_role => format!(
            "-- {owner} has to become the owner of the table: GRANT <owner of the table> TO {owner}; or SET (run_as_owner = true)"
        ),
        (Some(table), Some(owner)) => {
            format!("GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON {table} TO {owner};")
        }
        (table, _) => format!(
            "-- GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON {} TO the owner of the subscription",
            table.unwrap_or("<table>")
        ),
    }
}

fn without_identity(case: Case) -> Vec<String> {
    let tables = case
        .known
        .map(|known| known.tables_without_identity.as_slice());
    let tables = tables.unwrap_or_default().iter();
    let tables = tables.filter(|table| plain(table) == **table);
    tables
        .take(5)
        .map(|table| {
            format!(
                "-- ALTER TABLE {table} ADD PRIMARY KEY (...); an index alone is used from PostgreSQL 16 on"
            )
        })
        .collect()
}

fn unknown(case: Case) -> String {
    if let Some(error) = case.error {
        let whose = if case.is_remote {
            "the publisher's"
        } else {
            "the"
        };
        return format!(
            "-- {}: see SELECT * FROM repl_errors; and {whose} server log",
            plain(failure::reason(error))
        );
    }
    if case.subscription.tables_interrupted > 0 {
        return "-- the server log says why the copy fails; the tables: SELECT * FROM repl_tables WHERE state = 'copy interrupted';"
            .to_owned();
    }
    "-- the server log says why the apply worker ends; look at the publisher and the network, too"
        .to_owned()
}

/// What stands in quotes first: the messages name columns before tables.
fn first_quoted(message: &str) -> Option<&str> {
    quoted(message).into_iter().next()
}

fn last_quoted(message: &str) -> Option<&str> {
    quoted(message).into_iter().last()
}

fn quoted(message: &str) -> Vec<&str> {
    if plain(message) != message {
        return Vec::new();
    }
    // Pairs of quotes: every second part is between two.
    let parts: Vec<&str> = message.split('"').collect();
    let is_whole = parts.len() % 2 == 1;
    let parts = parts.into_iter().skip(1).step_by(2);
    parts.filter(|_| is_whole).collect()
}
