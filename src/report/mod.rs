//! The report of `repl_status()`: from facts to lines for psql at 100 columns. All but
//! `view`, which gathers the facts, is without a server.
//!
//! `text` puts the report together, from `subscription`, `table`, `derived` (columns and backfills) and `next` (what to
//! do). `grid` aligns, `wrap` folds, `format` has the units.

mod derived;
mod facts;
mod foreign_key;
mod format;
mod grid;
mod next;
mod subscription;
mod table;
mod text;
mod view;
mod wrap;

/// Characters of a line: psql adds a blank on each side.
const WIDTH: usize = 98;

/// Lines of one kind, before the report names the query that shows the rest.
const SHOWN: usize = 10;
