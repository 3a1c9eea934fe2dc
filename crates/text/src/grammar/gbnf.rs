//! GBNF, the grammars of llama.cpp, to the Lark that llguidance reads.
//!
//! Lark has a lexer that takes the longest match, GBNF has none: every character counts by itself. A grammar
//! that does not refer to itself becomes one regular expression, any other a Lark grammar whose terminals
//! are single characters; both mean exactly what the GBNF means. (GBNF is described in llama.cpp's
//! grammars/README.md.)

use std::collections::HashMap;
use std::fmt::Write;

/// The most that a grammar without recursion may have as a regular expression.
const MAX_REGEX: usize = 1 << 18;
/// The most repetitions that may be asked for.
const MAX_REPEAT: u32 = 100_000;

/// The most repetitions of one thing in a row (`a*+?`): each is one more to descend into.
const MAX_IN_A_ROW: usize = 8;
/// Rules within each other that are still put into one regular expression.
const MAX_WITHIN: usize = 100;

/// An expression of a rule.
#[derive(Debug)]
enum Node {
    /// One character out of ranges, or out of all but those.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    Rule(usize),
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    Repeat {
        node: Box<Node>,
        least: u32,
        most: Option<u32>,
    },
}

/// Translates a grammar.
///
/// # Errors
/// The line and what was found there, a rule that is missing or defined twice, or one that never ends.
pub fn to_lark(source: &str) -> Result<String, String> {
    let mut parser = Parser { rest: source, line: 1, names: HashMap::new(), rules: Vec::new() };
    parser.grammar()?;
    let Some(&root) = parser.names.get("root") else {
        return Err("found no rule named root, expected one: the grammar begins there".to_owned());
    };
    let names: HashMap<usize, &String> = parser.names.iter().map(|(name, &i)| (i, name)).collect();
    let mut rules = Vec::new();
    for (i, rule) in parser.rules.iter().enumerate() {
        rules.push(
            rule.as_ref()
                .ok_or_else(|| format!("found no rule named {}, which another refers to", names[&i]))?,
        );
    }
    if let Some(regex) = regex(&rules, &Node::Rule(root), &mut Vec::new()) {
        return Ok(format!("start: /{regex}/\n"));
    }
    let mut lark = format!("start: r{root}\n");
    for (i, rule) in rules.iter().enumerate() {
        let _ = write!(lark, "r{i}: ");
        write_lark(&mut lark, rule);
        lark.push('\n');
    }
    Ok(lark)
}

/// The regular expression of a node, if no rule in it is inside itself and it is not too long.
fn regex(rules: &[&Node], node: &Node, within: &mut Vec<usize>) -> Option<String> {
    let joined = |nodes: &[Node], between: &str, within: &mut Vec<usize>| {
        let parts: Option<Vec<String>> = nodes.iter().map(|n| regex(rules, n, within)).collect();
        Some(format!("(?:{})", parts?.join(between)))
    };
    let text = match node {
        Node::Class { .. } => class(node),
        Node::Rule(i) if within.len() == MAX_WITHIN || within.contains(i) => return None,
        Node::Rule(i) => {
            within.push(*i);
            let inner = regex(rules, rules[*i], within);
            within.pop();
            inner?
        }
        Node::Sequence(nodes) => joined(nodes, "", within)?,
        Node::Choice(nodes) => joined(nodes, "|", within)?,
        Node::Repeat { node, least, most } => {
            format!("(?:{}){}", regex(rules, node, within)?, times(*least, *most))
        }
    };
    (text.len() <= MAX_REGEX).then_some(text)
}

fn times(least: u32, most: Option<u32>) -> String {
    match (least, most) {
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (least, None) => format!("{{{least},}}"),
        (least, Some(most)) => format!("{{{least},{most}}}"),
    }
}

fn class(node: &Node) -> String {
    let Node::Class { negated, ranges } = node else { return String::new() };
    let mut text = String::from(if *negated { "[^" } else { "[" });
    for (first, last) in ranges {
        let _ = write!(text, "\\x{{{:X}}}-\\x{{{:X}}}", *first as u32, *last as u32);
    }
    text + "]"
}

fn write_lark(out: &mut String, node: &Node) {
    match node {
        Node::Class { .. } => _ = write!(out, "/{}/", class(node)),
        Node::Rule(i) => _ = write!(out, "r{i}"),
        Node::Sequence(nodes) if nodes.is_empty() => out.push_str("\"\""),
        Node::Sequence(nodes) => write_group(out, nodes, " "),
        Node::Choice(nodes) => write_group(out, nodes, " | "),
        Node::Repeat { node, least, most } => {
            out.push('(');
            write_lark(out, node);
            let _ = write!(out, "){}", times(*least, *most));
        }
    }
}

