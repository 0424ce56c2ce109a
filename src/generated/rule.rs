//! Setting and dropping rules.

use super::table::{OwnedTable, TargetColumn};
use super::{
    GENERATE_FUNCTION, GENERATE_TRIGGER, RULE_FUNCTION, backfill, dependency, failure,
    function_check, meaning,
};
use crate::error::Error;
use crate::pg::expression::{self, Expression, ParseError, Refusal};
use crate::pg::relation::{Lock, Relation};
use crate::pg::{session, spi};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal};
use std::ffi::{CStr, CString};

/// What becomes of a row whose expression fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OnError {
    Fail,
    Null,
}

impl OnError {
    pub(super) const FAIL: &str = "fail";
    pub(super) const NULL: &str = "null";

    fn parse(word: &str) -> Result<Self, Error> {
        match word {
            Self::FAIL => Ok(Self::Fail),
            Self::NULL => Ok(Self::Null),
            other => Err(Error::InvalidFailureAction {
                value: other.to_owned(),
            }),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Fail => Self::FAIL,
            Self::Null => Self::NULL,
        }
    }
}

/// `repl_set_expression(relation, column_name, expression, on_error, backfill)`
#[pg_extern(sql = false)]
fn repl_set_expression(
    relation: Option<pg_sys::Oid>,
    column_name: Option<&CStr>,
    expression: Option<&str>,
    on_error: Option<&str>,
    backfill: Option<bool>,
) -> Result<Option<i64>, ErrorReport> {
    let column = column_name
        .ok_or(Error::NullArgument("column_name"))?
        .to_string_lossy();
    let text = expression.ok_or(Error::NullArgument("expression"))?;
    let on_error = OnError::parse(on_error.ok_or(Error::NullArgument("on_error"))?)?;
    let backfill = backfill.ok_or(Error::NullArgument("backfill"))?;
    let table = OwnedTable::lock(relation, Lock::CreateTrigger)?;
    set(&table, &column, text, on_error)?;
    if backfill {
        return Ok(backfill::enqueue(&table, 1)?);
    }
    Ok(None)
}

/// `repl_drop_expression(relation, column_name)`
#[pg_extern(sql = false)]
fn repl_drop_expression(
    relation: Option<pg_sys::Oid>,
    column_name: Option<&CStr>,
) -> Result<(), ErrorReport> {
    let column = column_name
        .ok_or(Error::NullArgument("column_name"))?
        .to_string_lossy();
    let table = OwnedTable::lock(relation, Lock::Alter)?;
    session::with_safe_search_path(|| {
        let target = TargetColumn::find(&table, &column)?;
        target.check_not_governed(&table)?;
        let rule = target.rule().ok_or_else(|| Error::NoRule {
            table: table.name.clone(),
            column: target.name.clone(),
        })?;
        spi::run(&format!(
            "drop trigger {} on {}",
            quote_identifier(&rule.trigger_name),
            table.name
        ))
    })?;
    Ok(())
}

/// Makes `text`, whose names mean what they mean in the caller's search_path, the rule of a column. The table is
/// locked.
pub(super) fn set(
    table: &OwnedTable,
    column: &str,
    text: &str,
    on_error: OnError,
) -> Result<(), Error> {
    let relation = Relation::open(table.oid, Lock::Read);
    let target = session::with_safe_search_path(|| {
        let target = TargetColumn::find(table, column)?;
        target.check(table)?;
        table.check_identity_index()?;
        Ok::<_, Error>(target)
    })?;
    if target.not_null && on_error == OnError::Null {
        return Err(Error::NotNullColumn {
            table: table.name.clone(),
            column: target.name.clone(),
        });
    }
    let expression = Expression::parse(&relation, text).map_err(|error| match error {
        ParseError::NotOneExpression => Error::NotOneExpression {
            table: table.name.clone(),
            column: target.name.clone(),
            text: text.to_owned(),
        },
        ParseError::Server(refusal) => refused_by_server(table, &target, text, refusal),
    })?;
    expression::refusable(|| check_expression(table, &relation, &target, &expression))
        .map_err(|refusal| refused_by_server(table, &target, text, refusal))??;
    let trigger_text = expression.to_trigger_text(&relation);
    drop(relation);
    session::with_safe_search_path(|| {
        let rule = expression::refusable(|| store(table, &target, &trigger_text, on_error))
            .map_err(|refusal| refused_by_server(table, &target, text, refusal))??;
        check_meaning(table, &target, &expression, rule)?;
        failure::forget(rule)?;
        function_check::check(table, rule)
    })
}

