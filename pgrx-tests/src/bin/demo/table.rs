//! Query results as psql prints them: aligned, numbers to the right, and one value a line where a row is too wide.

use replwarden_tests::TextRow;

/// Wider tables are turned into the form of psql's `\x`.
const WIDEST: usize = 100;

pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<TextRow>,
}

impl Table {
    pub(crate) fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| self.width(column))
            .collect();
        let total: usize = widths.iter().map(|width| width + 3).sum();
        if total > WIDEST + 1 {
            self.render_expanded()
        } else {
            self.render_aligned(&widths)
        }
    }

    fn render_aligned(&self, widths: &[usize]) -> String {
        let line = |cells: Vec<String>, separator: &str| {
            let line = cells.join(separator);
            format!("{}\n", line.trim_end())
        };
        let mut text = line(
            self.columns
                .iter()
                .zip(widths)
                .map(|(name, &width)| format!(" {name:^width$} "))
                .collect(),
            "|",
        );
        text.push_str(&line(
            widths.iter().map(|width| "-".repeat(width + 2)).collect(),
            "+",
        ));
        let numeric: Vec<bool> = (0..self.columns.len())
            .map(|column| self.is_numeric(column))
            .collect();
        for row in &self.rows {
            let cells = row
                .iter()
                .zip(widths)
                .zip(&numeric)
                .map(|((value, &width), &numeric)| {
                    let value = shown(value);
                    if numeric {
                        format!(" {value:>width$} ")
                    } else {
                        format!(" {value:<width$} ")
                    }
                })
                .collect();
            text.push_str(&line(cells, "|"));
        }
        let plural = if self.rows.len() == 1 { "" } else { "s" };
        text.push_str(&format!("({} row{plural})\n", self.rows.len()));
        text
    }

    fn render_expanded(&self) -> String {
        let name_width = self.columns.iter().map(|name| length(name)).max();
        let name_width = name_width.unwrap_or(0);
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            text.push_str(&format!("-[ RECORD {} ]{}\n", number + 1, "-".repeat(40)));
            for (name, value) in self.columns.iter().zip(row) {
                text.push_str(&format!("{name:<name_width$} | {}\n", shown(value)));
            }
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        self.rows
            .iter()
            .map(|row| length(shown(&row[column])))
            .chain([length(&self.columns[column])])
            .max()
            .unwrap_or(0)
    }

    fn is_numeric(&self, column: usize) -> bool {
        let mut values = self
            .rows
            .iter()
            .filter_map(|row| row[column].as_deref())
            .peekable();
        values.peek().is_some() && values.all(|value| value.parse::<f64>().is_ok())
    }
}

/// A newcomer should not have to know that psql shows NULL as nothing.
fn shown(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("NULL")
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::Table;

    fn table(columns: &[&str], row: &[Option<&str>]) -> String {
        Table {
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            rows: vec![row.iter().map(|value| value.map(str::to_owned)).collect()],
        }
        .render()
    }

    #[test]
    fn numbers_stand_right_and_null_is_shown() {
        assert_eq!(
            table(
                &["id", "amount", "loan_id"],
                &[Some("1"), Some("2.5"), None]
            ),
            " id | amount | loan_id\n----+--------+---------\n  1 |    2.5 | NULL\n(1 row)\n"
        );
    }

    #[test]
    fn wide_rows_are_turned() {
        let long = "x".repeat(100);
        let text = table(&["a", "bb"], &[Some("1"), Some(&long)]);
        assert!(text.starts_with("-[ RECORD 1 ]-"), "{text}");
        assert!(text.ends_with(&format!("a  | 1\nbb | {long}\n")), "{text}");
    }
}
