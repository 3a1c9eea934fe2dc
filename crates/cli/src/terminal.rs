//! What was written by others (a model, a file, a server), on its way to a terminal: it must not command it.
//!
//! A terminal obeys control characters: they set its title, answer as if typed, write over what was said. Direction marks
//! show a name in another order than it stands. A pipe gets every byte as it is.

use std::io::{self, IsTerminal, StdoutLock, Write};

/// Text of several lines without what a terminal would obey.
fn obeyed(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
}

/// What shows the text around it in another order than it stands in.
fn turns(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The most bytes of a message that anyone reads.
const MOST: usize = 8 << 10;

/// A message with names from outside, whose control characters are spelled out; of a very long one the beginning.
pub fn spelled(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MOST));
    for c in text.chars() {
        if out.len() > MOST {
            return out + "...";
        }
        if obeyed(c) || turns(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// A name from outside, fit for a line of a table.
pub fn name(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || turns(c) { '?' } else { c }).collect()
}

/// Standard output for texts of a model. Where a terminal is, control characters are left out of them.
pub fn stdout() -> Out<StdoutLock<'static>> {
    let terminal = io::stdout().is_terminal();
    Out { to: io::stdout().lock(), terminal, held: None }
}

/// A writer that keeps a terminal from obeying.
pub struct Out<W: Write> {
    to: W,
    terminal: bool,
    /// A byte that may begin a control character (U+0080 to U+009F are two bytes).
    held: Option<u8>,
}

/// What two bytes of a control character begin with.
const LEAD: u8 = 0xC2;

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.terminal {
            return self.to.write(bytes);
        }
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            match (self.held.take(), byte) {
                (Some(LEAD), 0x80..=0x9F) => {}
                (held, _) => {
                    shown.extend(held);
                    match byte {
                        LEAD => self.held = Some(byte),
                        b'\n' | b'\t' | 0x20..=0x7E | 0x80.. => shown.push(byte),
                        _ => {}
                    }
                }
            }
        }
        self.to.write_all(&shown)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pieces: &[&[u8]], terminal: bool) -> Vec<u8> {
        let mut out = Out { to: vec![], terminal, held: None };
        pieces.iter().for_each(|piece| out.write_all(piece).unwrap());
        out.to
    }

    #[test]
    fn a_terminal_is_given_no_commands_however_they_are_cut() {
        let text = "a\u{1b}]0;title\u{7}b\u{9b}31mc\r\n\té £ \u{1F600}\u{7f}";
        let whole = written(&[text.as_bytes()], true);
        assert_eq!(String::from_utf8(whole.clone()).unwrap(), "a]0;titleb31mc\n\té £ \u{1F600}");
        for at in 0..text.len() {
            let (a, b) = text.as_bytes().split_at(at);
            assert_eq!(written(&[a, b], true), whole, "cut at {at}");
        }
        assert_eq!(written(&[text.as_bytes()], false), text.as_bytes());
    }

    #[test]
    fn names_are_spelled_out() {
        assert_eq!(spelled("x\u{1b}[2J\ny\u{202e}z"), "x\\u{1b}[2J\ny\\u{202e}z");
        assert_eq!(name("x\u{1b}[2J\ny\u{202e}z"), "x?[2J?y?z");
    }
}