fn refused_by_server(
    table: &OwnedTable,
    target: &TargetColumn,
    text: &str,
    refusal: Refusal,
) -> Error {
    Error::ExpressionRefused {
        table: table.name.clone(),
        column: target.name.clone(),
        text: text.to_owned(),
        refusal,
    }
}

/// What is stored computes what was asked for.
fn check_meaning(
    table: &OwnedTable,
    target: &TargetColumn,
    expression: &Expression,
    rule: pg_sys::Oid,
) -> Result<(), Error> {
    let stored: String = spi::query(
        "select tgqual::text from pg_trigger where oid = $1",
        &[rule.into()],
        |row| spi::required(row, 1),
    )?
    .pop()
    .ok_or(Error::DamagedRule)?;
    let stored = Expression::from_stored(&CString::new(stored).unwrap_or_default())
        .ok_or(Error::DamagedRule)?;
    if meaning::operators(&stored.to_tree()) == meaning::operators(&expression.to_tree()) {
        Ok(())
    } else {
        Err(Error::MeaningChanges {
            table: table.name.clone(),
            column: target.name.clone(),
        })
    }
}

/// Why an expression that PostgreSQL accepts for a generated column cannot be a rule.
fn check_expression(
    table: &OwnedTable,
    relation: &Relation,
    target: &TargetColumn,
    expression: &Expression,
) -> Result<(), Error> {
    let refused = |reason: String| Error::UnusableReference {
        table: table.name.clone(),
        column: target.name.clone(),
        reason,
    };
    let name = |attnum| {
        relation
            .column(attnum)
            .map_or_else(String::new, |column| column.name)
    };
    for attnum in expression.columns() {
        if attnum < 0 {
            return Err(refused("It refers to a system column.".to_owned()));
        }
        if attnum == 0 {
            return Err(refused("It refers to the whole row.".to_owned()));
        }
        if attnum == target.attnum {
            return Err(refused("It refers to the column itself.".to_owned()));
        }
        if target.generated_columns.contains(&attnum) {
            return Err(refused(format!(
                "Column \"{}\" is a generated column.",
                name(attnum)
            )));
        }
        if target.rules.iter().any(|rule| rule.attnum == attnum) {
            return Err(refused(format!(
                "Column \"{}\" has a rule itself.",
                name(attnum)
            )));
        }
    }
    check_not_a_source(table, relation, target)?;
    check_type(table, relation, target, expression)?;
    // Both plan it, which evaluates what is constant in it.
    if session::as_role(table.owner, || expression.is_volatile()) {
        return Err(Error::VolatileExpression {
            table: table.name.clone(),
            column: target.name.clone(),
        });
    }
    if session::as_role(table.owner, || expression.is_mutable()) {
        Error::MutableExpression {
            table: table.name.clone(),
            column: target.name.clone(),
        }
        .warn();
    }
    Ok(())
}

/// No rule of the table reads the column.
fn check_not_a_source(
    table: &OwnedTable,
    relation: &Relation,
    target: &TargetColumn,
) -> Result<(), Error> {
    let readers = session::with_safe_search_path(|| {
        spi::query(
            "select a.attname::text
               from pg_depend d
               join pg_trigger t on t.oid = d.objid and t.tgattr[0] <> d.refobjsubid
               join pg_proc p on p.oid = t.tgfoid and p.proname = $3
               join pg_attribute a on a.attrelid = t.tgrelid and a.attnum = t.tgattr[0]
              where d.classid = 'pg_trigger'::regclass and d.refclassid = 'pg_class'::regclass
                and d.refobjid = $1 and d.refobjsubid = $2",
            &[
                relation.oid().into(),
                i32::from(target.attnum).into(),
                RULE_FUNCTION.into(),
            ],
            |row| spi::required::<String>(row, 1),
        )
    })?;
    match readers.into_iter().next() {
        None => Ok(()),
        Some(reader) => Err(Error::SourceOfRule {
            table: table.name.clone(),
            column: target.name.clone(),
            reader,
        }),
    }
}

