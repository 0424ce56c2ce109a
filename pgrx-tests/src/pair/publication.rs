//! What a test publishes, for either provider.

/// Tables, each with all its columns or a list of them.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    pub(super) tables: Vec<PublishedTable>,
    pub(super) options: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(super) struct PublishedTable {
    pub(super) name: String,
    pub(super) columns: Option<Vec<String>>,
}

impl Publication {
    #[must_use]
    pub fn of(table: &str) -> Self {
        Self::default().table(table)
    }

    /// `name` is SQL: quoted where it has to be.
    #[must_use]
    pub fn table(mut self, name: &str) -> Self {
        self.tables.push(PublishedTable {
            name: name.to_owned(),
            columns: None,
        });
        self
    }

    /// A table of which only these columns are published; natively from PostgreSQL 15 on.
    #[must_use]
    pub fn table_columns(mut self, name: &str, columns: &[&str]) -> Self {
        self.tables.push(PublishedTable {
            name: name.to_owned(),
            columns: Some(columns.iter().map(|&column| column.to_owned()).collect()),
        });
        self
    }

    /// Publishes changes of partitions as changes of the partitioned table; native only.
    #[must_use]
    pub fn via_partition_root(self) -> Self {
        self.option("publish_via_partition_root", "true")
    }

    /// A parameter of `CREATE PUBLICATION … WITH (…)`; native only.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.to_owned(), value.to_owned()));
        self
    }
}
