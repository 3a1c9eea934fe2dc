//! What is changed in a template's text before the engine compiles it, where the engine differs from
//! Jinja: tags are cut into tokens, a few patterns of tokens rewritten, everything else left as it is
//! (line numbers too).

/// Methods whose bare name, as an attribute, Jinja takes for something defined and callable.
const METHODS: &[&str] = &[
    "keys",
    "values",
    "items",
    "get",
    "strip",
    "lstrip",
    "rstrip",
    "split",
    "rsplit",
    "upper",
    "lower",
    "title",
    "replace",
    "startswith",
    "endswith",
    "join",
    "format",
    "count",
    "index",
    "find",
];

/// Words that one tag may have: the engine nests as deep as an expression is long.
const MAX_TOKENS: usize = 8_000;

/// A token of a tag, with the white space that stands before it.
struct Token {
    space: String,
    text: String,
}

impl Token {
    fn new(text: impl Into<String>) -> Token {
        Token { space: String::new(), text: text.into() }
    }

    fn is(&self, text: &str) -> bool {
        self.text == text
    }

    /// Whether an operand may end with this token.
    fn ends_value(&self) -> bool {
        let last = self.text.chars().next_back().unwrap_or(' ');
        let word = last.is_alphanumeric() || last == '_';
        (word && !KEYWORDS.contains(&self.text.as_str())) || matches!(last, ')' | ']' | '}' | '"' | '\'')
    }
}

const KEYWORDS: &[&str] = &["in", "if", "else", "and", "or", "not", "is"];

/// Makes the template's text what the engine is to compile. Newlines become `\n`, as Jinja's lexer makes
/// them; one at the very end goes.
pub(crate) fn prepare(source: &str) -> Result<String, String> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len() + source.len() / 8);
    let mut rest = source.as_str();
    while let Some(at) = rest.find('{') {
        let (text, tag) = rest.split_at(at);
        out.push_str(text);
        let end = match tag.get(1..2) {
            Some("#") => tag.find("#}").map(|end| end + 2),
            Some("%") => block(tag, &mut out),
            Some("{") => expression(tag, &mut out),
            _ => Some(1),
        };
        let copied = matches!(tag.get(1..2), Some("%" | "{"));
        let end = match end {
            Some(end) => end,
            None => {
                let line = source[..source.len() - tag.len()].matches('\n').count() + 1;
                return Err(format!("line {line}: a tag is not closed, or has more than {MAX_TOKENS} words"));
            }
        };
        if !copied {
            out.push_str(&tag[..end]);
        }
        rest = &tag[end..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Rewrites one `{{ ... }}`, returns its length.
fn expression(tag: &str, out: &mut String) -> Option<usize> {
    let (mut tokens, end) = tokens(tag, "}}")?;
    rewrite(&mut tokens);
    write(tag, &tokens, end, out);
    Some(end.1)
}

/// Rewrites one `{% ... %}`, and for `raw` copies what follows up to its end.
fn block(tag: &str, out: &mut String) -> Option<usize> {
    let (mut tokens, end) = tokens(tag, "%}")?;
    let name = tokens.first().map(|token| token.text.clone()).unwrap_or_default();
    match (name.as_str(), tokens.len()) {
        // Marks what the assistant said, for training: it renders its body, in a scope of its own.
        ("generation", 1) => "with".clone_into(&mut tokens[0].text),
        ("endgeneration", 1) => "endwith".clone_into(&mut tokens[0].text),
        // Jinja keeps a newline after `raw`, unlike after other tags.
        ("raw", 1) => return raw(tag, end, out),
        _ => {}
    }
    rewrite(&mut tokens);
    let mut behind = String::new();
    match name.as_str() {
        "for" => iterate(&mut tokens),
        "set" | "with" => assignment(&mut tokens),
        "macro" | "call" => behind = parameters(&tokens, &tag[end.0..end.1]),
        _ => {}
    }
    write(tag, &tokens, end, out);
    out.push_str(&behind);
    Some(end.1)
}

fn raw(tag: &str, end: (usize, usize), out: &mut String) -> Option<usize> {
    let mut at = end.1;
    let stop = loop {
        at += tag[at..].find("{%")?;
        let inner = tag[at + 2..].trim_start_matches(['-', '+']).trim_start();
        if inner.strip_prefix("endraw").is_some_and(|rest| {
            let rest = rest.trim_start();
            rest.starts_with("%}") || rest.starts_with("-%}") || rest.starts_with("+%}")
        }) {
            break at + tag[at..].find("%}")? + 2;
        }
        at += 2;
    };
    let closing = &tag[end.0..end.1];
    out.push_str(tag[..end.0].trim_end());
    out.push_str(if closing == "%}" { " +%}" } else { closing });
    out.push_str(&tag[end.1..stop]);
    Some(stop)
}

fn write(tag: &str, tokens: &[Token], (close, end): (usize, usize), out: &mut String) {
    let sign = usize::from(tag[2..].starts_with(['-', '+']));
    out.push_str(&tag[..2 + sign]);
    for token in tokens {
        out.push_str(&token.space);
        out.push_str(&token.text);
    }
    let before = tag[..close].len() - tag[..close].trim_end().len();
    out.push_str(&tag[close - before..end]);
}

/// Cuts a tag into tokens up to its end; gives where the closing (with its sign) begins and ends.
fn tokens(tag: &str, close: &str) -> Option<(Vec<Token>, (usize, usize))> {
    let sign = usize::from(tag[2..].starts_with(['-', '+']));
    let (mut at, mut depth) = (2 + sign, 0usize);
    let mut list = Vec::new();
    loop {
        let space = tag[at..].len() - tag[at..].trim_start().len();
        let start = at + space;
        let rest = &tag[start..];
        for closing in ["", "-", "+"] {
            let ends = rest.strip_prefix(closing).is_some_and(|rest| rest.starts_with(close));
            if ends && (depth == 0 || close == "%}") {
                return Some((list, (start, start + closing.len() + 2)));
            }
        }
        let first = rest.chars().next()?;
        let len = match first {
            '"' | '\'' => string_len(rest, first)?,
            c if c.is_alphanumeric() || c == '_' => {
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
            }
            '*' | '/' | '=' | '!' | '<' | '>' if two(rest) => 2,
            c => c.len_utf8(),
        };
        match first {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if list.len() == MAX_TOKENS {
            return None;
        }
        list.push(Token { space: tag[at..start].to_owned(), text: rest[..len].to_owned() });
        at = start + len;
    }
}

fn two(rest: &str) -> bool {
    ["**", "//", "==", "!=", "<=", ">="].iter().any(|op| rest.starts_with(op))
}

fn string_len(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn rewrite(tokens: &mut Vec<Token>) {
    let mut at = 1;
    while at < tokens.len() {
        if tokens[at].is("]") && tokens[at - 1].is("[") && at > 1 && tokens[at - 2].ends_value() {
            // `a[]` looks up the empty tuple, which nothing has.
            tokens.insert(at, Token::new("none"));
        }
        if is_method_test(&tokens[at - 1..]) {
            let name = std::mem::take(&mut tokens[at].text);
            "|".clone_into(&mut tokens[at - 1].text);
            tokens[at].text = format!("python_attribute('{name}')");
        }
        at += 1;
    }
    // Python's unary plus, which the engine does not know.
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].is("+") && (at == 0 || !tokens[at - 1].ends_value()) {
            true => {
                let plus = tokens.remove(at);
                if let Some(next) = tokens.get_mut(at) {
                    next.space.insert_str(0, &plus.space);
                }
            }
            false => at += 1,
        }
    }
    percent(tokens);
    join_as_text(tokens);
    recursion(tokens);
}

/// `loop(...)`: what a loop goes over next is counted.
fn recursion(tokens: &mut Vec<Token>) {
    let mut at = 0;
    while at + 2 < tokens.len() {
        let called = tokens[at].is("loop") && tokens[at + 1].is("(") && !tokens[at + 2].is(")");
        if called && (at == 0 || !tokens[at - 1].is(".")) {
            let end = past(tokens, at + 2, &[]);
            wrap(tokens, at + 2, end, "python_value");
        }
        at += 1;
    }
}

/// The place of the first of these tokens outside of brackets, or of the bracket that closes.
fn past(tokens: &[Token], start: usize, ends: &[&str]) -> usize {
    let mut depth = 0i32;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth == 0 => return at,
            ")" | "]" | "}" => depth -= 1,
            text if depth == 0 && ends.contains(&text) => return at,
            _ => {}
        }
    }
    tokens.len()
}

