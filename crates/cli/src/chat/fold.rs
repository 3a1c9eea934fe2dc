//! Lines that end between words: text with styles goes through as it streams, and goes on in the next line where a word
//! has no room. What a word's codes change (`ESC [ ... m`) takes none.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Folds one line after another. What [`push`](Fold::push) and [`finish`](Fold::finish) give, joined, is the same however
/// the text was cut.
pub struct Fold {
    width: usize,
    /// What a line begins with that goes on.
    hang: String,
    column: usize,
    space: usize,
    word: String,
    word_width: usize,
    in_code: bool,
}

impl Fold {
    /// For so many columns, beginning behind what takes `column` of them.
    pub fn new(width: usize, column: usize, hang: &str) -> Self {
        let hang = if hang.width() * 3 >= width * 2 { "" } else { hang };
        Self {
            width,
            hang: hang.to_owned(),
            column,
            space: 0,
            word: String::new(),
            word_width: 0,
            in_code: false,
        }
    }

    /// What a piece of text adds to the screen.
    pub fn push(&mut self, text: &str) -> String {
        let mut out = String::new();
        text.chars().for_each(|c| self.character(c, &mut out));
        out
    }

    /// The last word.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        self.end_word(&mut out);
        out
    }

    fn character(&mut self, c: char, out: &mut String) {
        if self.in_code || c == '\x1b' {
            self.word.push(c);
            self.in_code = c != 'm';
            return;
        }
        match c {
            ' ' => {
                self.end_word(out);
                self.space += 1;
            }
            '\n' => {
                self.end_word(out);
                out.push('\n');
                (self.column, self.space) = (0, 0);
            }
            c => self.of_word(c, out),
        }
    }

    /// A wide character is a word of its own, and what fills a line by itself is cut there.
    fn of_word(&mut self, c: char, out: &mut String) {
        let width = c.width().unwrap_or(if c == '\t' { 4 } else { 0 });
        if width > 1 && self.word_width > 0 || self.word_width + width + self.hang.width() > self.width {
            self.end_word(out);
        }
        self.word.push(c);
        self.word_width += width;
        if width > 1 {
            self.end_word(out);
        }
    }

    fn end_word(&mut self, out: &mut String) {
        if self.word_width > 0 {
            let begun = self.column > self.hang.width();
            if begun && self.column + self.space + self.word_width > self.width {
                out.push('\n');
                out.push_str(&self.hang);
                self.column = self.hang.width();
            } else {
                out.extend(std::iter::repeat_n(' ', self.space));
                self.column += self.space;
            }
            self.column += self.word_width;
            self.space = 0;
        }
        out.push_str(&std::mem::take(&mut self.word));
        self.word_width = 0;
    }
}

/// Whole lines, folded each by itself. One in columns (two blanks between them) goes on below its last column, any other
/// below its beginning.
pub fn folded(text: &str, width: usize) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| folded_line(line, width)).collect();
    lines.join("\n")
}

fn folded_line(line: &str, width: usize) -> String {
    let begin = line.len() - line.trim_start().len();
    let gap = line.trim_end().rfind("  ").map_or(0, |at| at + 2);
    let hang = if line[..gap].width() * 3 < width * 2 { gap.max(begin) } else { begin };
    let mut fold = Fold::new(width, 0, &" ".repeat(line[..hang].width()));
    fold.push(line) + &fold.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fold(text: &str, width: usize, hang: &str) -> String {
        let render = |pieces: &[&str]| {
            let mut fold = Fold::new(width, hang.width(), hang);
            let out: String = pieces.iter().map(|piece| fold.push(piece)).collect();
            out + &fold.finish()
        };
        let whole = render(&[text]);
        for (at, _) in text.char_indices() {
            let (a, b) = text.split_at(at);
            assert_eq!(render(&[a, b]), whole, "split into {a:?} and {b:?}");
        }
        whole
    }

    #[test]
    fn lines_end_between_words() {
        assert_eq!(fold("one two three", 8, ""), "one two\nthree");
        assert_eq!(fold("one two three", 7, ""), "one two\nthree");
        assert_eq!(fold("one two", 7, ""), "one two");
        assert_eq!(fold("one\ntwo three", 6, ""), "one\ntwo\nthree");
        assert_eq!(fold("one two three", 9, "  "), "one two\n  three");
        assert_eq!(fold("a  b", 9, ""), "a  b");
    }

    #[test]
    fn codes_take_no_room_and_stay_in_order() {
        assert_eq!(fold("on \x1b[1mbold words\x1b[0m on", 8, ""), "on \x1b[1mbold\nwords\x1b[0m on");
        assert_eq!(fold("a \x1b[1m\nb", 8, ""), "a\x1b[1m\nb");
    }

    #[test]
    fn what_has_no_blanks_is_cut_where_the_line_ends() {
        assert_eq!(fold("abcdefgh", 3, ""), "abc\ndef\ngh");
        assert_eq!(fold("日本語の文", 5, ""), "日本\n語の\n文");
        assert_eq!(fold("it is 日本語", 8, ""), "it is 日\n本語");
    }

    #[test]
    fn columns_go_on_below_the_last() {
        assert_eq!(folded("  /a  one two three", 14), "  /a  one two\n      three");
        assert_eq!(folded("  one two three four", 11), "  one two\n  three\n  four");
        assert_eq!(folded("short\n\nlines", 20), "short\n\nlines");
    }
}
