//! The ways to have a derived column on a subscriber that are compared.

/// What derives `loan_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Variant {
    /// Nothing; it stays NULL. What the others cost is measured from here.
    Plain,
    Rule,
    Generated,
    BeforeTrigger,
    /// A second statement for each row, which people write first.
    AfterTrigger,
}

/// Type casts and operators only, so that it means the same under the empty search_path of an apply worker.
pub(crate) const EXPRESSION: &str = "userid::text || '#' || id::text";

impl Variant {
    pub(crate) const ALL: [Self; 5] = [
        Self::Plain,
        Self::Rule,
        Self::Generated,
        Self::BeforeTrigger,
        Self::AfterTrigger,
    ];

    /// It takes longer than all others together, and is so far from them that one round says it.
    pub(crate) fn is_slow(self) -> bool {
        self == Self::AfterTrigger
    }

    /// In a report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain column",
            Self::Rule => "rule",
            Self::Generated => "GENERATED STORED",
            Self::BeforeTrigger => "BEFORE trigger",
            Self::AfterTrigger => "AFTER … UPDATE",
        }
    }

    /// The table, on both sides.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Plain => "loan_app_plain",
            Self::Rule => "loan_app_rule",
            Self::Generated => "loan_app_generated",
            Self::BeforeTrigger => "loan_app_before",
            Self::AfterTrigger => "loan_app_after",
        }
    }

    pub(crate) fn publisher_sql(self) -> String {
        format!(
            "create table {} (id bigint primary key, userid bigint, amount numeric)",
            self.table()
        )
    }

    /// The table and what fills its `loan_id`. Triggers fire for replicated rows when they are ENABLE ALWAYS only.
    pub(crate) fn subscriber_sql(self) -> String {
        let table = self.table();
        let generated = match self {
            Self::Generated => format!(" generated always as ({EXPRESSION}) stored"),
            _ => String::new(),
        };
        let table_sql = format!(
            "create table {table} (id bigint primary key, userid bigint, amount numeric, loan_id text{generated});"
        );
        let new_expression = "new.userid::text || '#' || new.id::text";
        let derived_by = match self {
            Self::Plain | Self::Generated => String::new(),
            Self::Rule => {
                format!("select repl_set_expression('{table}', 'loan_id', $${EXPRESSION}$$)")
            }
            Self::BeforeTrigger => format!(
                "create function set_loan_id() returns trigger language plpgsql as $$
                 begin
                     new.loan_id := {new_expression};
                     return new;
                 end $$;
                 create trigger set_loan_id before insert or update on {table}
                     for each row execute function set_loan_id();
                 alter table {table} enable always trigger set_loan_id"
            ),
            Self::AfterTrigger => format!(
                "create function update_loan_id() returns trigger language plpgsql as $$
                 begin
                     update public.{table} set loan_id = {new_expression} where id = new.id;
                     return null;
                 end $$;
                 create trigger update_loan_id after insert on {table}
                     for each row execute function update_loan_id();
                 alter table {table} enable always trigger update_loan_id"
            ),
        };
        table_sql + &derived_by
    }

    /// The number of rows, and of those whose `loan_id` is not what it has to be.
    pub(crate) fn check_sql(self) -> String {
        let right = match self {
            Self::Plain => "null",
            _ => EXPRESSION,
        };
        format!(
            "select count(*), count(*) filter (where loan_id is distinct from {right}) from {}",
            self.table()
        )
    }
}