/// The place past an operand that may begin with a sign.
fn operand(tokens: &[Token], start: usize, ends: &[&str]) -> usize {
    let signs = tokens[start..].iter().take_while(|token| token.is("-")).count();
    past(tokens, start + signs, ends)
}

/// `set a = EXPR`, `with a = EXPR, b = EXPR`: what gets a name is counted.
fn assignment(tokens: &mut Vec<Token>) {
    let (set, mut at) = (tokens[0].is("set"), 1);
    while at < tokens.len() {
        let equals = past(tokens, at, &["="]);
        if equals + 1 >= tokens.len() {
            return;
        }
        let end = past(tokens, equals + 1, if set { &[] } else { &[","] });
        if end > equals + 1 {
            wrap(tokens, equals + 1, end, "python_value");
        }
        at = end + 4;
    }
}

/// The tags that count the arguments of a macro, to stand right behind its own.
fn parameters(tokens: &[Token], closing: &str) -> String {
    let Some(open) = tokens.iter().position(|token| token.is("(")) else { return String::new() };
    let called = tokens[0].is("call") && open != 1;
    let mut out = String::new();
    let (mut at, close) = (open + 1, past(tokens, open + 1, &[]));
    while at < close && !called {
        let name = &tokens[at].text;
        out.push_str(&format!("{{% set {name} = {name}|python_value {closing}"));
        at = past(tokens, at, &[","]) + 1;
    }
    out
}

