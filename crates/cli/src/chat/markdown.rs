//! Markdown as it streams, for a terminal: headings, lists, quotations, tables and code, shown as early as their kind is
//! known. What the terminal could take for a command of its own is left out.

use unicode_width::UnicodeWidthStr;

use super::fold::Fold;
use super::highlight::Code;
use super::inline::{self, Inline};

const HEADING: &str = "\x1b[1;4m";
const QUOTE: &str = "\x1b[2m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// A renderer of one answer. All that [`push`](Markdown::push) and [`finish`](Markdown::finish) give, joined, is the same
/// however the text was cut.
pub struct Markdown {
    block: Block,
    /// The line of the moment, while its kind is not known, or until it is complete.
    line: String,
    table: Vec<String>,
    width: usize,
}

enum Block {
    /// The beginning of a line.
    Start,
    /// In a line whose text is shown as it comes, folded between words.
    Text(Inline, Fold),
    /// In code, until this fence.
    Code { fence: String, code: Code },
}

/// What the beginning of a line tells.
enum Kind {
    /// Not enough yet.
    Unknown,
    /// All of it has to be known.
    Whole,
    /// Text after this prefix, with codes; `usize` bytes of the line are used up by it.
    Text(usize, String, &'static str),
}

impl Markdown {
    /// For a terminal of so many columns.
    pub fn new(width: usize) -> Self {
        Self { block: Block::Start, line: String::new(), table: Vec::new(), width: width.clamp(10, 400) }
    }

    /// What a piece of text adds to the screen.
    pub fn push(&mut self, text: &str) -> String {
        text.chars()
            .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
            .map(|c| self.character(c))
            .collect()
    }

    /// The end of the text.
    pub fn finish(mut self) -> String {
        let open = !matches!(self.block, Block::Start) || !self.line.is_empty();
        let end = if open { self.character('\n') } else { String::new() };
        end + &self.end_table()
    }

    fn character(&mut self, c: char) -> String {
        match &mut self.block {
            Block::Text(inline, fold) if c == '\n' => {
                let end = fold.push(&inline.finish()) + &fold.finish() + "\n";
                self.block = Block::Start;
                end
            }
            Block::Text(inline, fold) => fold.push(&inline.push(c)),
            Block::Code { .. } | Block::Start if c == '\n' => {
                let line = std::mem::take(&mut self.line);
                self.whole(&line)
            }
            Block::Code { .. } => {
                self.line.push(c);
                String::new()
            }
            Block::Start => {
                self.line.push(c);
                match kind(&self.line) {
                    Kind::Unknown | Kind::Whole => String::new(),
                    Kind::Text(used, prefix, base) => {
                        let before = self.end_table() + &prefix + base;
                        let rest = std::mem::take(&mut self.line).split_off(used);
                        let mut inline = Inline::new(base);
                        let mut fold = Fold::new(self.width, prefix.width(), &hang(&prefix, &rest));
                        let shown: String = rest.chars().map(|c| fold.push(&inline.push(c))).collect();
                        self.block = Block::Text(inline, fold);
                        before + &shown
                    }
                }
            }
        }
    }

    /// A line that was kept until its end.
    fn whole(&mut self, line: &str) -> String {
        let trimmed = line.trim();
        if let Block::Code { fence, code } = &mut self.block {
            if trimmed.starts_with(fence.as_str()) && trimmed.chars().all(|c| fence.starts_with(c)) {
                self.block = Block::Start;
                return format!("{DIM}{}{PLAIN}\n", "─".repeat(self.width.min(40)));
            }
            return code.line(line) + "\n";
        }
        if trimmed.starts_with('|') {
            self.table.push(trimmed.to_owned());
            return String::new();
        }
        let before = self.end_table();
        if let Some(fence) = fence(trimmed) {
            let name = trimmed[fence.len()..].trim();
            let rule = "─".repeat(self.width.min(40).saturating_sub(name.width() + 1));
            self.block = Block::Code { fence: fence.to_owned(), code: Code::new(name) };
            let name = if name.is_empty() { String::new() } else { format!("{name} ") };
            return format!("{before}{DIM}{name}{rule}{PLAIN}\n");
        }
        if is_rule(trimmed) {
            return format!("{before}{DIM}{}{PLAIN}\n", "─".repeat(self.width.min(60)));
        }
        let mut fold = Fold::new(self.width, 0, "");
        before + &fold.push(&inline::line(line, "").0) + &fold.finish() + "\n"
    }

