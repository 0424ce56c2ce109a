//! Aligned columns. Their widths follow the content; one of them gives way when a line would be too long.

use super::WIDTH;
use super::format::shorten;

const BETWEEN: &str = "  ";

/// Narrower than this, a name says nothing any more.
const NARROWEST: usize = 10;

/// Where the cells of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Left,
    Right,
    /// At the left, and shortened when the others need the room.
    Elastic,
}

/// One line for each row, all of them at most [`WIDTH`] long. Columns without any content take no room.
pub(crate) fn align(indent: usize, columns: &[Column], rows: &[Vec<String>]) -> Vec<String> {
    let widths = widths(indent, columns, rows);
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(columns)
                .zip(&widths)
                .filter(|&(_, &width)| width > 0)
                .map(|((cell, column), &width)| match column {
                    Column::Left => format!("{cell:<width$}"),
                    Column::Right => format!("{cell:>width$}"),
                    Column::Elastic => format!("{:<width$}", shorten(cell, width)),
                })
                .collect();
            let line = format!("{}{}", " ".repeat(indent), cells.join(BETWEEN));
            shorten(line.trim_end(), WIDTH)
        })
        .collect()
}

fn widths(indent: usize, columns: &[Column], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = (0..columns.len())
        .map(|place| {
            let lengths = rows.iter().filter_map(|row| row.get(place));
            lengths.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let used = widths.iter().filter(|&&width| width > 0).count();
    let total = indent + widths.iter().sum::<usize>() + used.saturating_sub(1) * BETWEEN.len();
    let mut excess = total.saturating_sub(WIDTH);
    for (width, column) in widths.iter_mut().zip(columns) {
        if *column == Column::Elastic {
            let given = excess.min(width.saturating_sub(NARROWEST));
            *width -= given;
            excess -= given;
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|&cell| cell.to_owned()).collect()
    }

    #[test]
    fn widths_follow_the_content_and_empty_columns_vanish() {
        let columns = [Column::Elastic, Column::Left, Column::Right];
        let rows = [row(&["a", "", "12 kB"]), row(&["long", "", "1 B"])];
        assert_eq!(
            align(2, &columns, &rows),
            ["  a     12 kB", "  long    1 B"]
        );
    }

    #[test]
    fn the_elastic_column_gives_way() {
        let columns = [Column::Elastic, Column::Right];
        let long = "x".repeat(120);
        let lines = align(2, &columns, &[row(&[&long, "12 kB"])]);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].len(), WIDTH);
        assert!(lines[0].contains("xx..xx"), "{lines:?}");
        assert!(lines[0].ends_with("x  12 kB"), "{lines:?}");
    }

    #[test]
    fn no_line_is_too_long_whatever_there_is() {
        let long = "x".repeat(120);
        let columns = [Column::Left, Column::Elastic, Column::Right];
        for line in align(2, &columns, &[row(&[&long, &long, &long])]) {
            assert_eq!(line.chars().count(), WIDTH);
        }
    }
}