fn write_group(out: &mut String, nodes: &[Node], between: &str) {
    out.push('(');
    for (i, node) in nodes.iter().enumerate() {
        if i > 0 {
            out.push_str(between);
        }
        write_lark(out, node);
    }
    out.push(')');
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
    names: HashMap<String, usize>,
    rules: Vec<Option<Node>>,
}

impl Parser<'_> {
    fn grammar(&mut self) -> Result<(), String> {
        self.skip(true);
        while !self.rest.is_empty() {
            let name = self.name().ok_or_else(|| self.wrong("the name of a rule"))?;
            self.skip(false);
            if !self.rest.starts_with("::=") {
                return Err(self.wrong("::="));
            }
            self.advance(3);
            self.skip(true);
            let node = self.choice(0)?;
            let index = self.index(&name);
            if self.rules.len() > super::MAX_RULES {
                return Err(self.wrong(&format!("at most {} rules", super::MAX_RULES)));
            }
            if self.rules[index].replace(node).is_some() {
                return Err(format!("line {}: found a second rule named {name}", self.line));
            }
            if !self.rest.is_empty() && !self.rest.starts_with(['\n', '\r']) {
                return Err(self.wrong("the end of the rule"));
            }
            self.skip(true);
        }
        Ok(())
    }

    fn index(&mut self, name: &str) -> usize {
        let (count, rules) = (self.names.len(), &mut self.rules);
        *self.names.entry(name.to_owned()).or_insert_with(|| {
            rules.push(None);
            count
        })
    }

    /// Alternatives; `depth` counts the brackets around them, in which lines may end.
    fn choice(&mut self, depth: usize) -> Result<Node, String> {
        if depth > 200 {
            return Err(self.wrong("at most 200 brackets within each other"));
        }
        let mut options = vec![self.sequence(depth)?];
        while self.rest.starts_with('|') {
            self.advance(1);
            self.skip(true);
            options.push(self.sequence(depth)?);
        }
        Ok(Node::Choice(options))
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, String> {
        let mut nodes = Vec::new();
        loop {
            let node = match self.rest.chars().next() {
                Some('"') => self.literal()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.advance(1);
                    Node::Class { negated: false, ranges: vec![('\0', char::MAX)] }
                }
                Some('(') => {
                    self.advance(1);
                    self.skip(true);
                    let node = self.choice(depth + 1)?;
                    if !self.rest.starts_with(')') {
                        return Err(self.wrong(")"));
                    }
                    self.advance(1);
                    node
                }
                Some(c) if c.is_ascii_alphanumeric() || c == '-' || c == '_' => {
                    let name = self.name().unwrap_or_default();
                    Node::Rule(self.index(&name))
                }
                Some('<' | '!') => {
                    return Err(self.wrong("characters and rules: tokens by name are not supported"));
                }
                _ => return Ok(Node::Sequence(nodes)),
            };
            let node = self.repeated(node)?;
            nodes.push(node);
            self.skip(depth > 0);
            // A rule may go on in the next line with `|`.
            if depth == 0 {
                let (rest, line) = (self.rest, self.line);
                self.skip(true);
                if !self.rest.starts_with('|') {
                    (self.rest, self.line) = (rest, line);
                }
            }
        }
    }

    fn repeated(&mut self, mut node: Node) -> Result<Node, String> {
        for _ in 0..=MAX_IN_A_ROW {
            let (least, most) = match self.rest.chars().next() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    let end = self.rest.find('}').ok_or_else(|| self.wrong("}"))?;
                    let bounds =
                        bounds(&self.rest[1..end]).ok_or_else(|| self.wrong("{m}, {m,} or {m,n}"))?;
                    self.advance(end);
                    bounds
                }
                _ => return Ok(node),
            };
            self.advance(1);
            node = Node::Repeat { node: Box::new(node), least, most };
        }
        Err(self.wrong("fewer repetitions in a row"))
    }

    /// A text between quotes, as a class for each character.
    fn literal(&mut self) -> Result<Node, String> {
        self.advance(1);
        let mut nodes = Vec::new();
        while !self.rest.starts_with('"') {
            let c = self.character("\"")?;
            nodes.push(Node::Class { negated: false, ranges: vec![(c, c)] });
        }
        self.advance(1);
        Ok(Node::Sequence(nodes))
    }

    fn class(&mut self) -> Result<Node, String> {
        self.advance(1);
        let negated = self.rest.starts_with('^');
        if negated {
            self.advance(1);
        }
        let mut ranges = Vec::new();
        while !self.rest.starts_with(']') {
            let first = self.character("]")?;
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            if is_range {
                self.advance(1);
            }
            let last = if is_range { self.character("]")? } else { first };
            if last < first {
                return Err(format!(
                    "line {}: found the range {first:?} to {last:?}, which is empty",
                    self.line
                ));
            }
            ranges.push((first, last));
        }
        self.advance(1);
        if ranges.is_empty() && !negated {
            return Err(format!("line {}: found [], expected a character in it", self.line));
        }
        if ranges.is_empty() {
            return Ok(Node::Class { negated: false, ranges: vec![('\0', char::MAX)] });
        }
        Ok(Node::Class { negated, ranges })
    }

    /// A character, perhaps escaped. `end` is what would close the text, for the message.
    fn character(&mut self, end: &str) -> Result<char, String> {
        let mut chars = self.rest.chars();
        let c = chars.next().filter(|c| *c != '\n').ok_or_else(|| self.wrong(end))?;
        if c != '\\' {
            self.advance(c.len_utf8());
            return Ok(c);
        }
        let escape = chars.next().ok_or_else(|| self.wrong("a character after \\"))?;
        let digits = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let plain = match escape {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            '\\' | '"' | '[' | ']' | '-' | '^' | '/' => escape,
            _ if digits > 0 => {
                let value = self.rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
                value.and_then(char::from_u32).ok_or_else(|| self.wrong("a character's number after \\"))?
            }
            _ => return Err(self.wrong("one of \\n \\r \\t \\\\ \\\" \\[ \\] \\xHH \\uHHHH \\UHHHHHHHH")),
        };
        self.advance(1 + escape.len_utf8() + digits);
        Ok(plain)
    }

    fn name(&mut self) -> Option<String> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        let name = self.rest[..end.unwrap_or(self.rest.len())].to_owned();
        self.advance(name.len());
        (!name.is_empty()).then_some(name)
    }

    /// Passes blanks and comments, and the ends of lines if `lines`.
    fn skip(&mut self, lines: bool) {
        while let Some(c) = self.rest.chars().next() {
            match c {
                '#' => self.advance(self.rest.find('\n').unwrap_or(self.rest.len())),
                '\n' | '\r' if !lines => return,
                c if c.is_whitespace() => self.advance(c.len_utf8()),
                _ => return,
            }
        }
    }

    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at(bytes);
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }

    fn wrong(&self, expected: &str) -> String {
        let found: String = self.rest.lines().next().unwrap_or("").chars().take(20).collect();
        let found = if self.rest.is_empty() { "the end".to_owned() } else { format!("{found:?}") };
        format!("line {}: found {found}, expected {expected}", self.line)
    }
}