    /// The table that has come to its end.
    fn end_table(&mut self) -> String {
        let lines = std::mem::take(&mut self.table);
        let rows: Vec<Vec<(String, String)>> =
            lines.iter().enumerate().filter_map(|(i, line)| cells(line, i == 0)).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest =
            |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|(_, seen)| seen.width()).max();
        let widths: Vec<usize> = (0..columns).map(|column| widest(column).unwrap_or(0)).collect();
        let mut out = String::new();
        for (i, row) in rows.iter().enumerate() {
            for (column, (shown, seen)) in row.iter().enumerate() {
                let last = column + 1 == columns;
                let gap = if last { 0 } else { widths[column] - seen.width() };
                out += shown;
                out += &" ".repeat(gap);
                out += if last { "" } else { " │ " };
            }
            out += "\n";
            if i == 0 && rows.len() > 1 {
                let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
                out += &format!("{DIM}{}{PLAIN}\n", rule.join("─┼─"));
            }
        }
        out
    }
}

/// The cells of a table's row; the line under its head has none.
fn cells(line: &str, head: bool) -> Option<Vec<(String, String)>> {
    if line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' ')) && line.contains('-') {
        return None;
    }
    let line = line.strip_prefix('|').unwrap_or(line);
    let line = line.strip_suffix('|').unwrap_or(line);
    Some(line.split('|').map(|cell| inline::line(cell.trim(), if head { "\x1b[1m" } else { "" })).collect())
}

/// The fence that a line begins with.
fn fence(line: &str) -> Option<&str> {
    let mark = line.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = line.find(|c| c != mark).unwrap_or(line.len());
    (length >= 3 && !line[length..].contains('`')).then(|| &line[..length])
}

fn is_rule(line: &str) -> bool {
    let marks = line.chars().filter(|c| !c.is_whitespace()).count();
    marks >= 3 && ['-', '*', '_'].into_iter().any(|mark| line.chars().all(|c| c == mark || c.is_whitespace()))
}

/// What a line begins with that goes on: below the text of a list, behind the bar of a quotation.
fn hang(prefix: &str, rest: &str) -> String {
    match prefix.trim() {
        "│" => prefix.to_owned(),
        "" => " ".repeat(rest.len() - rest.trim_start().len()),
        _ => " ".repeat(prefix.width()),
    }
}

