//! Markdown within a line, a character at a time: bold, italic, struck out, code.

/// What the text is at the moment.
#[derive(Clone, Debug, Default)]
pub struct Inline {
    /// SGR codes of the line: of a heading, a quotation.
    base: &'static str,
    bold: bool,
    italic: bool,
    struck: bool,
    code: bool,
    /// Marks whose meaning the next character tells.
    marks: String,
    before: Option<char>,
    /// What was shown, without codes.
    pub shown: String,
}

impl Inline {
    /// A line that begins with these codes.
    pub fn new(base: &'static str) -> Self {
        Self { base, ..Self::default() }
    }

    /// What a character adds to the screen.
    pub fn push(&mut self, c: char) -> String {
        let mut out = String::new();
        if let Some(mark) = self.marks.chars().next() {
            if c == mark && mark != '\\' {
                self.marks.push(c);
                return out;
            }
            if self.resolve(Some(c), &mut out) {
                return out;
            }
        }
        let begins = if self.code { c == '`' } else { matches!(c, '*' | '`' | '~' | '\\') };
        if begins {
            self.marks.push(c);
        } else {
            self.show(c, &mut out);
        }
        out
    }

    /// The end of the line.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        self.resolve(None, &mut out);
        let styled = self.bold || self.italic || self.struck || self.code || !self.base.is_empty();
        if styled {
            out += "\x1b[0m";
        }
        out
    }

    fn show(&mut self, c: char, out: &mut String) {
        out.push(c);
        self.shown.push(c);
        self.before = Some(c);
    }

    /// Settles what the marks mean, now that the next character is known; whether that is used up.
    fn resolve(&mut self, next: Option<char>, out: &mut String) -> bool {
        let marks = std::mem::take(&mut self.marks);
        let Some(mark) = marks.chars().next() else { return false };
        if mark == '\\' {
            let escaped = next.filter(char::is_ascii_punctuation);
            self.show(escaped.unwrap_or('\\'), out);
            return escaped.is_some();
        }
        let opens = next.is_some_and(|c| !c.is_whitespace());
        let closes = self.before.is_some_and(|c| !c.is_whitespace());
        let toggle = |on: &mut bool| {
            let may = if *on { closes } else { opens };
            *on ^= may;
            may
        };
        let done = match (mark, marks.len()) {
            ('`', _) => {
                self.code = !self.code;
                true
            }
            ('*', 1) => toggle(&mut self.italic),
            ('*', 2) => toggle(&mut self.bold),
            ('*', 3) => toggle(&mut self.bold) && toggle(&mut self.italic),
            ('~', 2) => toggle(&mut self.struck),
            _ => false,
        };
        if done {
            out.push_str(&self.codes());
        } else {
            marks.chars().for_each(|c| self.show(c, out));
        }
        false
    }

    fn codes(&self) -> String {
        let mut codes = format!("\x1b[0m{}", self.base);
        for (on, code) in [
            (self.bold, "\x1b[1m"),
            (self.italic, "\x1b[3m"),
            (self.struck, "\x1b[9m"),
            (self.code, "\x1b[36m"),
        ] {
            codes += if on { code } else { "" };
        }
        codes
    }
}

/// A whole text: with codes, and what is seen of it.
pub fn line(text: &str, base: &'static str) -> (String, String) {
    let mut inline = Inline::new(base);
    let mut out = base.to_owned();
    text.chars().for_each(|c| out += &inline.push(c));
    out += &inline.finish();
    (out, inline.shown)
}