fn bounds(text: &str) -> Option<(u32, Option<u32>)> {
    let number = |text: &str| text.trim().parse().ok().filter(|n| *n <= MAX_REPEAT);
    let (least, most) = match text.split_once(',') {
        None => (number(text)?, Some(number(text)?)),
        Some((least, most)) if most.trim().is_empty() => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    most.is_none_or(|most| most >= least).then_some((least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grammar_without_recursion_is_a_regular_expression() {
        let lark =
            to_lark("# a comment\nroot ::= \"a\" digit{2,3} |\n  [^x-z\\n]?\ndigit ::= [0-9] # more\n")
                .unwrap();
        let digit = r"(?:(?:[\x{30}-\x{39}]))";
        let expected = format!(
            "start: /(?:(?:(?:[\\x{{61}}-\\x{{61}}])(?:{digit}){{2,3}})|(?:(?:[^\\x{{78}}-\\x{{7A}}\\x{{A}}-\\x{{A}}])?))/\n"
        );
        assert_eq!(lark, expected);
    }

    #[test]
    fn one_that_refers_to_itself_has_single_characters() {
        let lark = to_lark("root ::= \"(\" root \")\" | \"\"\n").unwrap();
        assert_eq!(lark, "start: r0\nr0: (((/[\\x{28}-\\x{28}]/) r0 (/[\\x{29}-\\x{29}]/)) | (\"\"))\n");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (source, part) in [
            ("x ::= \"a\"", "no rule named root"),
            ("root ::= y", "no rule named y"),
            ("root ::= \"a\"\nroot ::= \"b\"", "second rule named root"),
            ("root ::= \"a\" )", "line 1: found \")\""),
            ("root ::= (\"a\"\n\n", "line 3: found the end, expected )"),
            ("root ::= \"a", "expected \""),
            ("root ::= [z-a]", "empty"),
            ("root ::= \"a\"{3,2}", "{m,n}"),
            ("root ::= \"a\"{999999999}", "{m,n}"),
            ("root ::= \"\\q\"", "one of"),
            ("root ::= <think>", "tokens by name"),
            ("\nroot = \"a\"", "line 2: found \"= "),
        ] {
            let message = to_lark(source).unwrap_err();
            assert!(message.contains(part), "{source:?}: {message}");
        }
        assert!(to_lark(&format!("root ::= {}", "(".repeat(100_000))).is_err());
    }
}