/// What the beginning of a line is, as far as it can be told.
fn kind(line: &str) -> Kind {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    let plain = || Kind::Text(0, String::new(), "");
    let bullet =
        |used: usize, sign: &str| Kind::Text(indent + used, format!("{}{sign} ", &line[..indent]), "");
    let Some(first) = text.chars().next() else { return Kind::Unknown };
    match first {
        '|' => Kind::Whole,
        '#' => {
            let level = text.find(|c| c != '#').unwrap_or(0);
            match (level, text.as_bytes().get(level)) {
                (0, _) => Kind::Unknown,
                (1..=6, Some(b' ')) if text.len() > level + 1 => {
                    Kind::Text(indent + level + 1, String::new(), HEADING)
                }
                (1..=6, Some(b' ')) => Kind::Unknown,
                _ => plain(),
            }
        }
        '`' | '~' if "```".starts_with(text) || "~~~".starts_with(text) => Kind::Whole,
        '`' | '~' if fence(text).is_some() => Kind::Whole,
        '>' => match text.as_bytes().get(1) {
            None => Kind::Unknown,
            Some(b' ') => Kind::Text(indent + 2, "│ ".to_owned(), QUOTE),
            Some(_) => Kind::Text(indent + 1, "│ ".to_owned(), QUOTE),
        },
        // A rule, until something else comes.
        '-' | '*' | '_' if text.chars().all(|c| c == first || c == ' ') => Kind::Whole,
        '-' | '*' | '+' => match text.as_bytes().get(1) {
            None => Kind::Unknown,
            Some(b' ') => bullet(2, "•"),
            Some(_) => plain(),
        },
        '0'..='9' => match text.trim_start_matches(|c: char| c.is_ascii_digit()) {
            "" | "." | ")" if text.len() < 5 => Kind::Unknown,
            rest if rest.starts_with(". ") || rest.starts_with(") ") => {
                let used = line.len() - rest.len() + 2;
                Kind::Text(used, line[..used].to_owned(), "")
            }
            _ => plain(),
        },
        _ => plain(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rendered whole, at every split in two, and a character at a time: always the same.
    #[track_caller]
    fn rendered(text: &str) -> String {
        let render = |pieces: &[&str]| {
            let mut markdown = Markdown::new(80);
            let mut out: String = pieces.iter().map(|piece| markdown.push(piece)).collect();
            out += &markdown.finish();
            out
        };
        let whole = render(&[text]);
        for (at, _) in text.char_indices() {
            let (a, b) = text.split_at(at);
            assert_eq!(render(&[a, b]), whole, "split into {a:?} and {b:?}");
        }
        whole
    }

    #[test]
    fn marks_become_styles_where_they_are_marks() {
        assert_eq!(rendered("a **b** c"), "a \x1b[0m\x1b[1mb\x1b[0m c\n");
        assert_eq!(rendered("`x*y`"), "\x1b[0m\x1b[36mx*y\x1b[0m\n");
        assert_eq!(rendered("2 * 3 * 4, a_b_c, \\*"), "2 * 3 * 4, a_b_c, *\n");
        assert_eq!(rendered("**open"), "\x1b[0m\x1b[1mopen\x1b[0m\n");
        assert_eq!(rendered("## Head"), "\x1b[1;4mHead\x1b[0m\n");
        assert_eq!(rendered("#tag"), "#tag\n");
    }

    #[test]
    fn lists_quotations_and_rules() {
        assert_eq!(rendered("- one\n  * two\n1. three\n-4"), "• one\n  • two\n1. three\n-4\n");
        assert_eq!(rendered("> said"), "│ \x1b[2msaid\x1b[0m\n");
        assert_eq!(rendered("---"), format!("{DIM}{}{PLAIN}\n", "─".repeat(60)));
        assert_eq!(rendered("**bold** first"), "\x1b[0m\x1b[1mbold\x1b[0m first\n");
    }

    #[test]
    fn text_is_folded_between_words_and_code_is_not() {
        let words = "word ".repeat(20);
        let out = rendered(&format!("- {words}\n> {words}\n```\n{words}\n```"));
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with("• word") && lines[1].starts_with("  word"), "{out}");
        assert!(lines[2].starts_with("│ ") && lines[3].starts_with("│ word"), "{out}");
        assert!(lines[..4].iter().all(|line| line.width() <= 90), "{out}");
        assert!(lines[5].contains(words.trim_end()), "{out}");
    }

    #[test]
    fn code_is_kept_as_it_is() {
        let out = rendered("```rust\nlet a = **b;\n```\nafter");
        assert!(
            out.contains("\x1b[35mlet\x1b[0m a = **b;\n") && out.ends_with("─\x1b[0m\nafter\n"),
            "{out:?}"
        );
        assert!(rendered("```\n| no table |").contains("\n| no table |\n"));
    }

    #[test]
    fn a_table_is_aligned() {
        let out = rendered("| a | bb |\n|---|:-:|\n| **ccc** | d |\nend");
        let bare = ["\x1b[0m", "\x1b[1m", "\x1b[2m"].iter().fold(out, |out, code| out.replace(code, ""));
        assert_eq!(bare, "a   │ bb\n────┼───\nccc │ d\nend\n");
    }

    #[test]
    fn commands_to_the_terminal_do_not_pass() {
        assert_eq!(rendered("a\x1b]0;title\x07b\x1b[2Jc\u{9b}d"), "a]0;titleb[2Jcd\n");
    }
}
