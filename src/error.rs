//! Every error and warning that a user can meet: SQLSTATE, message, detail, hint.

mod detail;

use crate::pg::expression::Refusal;
use pgrx::pg_sys::errcodes::PgSqlErrorCode::{self, *};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::spi::SpiError;
use pgrx::{PgLogLevel, pg_sys};

/// How the message begins of a worker that waits for its subscription to be disabled.
pub(crate) const HELD_BACK: &str = "the worker is held back";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("argument \"{0}\" must not be null")]
    NullArgument(&'static str),
    #[error("relation with OID {} does not exist", .oid.to_u32())]
    UnknownTable { oid: pg_sys::Oid },
    #[error("\"{relation}\" is {kind}, not a table")]
    NotATable {
        relation: String,
        kind: &'static str,
    },
    #[error("must be owner of table {table}")]
    NotTableOwner { table: String },
    #[error("column \"{column}\" of table {table} does not exist")]
    UnknownColumn { table: String, column: String },
    #[error("column \"{column}\" of table {table} is a system column")]
    SystemColumn { table: String, column: String },
    #[error("column \"{column}\" of table {table} is a generated column already")]
    AlreadyGenerated { table: String, column: String },
    #[error("column \"{column}\" of table {table} is not a generated column")]
    NotGenerated { table: String, column: String },
    #[error("column \"{column}\" of table {table} is a virtual generated column")]
    VirtualColumn { table: String, column: String },
    #[error("columns of partition {table} are those of {parent}")]
    PartitionColumns { table: String, parent: String },
    #[error("columns of table {child} are inherited from {parent}")]
    InheritedColumns { child: String, parent: String },
    #[error("column \"{column}\" of table {table} has another expression in partition {partition}")]
    PartitionExpressionDiffers {
        table: String,
        column: String,
        partition: String,
    },
    #[error("column \"{column}\" of table {table} is an identity column")]
    IdentityColumn { table: String, column: String },
    #[error("column \"{column}\" of table {table} is part of the primary key or replica identity")]
    PartOfReplicaIdentity { table: String, column: String },
    #[error("column \"{column}\" of table {table} is part of a partition key")]
    PartOfPartitionKey { table: String, column: String },
    #[error("table {table} has neither a primary key nor a replica identity index")]
    NoIdentityIndex { table: String },
    #[error("the rules of partition {table} are those of {ancestor}")]
    RuleOfAncestor { table: String, ancestor: String },
    #[error("partition {partition} of table {table} has rules of its own")]
    RuleOfPartition { table: String, partition: String },
    #[error("table {table} has a trigger named \"zzz_replwarden\" that is not replwarden's")]
    TriggerNameTaken { table: String },
    #[error("trigger {trigger} would fire after the derived columns are computed")]
    LaterTrigger { trigger: String },
    #[error("column \"{column}\" of table {table} has no rule")]
    NoRule { table: String, column: String },
    #[error("invalid value for parameter \"on_error\": \"{value}\"")]
    InvalidFailureAction { value: String },
    #[error("invalid value for parameter \"sample\": {value}")]
    InvalidSample { value: i32 },
    #[error("invalid value for parameter \"workers\": {value}")]
    InvalidWorkers { value: i32 },
    #[error("table {table} is a temporary table, whose rows no background worker can bring up")]
    TemporaryTable { table: String },
    #[error("table {table} has the access method \"{method}\", which a backfill does not know")]
    OtherAccessMethod { table: String, method: String },
    #[error("invalid value for parameter \"provider\": \"{value}\"")]
    InvalidProvider { value: String },
    #[error("there is no backfill {id}")]
    UnknownBackfill { id: i64 },
    #[error("table {table} has no derived column")]
    NoRules { table: String },
    #[error(
        "column \"{column}\" of table {table} is NOT NULL, so a failed expression cannot make it NULL"
    )]
    NotNullColumn { table: String, column: String },
    #[error("what is to derive column \"{column}\" of table {table} is not one expression")]
    NotOneExpression {
        table: String,
        column: String,
        text: String,
    },
    #[error("cannot derive column \"{column}\" of table {table}: {}", .refusal.message)]
    ExpressionRefused {
        table: String,
        column: String,
        text: String,
        refusal: Refusal,
    },
    #[error("cannot derive column \"{column}\" of table {table}: {}", .refusal.message)]
    NotPrepared {
        table: String,
        column: String,
        refusal: Refusal,
    },
    #[error("the expression for column \"{column}\" of table {table} would not survive a dump")]
    MeaningChanges { table: String, column: String },
    #[error(
        "the expression for column \"{column}\" of table {table} reads what a derived column cannot"
    )]
    UnusableReference {
        table: String,
        column: String,
        reason: String,
    },
    #[error("column \"{column}\" of table {table} is read by the rule of column \"{reader}\"")]
    SourceOfRule {
        table: String,
        column: String,
        reader: String,
    },
    #[error("the expression for column \"{column}\" of table {table} is volatile")]
    VolatileExpression { table: String, column: String },
    #[error(
        "the expression for column \"{column}\" of table {table} depends on settings or on the time"
    )]
    MutableExpression { table: String, column: String },
    #[error(
        "column \"{column}\" of table {relation} is of type {column_type} but its expression is of type {expression_type}"
    )]
    TypeMismatch {
        relation: String,
        column: String,
        column_type: String,
        expression_type: String,
    },
    #[error("the owner of table {table} may not execute function {function}")]
    FunctionNotExecutable { table: String, function: String },
    #[error("function {function} does not work with the search_path of replication: {reason}")]
    FunctionNeedsSearchPath { function: String, reason: String },
    #[error("function {function} has no search_path of its own")]
    FunctionWithoutSearchPath { function: String },
    #[error("function was not called as a BEFORE INSERT OR UPDATE trigger FOR EACH ROW")]
    NotFiredAsRowTrigger,
    #[error("function was not called as a BEFORE trigger")]
    NotFiredAsBeforeTrigger,
    #[error("argument is not a row of a table")]
    NotARowOfATable,
    #[error("a rule of this table cannot be read")]
    DamagedRule,
    #[error("subscription \"{name}\" does not exist")]
    UnknownSubscription { name: String, known: Vec<String> },
    #[error("there are two subscriptions named \"{name}\"")]
    AmbiguousSubscription { name: String, instead: String },
    #[error("permission denied to ask the publisher of subscription \"{name}\"")]
    MayNotAsk { name: String },
    #[error("permission denied to connect to another server")]
    MayNotConnect,
    #[error("the publisher of subscription \"{name}\" does not answer: {message}")]
    PublisherUnreachable { name: String, message: String },
    #[error("invalid value for parameter \"headroom\": {value}")]
    InvalidHeadroom { value: i64 },
    #[error("permission denied for sequence {sequence}")]
    MayNotSetSequence {
        sequence: String,
        others: usize,
        grant: String,
    },
    #[error("sequences of the publisher are missing here: {names}")]
    SequencesMissing { names: String, create: String },
    #[error("sequences of the publisher cannot be read: {names}")]
    SequencesUnread { names: String, grant: String },
    #[error("sequence {sequence} cannot have the value of the publisher's, {value}")]
    SequenceOutOfRange {
        sequence: String,
        value: i64,
        min: i64,
        max: i64,
    },
    #[error("sequence {sequence} counts in the other direction than the publisher's")]
    SequenceOtherDirection { sequence: String, increment: i64 },
    #[error("sequence {sequence} has room for {room} of the {headroom} values to be skipped")]
    SequenceShortOfRoom {
        sequence: String,
        room: i64,
        headroom: i64,
    },
    #[error("permission denied for table pglogical.subscription")]
    PglogicalHidden { name: String },
    #[error("subscription \"{name}\" is disabled")]
    SubscriptionDisabled { name: String },
    #[error("table {table} is not part of any subscription of this database")]
    NotSubscribed { table: String, family: Vec<String> },
    #[error("table {table} is part of several subscriptions")]
    InSeveralSubscriptions { table: String, names: Vec<String> },
    #[error("table {table} is being copied already")]
    BeingCopied { table: String, state: String },
    #[error("table {table} belongs to subscription \"{name}\", which has two_phase enabled")]
    TwoPhase { table: String, name: String },
    #[error("must be owner of subscription \"{name}\" to copy table {table} again")]
    MayNotResync { table: String, name: String },
    #[error("the apply worker of subscription \"{name}\" (PID {pid}) does not end")]
    WorkerStays { name: String, pid: i32 },
    #[error(
        "cannot drop replwarden: foreign key {name} of table {table} is detached and would be lost"
    )]
    KeyWouldBeLost {
        table: String,
        name: String,
        reason: String,
        /// The table that keeps it.
        book: String,
    },
    #[error("what the server says of replication cannot be read: {0}")]
    UnreadableDocument(String),
    #[error(
        "the worker is held back: {crashes} of this subscription have crashed the server within replwarden.crash_loop_window"
    )]
    HeldBack { crashes: usize },
    #[error("extension replwarden is not installed in this database")]
    NotInstalled,
    #[error("a query of replwarden failed: {0}")]
    Query(#[from] SpiError),
}