/// `"..." % x` formats; the engine's `%` is of numbers only.
fn percent(tokens: &mut Vec<Token>) {
    const ENDS: &[&str] = &[
        "~", "+", "-", "*", "/", "//", "%", "==", "!=", "<", ">", "<=", ">=", "=", ",", ":", "and", "or",
        "not", "in", "is", "if", "else",
    ];
    let mut at = 1;
    while at + 1 < tokens.len() {
        let formats = tokens[at].is("%") && tokens[at - 1].text.starts_with(['"', '\'']);
        if formats {
            let end = operand(tokens, at + 1, ENDS);
            tokens.insert(end, Token::new(")"));
            tokens[at] = Token::new("|python_percent(");
            tokens[at + 1].space.clear();
        }
        at += 1;
    }
}

/// `.keys is defined`: the bare name of a method, tested.
fn is_method_test(tokens: &[Token]) -> bool {
    let [dot, name, is, test, ..] = tokens else { return false };
    let test = if test.is("not") { tokens.get(4).unwrap_or(test) } else { test };
    let tested = ["defined", "undefined", "callable"].iter().any(|word| test.is(word));
    dot.is(".") && is.is("is") && tested && METHODS.contains(&name.text.as_str())
}

/// `a ~ b` joins plain text, also where an operand was marked `safe`: each operand loses its mark.
fn join_as_text(tokens: &mut Vec<Token>) {
    const ENDS: &[&str] = &[
        "~", "+", "-", "==", "!=", "<", ">", "<=", ">=", "=", ",", ":", "and", "or", "not", "in", "is", "if",
        "else",
    ];
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at].is("~") {
            at += 1;
            continue;
        }
        let (mut start, mut depth) = (at, 0i32);
        while start > 0 {
            match tokens[start - 1].text.as_str() {
                ")" | "]" | "}" => depth += 1,
                "(" | "[" | "{" if depth == 0 => break,
                "(" | "[" | "{" => depth -= 1,
                text if depth == 0 && ENDS.contains(&text) => break,
                _ => {}
            }
            start -= 1;
        }
        let end = operand(tokens, at + 1, ENDS);
        let statement = ["set", "if", "elif", "print"].iter().any(|word| start == 0 && tokens[0].is(word));
        let start = start + usize::from(statement);
        if start < at && !tokens[at - 1].is("python_text") {
            wrap(tokens, at + 1, end, "python_text");
            wrap(tokens, start, at, "python_text");
            at += 4;
        }
        at += 1;
    }
}

/// Puts parentheses around tokens and a filter after them.
fn wrap(tokens: &mut Vec<Token>, start: usize, end: usize, filter: &str) {
    let space = std::mem::take(&mut tokens[start].space);
    tokens.splice(end..end, [Token::new(")"), Token::new("|"), Token::new(filter)]);
    tokens.insert(start, Token { space, text: "(".to_owned() });
}

/// `for x in EXPR`: what is not iterable in Python must fail, and a string gives its characters.
fn iterate(tokens: &mut Vec<Token>) {
    let Some(start) = tokens.iter().position(|token| token.is("in")).map(|at| at + 1) else { return };
    let end = past(tokens, start, &["if", "recursive"]);
    if start < end {
        wrap(tokens, start, end, "python_iterator");
    }
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn only_what_differs_is_rewritten() {
        let same = "a {# for #} {{ x['}}'] }} {%- if a -%}\n{ {{ {'a': {}} }} {% endif %}";
        assert_eq!(prepare(same).unwrap(), same);
        let cases = [
            ("{%- generation -%}x{% endgeneration %}", "{%- with -%}x{% endwith %}"),
            ("{% for a, b in x.items() if a %}", "{% for a, b in (x.items())|python_iterator if a %}"),
            ("{% raw %}\n{% for %}{% endraw %}\n", "{% raw +%}\n{% for %}{% endraw %}\n"),
            ("{{ a[] }}", "{{ a[none] }}"),
            ("{{ a.keys is defined }}", "{{ a|python_attribute('keys') is defined }}"),
            ("a\r\nb\rc", "a\nb\nc"),
            ("{{ a|safe ~ b + c }}", "{{ (a|safe)|python_text ~ (b)|python_text + c }}"),
            (
                "{{ '%s-%d' % (a, 1) ~ b }}",
                "{{ ('%s-%d'|python_percent((a, 1)))|python_text ~ (b)|python_text }}",
            ),
            ("{{ +1 }}", "{{ 1 }}"),
            ("{% set a.b = c -%}", "{% set a.b = (c)|python_value -%}"),
            ("{% set a %}", "{% set a %}"),
            (
                "{% with a = 1, b = f(c, d=2) %}",
                "{% with a = (1)|python_value, b = (f(c, d=2))|python_value %}",
            ),
            (
                "{% macro m(a, b=2) -%} x",
                "{% macro m(a, b=2) -%}{% set a = a|python_value -%}{% set b = b|python_value -%} x",
            ),
            ("{{ loop(a) }}{{ x.loop(a) }}", "{{ loop((a)|python_value) }}{{ x.loop(a) }}"),
        ];
        for (source, want) in cases {
            assert_eq!(prepare(source).unwrap(), want);
        }
        assert!(prepare("a\n{{ unclosed ").unwrap_err().starts_with("line 2"));
    }
}
