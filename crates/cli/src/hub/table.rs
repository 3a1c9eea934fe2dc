//! A table that fits the terminal, and is plain text with tabs where there is none.

use std::io::IsTerminal;

/// One column of a table.
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Whether it holds numbers.
    pub right: bool,
    /// The columns with the highest rank go first when there is no room; rank 0 stays and is shortened.
    pub rank: u8,
}

/// Renders rows for standard output: as it is.
pub fn render(columns: &[Column], rows: &[Vec<String>]) -> String {
    if !std::io::stdout().is_terminal() {
        return rows.iter().map(|row| row.join("\t") + "\n").collect();
    }
    let width = terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
    fit(columns, rows, width)
}

/// The table in at most `width` columns: drops the least important columns, then shortens the first kept.
fn fit(columns: &[Column], rows: &[Vec<String>], width: usize) -> String {
    let widest = |i: usize| {
        let cells = rows.iter().map(|row| len(&row[i]));
        cells.chain([len(columns[i].title)]).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..columns.len()).map(widest).collect();
    let mut kept: Vec<usize> =
        (0..columns.len()).filter(|i| rows.iter().any(|row| !row[*i].is_empty())).collect();
    let total = |kept: &[usize], widths: &[usize]| {
        kept.iter().map(|i| widths[*i] + 2).sum::<usize>().saturating_sub(2)
    };
    while total(&kept, &widths) > width {
        let least = kept.iter().copied().filter(|i| columns[*i].rank > 0).max_by_key(|i| columns[*i].rank);
        let Some(least) = least else { break };
        kept.retain(|i| *i != least);
    }
    if let Some(first) = kept.iter().copied().find(|i| columns[*i].rank == 0) {
        let over = total(&kept, &widths).saturating_sub(width);
        widths[first] = widths[first].saturating_sub(over).max(8);
    }
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    let lines = std::iter::once(&titles).chain(rows);
    lines.map(|row| line(columns, row, &kept, &widths)).collect()
}

fn line(columns: &[Column], row: &[String], kept: &[usize], widths: &[usize]) -> String {
    let cell = |i: &usize| {
        let text = shorten(&row[*i], widths[*i]);
        let pad = " ".repeat(widths[*i].saturating_sub(len(&text)));
        if columns[*i].right { pad + &text } else { text + &pad }
    };
    let cells: Vec<String> = kept.iter().map(cell).collect();
    cells.join("  ").trim_end().to_owned() + "\n"
}

fn len(text: &str) -> usize {
    text.chars().count()
}

/// `text` in at most `width` characters, its middle left out: both ends of a model's name tell.
fn shorten(text: &str, width: usize) -> String {
    if len(text) <= width || width < 3 {
        return text.to_owned();
    }
    let (head, tail) = (width / 2, width - width / 2 - 1);
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(len(text) - tail).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { title: "MODEL", right: false, rank: 0 },
        Column { title: "LIKES", right: true, rank: 1 },
        Column { title: "TASK", right: false, rank: 2 },
    ];

    fn rows() -> Vec<Vec<String>> {
        [["organisation/a-long-model-name", "12", "text-generation"], ["a/b", "3456", ""]]
            .map(|row| row.map(str::to_owned).to_vec())
            .to_vec()
    }

    #[test]
    fn every_width_is_kept() {
        for width in [20, 40, 60, 200] {
            let text = fit(&COLUMNS, &rows(), width);
            assert!(text.lines().all(|line| len(line) <= width), "{width}\n{text}");
            assert_eq!(text.lines().count(), 3);
        }
    }

    #[test]
    fn columns_go_before_names_are_shortened() {
        assert!(fit(&COLUMNS, &rows(), 200).contains("TASK"));
        let narrow = fit(&COLUMNS, &rows(), 40);
        assert!(
            !narrow.contains("TASK")
                && narrow.contains("organisation/a-long-model-name")
                && narrow.contains("LIKES")
        );
        let tiny = fit(&COLUMNS, &rows(), 20);
        assert!(tiny.contains("organi") && tiny.contains("…") && tiny.contains("name"), "{tiny}");
    }

    #[test]
    fn empty_tables_and_columns_are_no_trouble() {
        assert_eq!(fit(&COLUMNS, &[], 10), "\n");
        let rows = vec![vec!["a".to_owned(), String::new(), String::new()]];
        assert_eq!(fit(&COLUMNS, &rows, 80), "MODEL\na\n");
    }
}