impl Error {
    pub(crate) fn code(&self) -> PgSqlErrorCode {
        match self {
            Self::NullArgument(_) => ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Self::UnknownTable { .. } => ERRCODE_UNDEFINED_TABLE,
            Self::NotATable { .. } => ERRCODE_WRONG_OBJECT_TYPE,
            Self::NotTableOwner { .. }
            | Self::FunctionNotExecutable { .. }
            | Self::MayNotAsk { .. }
            | Self::MayNotConnect
            | Self::MayNotSetSequence { .. }
            | Self::MayNotResync { .. }
            | Self::PglogicalHidden { .. } => ERRCODE_INSUFFICIENT_PRIVILEGE,
            Self::PublisherUnreachable { .. } => {
                ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION
            }
            Self::UnknownColumn { .. } => ERRCODE_UNDEFINED_COLUMN,
            Self::SystemColumn { .. } | Self::UnusableReference { .. } => {
                ERRCODE_INVALID_COLUMN_REFERENCE
            }
            Self::AlreadyGenerated { .. }
            | Self::NotGenerated { .. }
            | Self::IdentityColumn { .. }
            | Self::PartOfReplicaIdentity { .. }
            | Self::PartOfPartitionKey { .. }
            | Self::VolatileExpression { .. }
            | Self::MeaningChanges { .. }
            | Self::SourceOfRule { .. } => ERRCODE_INVALID_OBJECT_DEFINITION,
            Self::VirtualColumn { .. }
            | Self::PartitionExpressionDiffers { .. }
            | Self::TemporaryTable { .. }
            | Self::OtherAccessMethod { .. } => ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::PartitionColumns { .. } | Self::InheritedColumns { .. } => {
                ERRCODE_INVALID_TABLE_DEFINITION
            }
            Self::NoIdentityIndex { .. }
            | Self::RuleOfAncestor { .. }
            | Self::RuleOfPartition { .. }
            | Self::LaterTrigger { .. }
            | Self::SubscriptionDisabled { .. }
            | Self::NotSubscribed { .. }
            | Self::InSeveralSubscriptions { .. }
            | Self::TwoPhase { .. }
            | Self::FunctionNeedsSearchPath { .. } => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::BeingCopied { .. } | Self::WorkerStays { .. } => ERRCODE_OBJECT_IN_USE,
            Self::KeyWouldBeLost { .. } => ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
            Self::TriggerNameTaken { .. } => ERRCODE_DUPLICATE_OBJECT,
            Self::NoRule { .. }
            | Self::NoRules { .. }
            | Self::UnknownBackfill { .. }
            | Self::UnknownSubscription { .. } => ERRCODE_UNDEFINED_OBJECT,
            Self::InvalidFailureAction { .. }
            | Self::InvalidSample { .. }
            | Self::InvalidWorkers { .. }
            | Self::InvalidProvider { .. }
            | Self::InvalidHeadroom { .. }
            | Self::NotNullColumn { .. } => ERRCODE_INVALID_PARAMETER_VALUE,
            Self::AmbiguousSubscription { .. } => ERRCODE_AMBIGUOUS_ALIAS,
            Self::NotOneExpression { .. } => ERRCODE_SYNTAX_ERROR,
            Self::ExpressionRefused { refusal, .. } | Self::NotPrepared { refusal, .. } => {
                refusal.code
            }
            Self::TypeMismatch { .. } => ERRCODE_DATATYPE_MISMATCH,
            Self::MutableExpression { .. }
            | Self::FunctionWithoutSearchPath { .. }
            | Self::SequencesMissing { .. }
            | Self::SequencesUnread { .. }
            | Self::SequenceOutOfRange { .. }
            | Self::SequenceOtherDirection { .. }
            | Self::SequenceShortOfRoom { .. } => ERRCODE_WARNING,
            Self::NotFiredAsRowTrigger | Self::NotFiredAsBeforeTrigger => {
                ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED
            }
            Self::NotARowOfATable => ERRCODE_DATATYPE_MISMATCH,
            Self::HeldBack { .. } => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::NotInstalled => ERRCODE_UNDEFINED_OBJECT,
            Self::DamagedRule | Self::UnreadableDocument(_) | Self::Query(_) => {
                ERRCODE_INTERNAL_ERROR
            }
        }
    }

    /// Ends the statement with this error.
    pub(crate) fn raise(self) -> ! {
        ErrorReport::from(self).report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }

    pub(crate) fn warn(self) {
        ErrorReport::from(self).report(PgLogLevel::WARNING);
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let (detail, hint) = error.detail_and_hint();
        Self::new(error.code(), error.to_string(), "replwarden")
            .set_detail(detail)
            .set_hint(hint)
    }
}
