//! What each error means, and what to do about it.

use super::Error;
use crate::subscription::quote::literal;

impl Error {
    /// What the matter is, and what to do about it.
    pub(crate) fn detail_and_hint(&self) -> (String, String) {
        let (detail, hint): (&str, &str) = match self {
            Self::NullArgument(_) => (
                "Only arguments that have a default can be left out.",
                "Give it a value.",
            ),
            Self::UnknownTable { .. } => (
                "The table may have been dropped since its OID was taken.",
                "Name the table: 'schema.table'::regclass.",
            ),
            Self::NotATable { .. } => (
                "This is for tables and partitioned tables only.",
                "Name the table that replication writes to.",
            ),
            Self::NotTableOwner { .. } => (
                "Derived columns and foreign keys are part of a table's definition, as triggers are.",
                "Ask the owner of the table, or SET ROLE to it.",
            ),
            Self::UnknownColumn { table, .. } => {
                return (
                    "A rule needs a plain column to write to.".to_owned(),
                    format!("ALTER TABLE {table} ADD COLUMN …, or look at \\d {table}."),
                );
            }
            Self::SystemColumn { .. } => (
                "System columns are written by the server alone.",
                "Name a column of the table's own.",
            ),
            Self::AlreadyGenerated { table, .. } => {
                return (
                    "The server computes it already, and allows no trigger to.".to_owned(),
                    format!(
                        "SELECT repl_adopt_generated('{table}') makes it a plain column with a rule."
                    ),
                );
            }
            Self::NotGenerated { table, column } => {
                return (
                    "Only a GENERATED ALWAYS AS (…) STORED column can be adopted.".to_owned(),
                    format!(
                        "SELECT repl_set_expression('{table}', '{column}', …) derives a plain column."
                    ),
                );
            }
            Self::VirtualColumn { .. } => (
                "It has no values that could be kept; it is computed when it is read.",
                "Leave it as it is, or drop it, add a plain column and use repl_set_expression().",
            ),
            Self::PartitionColumns { parent, .. } => {
                return (
                    "PostgreSQL lets a generated column of a partition change only together with its parent's."
                        .to_owned(),
                    format!("SELECT repl_adopt_generated('{parent}') adopts it in all partitions."),
                );
            }
            Self::InheritedColumns { child, parent } => {
                return (
                    "PostgreSQL lets an inherited generated column change only together with its parent's, and a \
                     rule holds for one table."
                        .to_owned(),
                    format!("ALTER TABLE {child} NO INHERIT {parent}, and adopt each by itself."),
                );
            }
            Self::PartitionExpressionDiffers { .. } => (
                "One rule for all partitions would change values.",
                "Give the partition the same expression, or detach it first.",
            ),
            Self::IdentityColumn { .. } => (
                "Its values come from a sequence.",
                "ALTER TABLE … ALTER COLUMN … DROP IDENTITY, or derive another column.",
            ),
            Self::PartOfReplicaIdentity { .. } => (
                "Replication finds rows by the values that the publisher sends for this column.",
                "Derive another column, or choose a replica identity without this one.",
            ),
            Self::PartOfPartitionKey { .. } => (
                "The partition of a row is chosen before the column is computed.",
                "Derive another column.",
            ),
            Self::NoIdentityIndex { table } => {
                return (
                    "Where the publisher sends whole rows (REPLICA IDENTITY FULL), replication would look for \
                     rows in which the derived column is NULL, find none, and skip every UPDATE and DELETE \
                     without a word."
                        .to_owned(),
                    format!(
                        "ALTER TABLE {table} ADD PRIMARY KEY (…), or CREATE UNIQUE INDEX on NOT NULL columns and \
                         ALTER TABLE {table} REPLICA IDENTITY USING INDEX …. Otherwise leave the column GENERATED."
                    ),
                );
            }
            Self::RuleOfAncestor { ancestor, .. } => {
                return (
                    "Rules of a partitioned table hold for all of its partitions.".to_owned(),
                    format!("Set or drop the rule of {ancestor}, or detach the partition first."),
                );
            }
            Self::RuleOfPartition { partition, .. } => {
                return (
                    "Rules of a partitioned table hold for all of its partitions.".to_owned(),
                    format!(
                        "First drop the rules of the partition: SELECT repl_drop_expression('{partition}', …)."
                    ),
                );
            }
            Self::TriggerNameTaken { table } => {
                return (
                    "replwarden computes derived columns in a trigger of this name.".to_owned(),
                    format!("ALTER TRIGGER zzz_replwarden ON {table} RENAME TO …"),
                );
            }
            Self::LaterTrigger { trigger } => {
                return (
                    "Triggers fire in the order of their names; this one could still change what the derived \
                     columns were computed from."
                        .to_owned(),
                    format!("ALTER TRIGGER {trigger} RENAME TO a name that sorts before \"zzz_replwarden\"."),
                );
            }
            Self::NoRule { .. } => (
                "There is nothing to drop.",
                "SELECT * FROM repl_generated_columns shows the rules there are.",
            ),
            Self::NoRules { .. } => (
                "No rule has been set for it.",
                "SELECT * FROM repl_generated_columns shows the rules there are.",
            ),
            Self::InvalidSample { .. } => (
                "It is the number of keys of wrong rows to show.",
                "Use 0 or more.",
            ),
            Self::InvalidWorkers { .. } => (
                "It is the number of workers that may share the work.",
                "Use 1 or more; replwarden.max_backfill_workers limits them, too.",
            ),
            Self::TemporaryTable { table } => {
                return (
                    "Its rows are in the memory of this session.".to_owned(),
                    format!(
                        "Use backfill => false, and UPDATE {table} yourself: the rule computes each row."
                    ),
                );
            }
            Self::OtherAccessMethod { table, .. } => {
                return (
                    "A backfill reads and writes tables of the access method heap.".to_owned(),
                    format!("UPDATE {table} yourself: the rule computes each row."),
                );
            }
            Self::UnknownBackfill { .. } => (
                "Each table's last ten backfills are remembered.",
                "SELECT * FROM repl_backfills;",
            ),
            Self::InvalidFailureAction { .. } => (
                "A failed expression either fails the statement or makes the column NULL.",
                "Use 'fail' or 'null'.",
            ),
            Self::NotNullColumn { table, column } => {
                return (
                    "The row would fail on the constraint instead of on the expression.".to_owned(),
                    format!(
                        "Use on_error => 'fail', or ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL."
                    ),
                );
            }
            Self::NotOneExpression { text, .. } => {
                return (
                    format!("The text is: {text}"),
                    "Give a single expression, without SELECT, FROM, an alias, * or a semicolon."
                        .to_owned(),
                );
            }
            Self::ExpressionRefused { text, refusal, .. } => {
                let text = format!("The expression is: {text}");
                return (
                    refusal.detail.as_ref().map_or(text.clone(), |detail| format!("{detail} {text}")),
                    refusal.hint.clone().unwrap_or_else(|| {
                        "Use columns of this table, constants and functions; qualify a function's name with \
                         its schema where the search_path does not find it."
                            .to_owned()
                    }),
                );
            }
            Self::NotPrepared { refusal, .. } => {
                return (
                    refusal
                        .detail
                        .clone()
                        .unwrap_or_else(|| "Its expression could not be prepared.".to_owned()),
                    refusal.hint.clone().unwrap_or_else(|| {
                        "The role that writes to the table, which for replication may be its owner, needs EXECUTE on \
                         the functions of the expression; repl_generated_columns shows what else is broken."
                            .to_owned()
                    }),
                );
            }
            Self::UnusableReference { reason, .. } => {
                return (
                    reason.clone(),
                    "Write the expression in terms of the table's plain columns.".to_owned(),
                );
            }
            Self::SourceOfRule { .. } => (
                "All rules of a table are computed from the same row, in no order.",
                "Write the expression out in the other rule, or drop that rule first.",
            ),
            Self::VolatileExpression { .. } => (
                "It gives another value at each call, so that no value could be checked or computed again.",
                "Use functions that are IMMUTABLE, or STABLE where the result is the same in every session.",
            ),
            Self::MutableExpression { .. } => (
                "Replication and sessions may differ in TimeZone, DateStyle and other settings.",
                "Make it immutable, for example with AT TIME ZONE or to_char().",
            ),
            Self::MeaningChanges { .. } => (
                "It uses an operator outside pg_catalog where SQL cannot name one (NULLIF, IS DISTINCT FROM, CASE x \
                 WHEN, or rows compared); read back from text, it would use another and give other values.",
                "Write it with the operator itself: CASE WHEN x OPERATOR(schema.=) y THEN ….",
            ),
            Self::TypeMismatch { .. } => (
                "The value is assigned to the column as in an INSERT.",
                "Cast the expression to the column's type.",
            ),
            Self::FunctionNotExecutable { function, .. } => {
                return (
                    "Replication writes to the table with the rights of its owner.".to_owned(),
                    format!("GRANT EXECUTE ON FUNCTION {function} TO the owner of the table."),
                );
            }
            Self::FunctionNeedsSearchPath { function, .. }
            | Self::FunctionWithoutSearchPath { function } => {
                return (
                    "Replication runs with an empty search_path: names in the function's body that have no \
                     schema are not found there, though they are in your session."
                        .to_owned(),
                    format!("ALTER FUNCTION {function} SET search_path = pg_catalog, …, pg_temp;"),
                );
            }
            Self::NotFiredAsRowTrigger => (
                "It computes the new row of an INSERT or UPDATE.",
                "Use repl_set_expression(), which creates the trigger.",
            ),
            Self::NotFiredAsBeforeTrigger => (
                "It guards a table that pglogical copies again.",
                "Use repl_resync_table(), which creates the trigger.",
            ),
            Self::NotARowOfATable => (
                "Only rows of tables have rules.",
                "Pass a whole row, as in t.*.",
            ),
            Self::DamagedRule => (
                "A trigger that stores a rule does not hold what repl_set_expression() put there.",
                "Drop the trigger whose name starts with \"replwarden_\" and set the rule again.",
            ),
            Self::UnknownSubscription { known, .. } => {
                return (
                    match known.as_slice() {
                        [] => "This database has no subscription, native or of pglogical.".to_owned(),
                        known => format!("The subscriptions of this database: {}.", known.join(", ")),
                    },
                    "Use a name as repl_status() shows it; subscriptions of another database are seen from there."
                        .to_owned(),
                );
            }
            Self::HeldBack { .. } => (
                "replwarden disables the subscription before its worker can do so again.",
                "SELECT * FROM repl_events says more; when the cause is mended, SELECT repl_enable(…).",
            ),
            Self::AmbiguousSubscription { instead, .. } => {
                return (
                    "One is native, the other one is pglogical's.".to_owned(),
                    format!("Use the statement of the one that you mean: {instead}"),
                );
            }
            Self::InvalidProvider { .. } => (
                "Rows come by PostgreSQL's own logical replication or by pglogical.",
                "Use 'native' or 'pglogical'.",
            ),
            Self::MayNotAsk { .. } => (
                "It makes this server connect to another one with what the subscription knows.",
                "Ask a superuser, or, for a native subscription, whoever has the rights of its owner.",
            ),
            Self::MayNotConnect => (
                "Only superusers and members of pg_create_subscription (PostgreSQL 16 and later) may make this server connect to another one.",
                "Ask one of them.",
            ),
            Self::PublisherUnreachable { name, .. } => {
                return (
                    "Nothing has been changed.".to_owned(),
                    format!(
                        "SELECT * FROM repl_preflight({}); says what is in the way.",
                        literal(name)
                    ),
                );
            }
            Self::InvalidHeadroom { .. } => (
                "It is the number of values of each sequence to skip after the publisher's last one.",
                "Use 0 or more.",
            ),
            Self::MayNotSetSequence { others, grant, .. } => {
                let rest = match others {
                    0 => String::new(),
                    1 => " There is one more of this kind.".to_owned(),
                    others => format!(" There are {others} more of this kind."),
                };
                return (
                    format!(
                        "It takes UPDATE on a sequence to set it.{rest} Nothing has been changed."
                    ),
                    grant.clone(),
                );
            }
            Self::SequencesMissing { create, .. } => {
                return (
                    "Neither a sequence of that name is here nor another one of the same column; the others are set.".to_owned(),
                    create.clone(),
                );
            }
            Self::SequencesUnread { grant, .. } => {
                return (
                    "The role of the connection string has no right to; here they stay as they are.".to_owned(),
                    grant.clone(),
                );
            }
            Self::SequenceOutOfRange {
                sequence, min, max, ..
            } => {
                return (
                    format!("It gives values from {min} to {max}, and stays as it is."),
                    format!("ALTER SEQUENCE {sequence} AS bigint NO MINVALUE NO MAXVALUE;"),
                );
            }
            Self::SequenceOtherDirection {
                sequence,
                increment,
            } => {
                return (
                    "It stays as it is.".to_owned(),
                    format!("ALTER SEQUENCE {sequence} INCREMENT BY {increment};"),
                );
            }
            Self::SequenceShortOfRoom { sequence, .. } => {
                return (
                    "It is at its end, and gives no more values.".to_owned(),
                    format!("ALTER SEQUENCE {sequence} AS bigint NO MINVALUE NO MAXVALUE;"),
                );
            }
            Self::PglogicalHidden { name } => {
                return (
                    format!(
                        "No native subscription of this database is named \"{name}\", and you may not see those of pglogical."
                    ),
                    "Ask a superuser, or one who may use the schema pglogical and read its tables."
                        .to_owned(),
                );
            }
            Self::SubscriptionDisabled { name } => {
                return (
                    "A subscription that is switched off has no worker.".to_owned(),
                    format!("SELECT repl_enable({});", literal(name)),
                );
            }
            Self::NotSubscribed { table, family } => {
                return match family.as_slice() {
                    [] => (
                        "Only what replication brings can be brought again.".to_owned(),
                        format!(
                            "Publish {table}, and ALTER SUBSCRIPTION … REFRESH PUBLICATION, or add it to a replication set \
                             of pglogical; SELECT * FROM repl_tables shows what is subscribed."
                        ),
                    ),
                    family => (
                        format!(
                            "The publisher sends its rows as those of {}.",
                            family.join(", ")
                        ),
                        format!("SELECT repl_resync_table({});", literal(&family[0])),
                    ),
                };
            }
            Self::InSeveralSubscriptions { names, .. } => {
                return (
                    format!(
                        "Emptied, it would lose the rows of all of them: {}.",
                        names.join(", ")
                    ),
                    "Copy it by hand, or leave it to one subscription.".to_owned(),
                );
            }
            Self::BeingCopied { table, state } => {
                return (
                    format!("Its state is: {state}."),
                    format!(
                        "SELECT * FROM repl_tables WHERE relation = {}::regclass shows how far it is.",
                        literal(table)
                    ),
                );
            }
            Self::TwoPhase { .. } => (
                "A transaction that is prepared during the copy could be lost or applied twice: PostgreSQL copies no table for \
                 such a subscription once it streams.",
                "Make a subscription of its own for the table, without two_phase, or copy it by hand.",
            ),
            Self::MayNotResync { .. } => (
                "The table is emptied, and the subscription's apply worker is replaced.",
                "Ask a superuser, or the owner of the subscription who owns the table, too.",
            ),
            Self::WorkerStays { pid, .. } => {
                return (
                    "As long as it runs it may write to the table without knowing that it is copied anew. Nothing has been \
                     changed."
                        .to_owned(),
                    format!("Look what it does: SELECT * FROM repl_workers WHERE pid = {pid};"),
                );
            }
            Self::KeyWouldBeLost {
                reason,
                book,
                table,
                name,
            } => {
                return (
                    format!("It cannot come back as things are: {reason}."),
                    format!(
                        "Mend that, or give the key up: DELETE FROM {book} WHERE relation = {}::regclass; -- {name}",
                        literal(table)
                    ),
                );
            }
            Self::NotInstalled => ("Its catalog is not there.", "CREATE EXTENSION replwarden;"),
            Self::Query(_) | Self::UnreadableDocument(_) => (
                "This is a defect of replwarden.",
                "Please report it with the server's log of this moment.",
            ),
        };
        (detail.to_owned(), hint.to_owned())
    }
}