fn check_type(
    table: &OwnedTable,
    relation: &Relation,
    target: &TargetColumn,
    expression: &Expression,
) -> Result<(), Error> {
    let column = relation.column(target.attnum).ok_or(Error::DamagedRule)?;
    match expression.assigned_to(column.type_oid, column.modifier) {
        Some(_) => Ok(()),
        None => Err(Error::TypeMismatch {
            relation: table.name.clone(),
            column: column.name,
            column_type: expression::type_name(column.type_oid, column.modifier),
            expression_type: expression::type_name(expression.type_oid(), -1),
        }),
    }
}

/// Creates or replaces the trigger that holds the rule, and the one that computes where it is not there or not
/// as it should be. Gives the OID of the former.
fn store(
    table: &OwnedTable,
    target: &TargetColumn,
    expression: &str,
    on_error: OnError,
) -> Result<pg_sys::Oid, Error> {
    let (schema, _) = spi::extension()?;
    let schema = quote_identifier(schema);
    let name = target.rule().map_or_else(
        || free_trigger_name(&target.name, &target.trigger_names),
        |rule| rule.trigger_name.clone(),
    );
    let rule = quote_identifier(&name);
    let table_name = &table.name;
    spi::run(&format!(
        "create or replace trigger {rule} before update of {} on {table_name} for each row
         when (({expression}) is null) execute function {schema}.{RULE_FUNCTION}('{}')",
        quote_identifier(&target.name),
        on_error.as_str(),
    ))?;
    spi::run(&format!("alter table {table_name} disable trigger {rule}"))?;
    spi::run(&format!(
        "comment on trigger {rule} on {table_name} is {}",
        quote_literal(format!(
            "replwarden: the rule that derives this column; disabled because it only stores the rule, which {GENERATE_TRIGGER} computes"
        ))
    ))?;
    spi::run(&format!(
        "create or replace trigger {GENERATE_TRIGGER} before insert or update on {table_name}
         for each row execute function {schema}.{GENERATE_FUNCTION}()"
    ))?;
    spi::run(&format!(
        "alter table {table_name} enable always trigger {GENERATE_TRIGGER}"
    ))?;
    let oid = spi::query(
        "select oid from pg_trigger where tgrelid = $1 and tgname = $2::name",
        &[table.oid.into(), name.as_str().into()],
        |row| spi::required(row, 1),
    )?
    .pop()
    .ok_or(Error::DamagedRule)?;
    dependency::record(oid)?;
    Ok(oid)
}

/// A name for the trigger of a column's rule: the column's, cut to what a name may hold, with a number where
/// another trigger has that name (of a column since renamed, or a user's own).
fn free_trigger_name(column: &str, taken: &[String]) -> String {
    trigger_names(column)
        .find(|name| !taken.contains(name))
        .unwrap_or_default()
}

fn trigger_names(column: &str) -> impl Iterator<Item = String> {
    (0_u32..).map(move |number| {
        let suffix = if number == 0 {
            String::new()
        } else {
            format!("_{number}")
        };
        let room = pg_sys::NAMEDATALEN as usize - 1 - "replwarden_".len() - suffix.len();
        let end = (0..=room.min(column.len()))
            .rev()
            .find(|end| column.is_char_boundary(*end));
        format!("replwarden_{}{suffix}", &column[..end.unwrap_or(0)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trigger_names_tell_the_column() {
        let taken = ["replwarden_a".to_owned(), "replwarden_a_1".to_owned()];
        assert_eq!(free_trigger_name("a", &taken), "replwarden_a_2");
        assert_eq!(free_trigger_name("b", &taken), "replwarden_b");
        assert_eq!(
            trigger_names("loan_id").next().as_deref(),
            Some("replwarden_loan_id")
        );
        assert_eq!(
            trigger_names("loan_id").nth(2).as_deref(),
            Some("replwarden_loan_id_2")
        );
    }

    #[test]
    fn trigger_names_fit_into_63_bytes_and_cut_no_character() {
        let column = "ü".repeat(31);
        for name in trigger_names(&column).take(12) {
            assert!(name.len() <= 63, "{name}");
            assert!(name.starts_with("replwarden_üü"), "{name}");
        }
    }

    #[test]
    fn on_error_knows_its_two_words() {
        assert_eq!(OnError::parse("fail").ok(), Some(OnError::Fail));
        assert_eq!(OnError::parse("null").ok(), Some(OnError::Null));
        assert!(OnError::parse("NULL").is_err());
    }
}
