//! Colours for code in a terminal: keywords, strings, numbers and comments of common languages, a line at a time.
//!
//! A table instead of a grammar for each language: an answer comes line by line, and a wrong colour does no harm.

/// What a language's code looks like.
struct Language {
    names: &'static [&'static str],
    keywords: &'static str,
    comment: &'static str,
    /// What begins and ends text over several lines.
    long: &'static [(&'static str, &'static str)],
}

const C_LONG: &[(&str, &str)] = &[("/*", "*/")];

const LANGUAGES: &[Language] = &[
    Language {
        names: &["rust", "rs"],
        keywords: "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match \
                   mod move mut pub ref return self Self static struct super trait true type unsafe use where while",
        comment: "//",
        long: C_LONG,
    },
    Language {
        names: &["python", "py"],
        keywords: "False None True and as assert async await break class continue def del elif else except finally for \
                   from global if import in is lambda nonlocal not or pass raise return try while with yield",
        comment: "#",
        long: &[("\"\"\"", "\"\"\""), ("'''", "'''")],
    },
    Language {
        names: &["javascript", "js", "typescript", "ts", "jsx", "tsx", "json"],
        keywords: "async await break case catch class const continue default delete do else enum export extends false \
                   finally for from function if implements import in instanceof interface let new null of return \
                   static super switch this throw true try type typeof undefined var void while yield",
        comment: "//",
        long: &[("/*", "*/"), ("`", "`")],
    },
    Language {
        names: &[
            "c", "cpp", "c++", "h", "java", "kotlin", "swift", "csharp", "cs", "go", "php", "scala", "zig",
            "dart",
        ],
        keywords: "abstract auto bool boolean break byte case catch chan char class const continue def default defer do \
                   double else enum extends extern false final float for fun func go goto if implements import in \
                   int interface let long map namespace new nil null nullptr override package private protected \
                   public range return short signed sizeof static struct super switch template this throw true try \
                   type typedef union unsigned using val var virtual void when where while",
        comment: "//",
        long: C_LONG,
    },
    Language {
        names: &["bash", "sh", "shell", "zsh", "console", "fish"],
        keywords: "case do done elif else esac exit export fi for function if in local return set then unset until while",
        comment: "#",
        long: &[],
    },
    Language {
        names: &["sql"],
        keywords: "select from where and or not insert into values update set delete create table drop alter join left \
                   right inner outer on group by order having limit as distinct union all null is in like between \
                   exists case when then else end primary key foreign references index view SELECT FROM WHERE AND OR \
                   NOT INSERT INTO VALUES UPDATE SET DELETE CREATE TABLE DROP ALTER JOIN LEFT RIGHT INNER OUTER ON \
                   GROUP BY ORDER HAVING LIMIT AS DISTINCT UNION ALL NULL IS IN LIKE BETWEEN EXISTS CASE WHEN THEN \
                   ELSE END PRIMARY KEY FOREIGN REFERENCES INDEX VIEW",
        comment: "--",
        long: C_LONG,
    },
    Language {
        names: &[
            "toml",
            "yaml",
            "yml",
            "ini",
            "ruby",
            "rb",
            "r",
            "perl",
            "makefile",
            "dockerfile",
            "elixir",
            "nix",
        ],
        keywords: "true false null nil begin class def do else elsif end ensure if module require rescue return self \
                   then unless until when while yield FROM RUN COPY CMD ENV WORKDIR ENTRYPOINT",
        comment: "#",
        long: &[],
    },
    Language {
        names: &["lua", "haskell", "hs"],
        keywords: "and break case class data deriving do else elseif end false for function goto if import in instance \
                   let local module newtype nil not of or repeat return then true type until where while",
        comment: "--",
        long: &[],
    },
];

const KEYWORD: &str = "\x1b[35m";
const STRING: &str = "\x1b[32m";
const NUMBER: &str = "\x1b[36m";
const COMMENT: &str = "\x1b[90m";
const PLAIN: &str = "\x1b[0m";

/// The code of one block.
pub struct Code {
    language: Option<&'static Language>,
    /// What ends the text that an earlier line began, and its colour.
    open: Option<(&'static str, &'static str)>,
}

impl Code {
    /// Code in the language that a fence names.
    pub fn new(name: &str) -> Self {
        let name = name.split([' ', ',', '{']).next().unwrap_or_default().to_lowercase();
        let language = LANGUAGES.iter().find(|language| language.names.contains(&name.as_str()));
        Self { language, open: None }
    }

    /// A line, with colours.
    pub fn line(&mut self, line: &str) -> String {
        let Some(language) = self.language else { return line.to_owned() };
        let mut out = String::new();
        let mut rest = line;
        while !rest.is_empty() {
            let (length, colour) = match self.open {
                Some((end, colour)) => {
                    let found = rest.find(end).map(|at| at + end.len());
                    if found.is_some() {
                        self.open = None;
                    }
                    (found.unwrap_or(rest.len()), Some(colour))
                }
                None => self.token(language, rest),
            };
            let (token, after) = rest.split_at(length);
            match colour {
                Some(colour) => out.extend([colour, token, PLAIN]),
                None => out.push_str(token),
            }
            rest = after;
        }
        out
    }

    /// The length of the token that `rest` begins with, and its colour.
    fn token(&mut self, language: &'static Language, rest: &str) -> (usize, Option<&'static str>) {
        if rest.starts_with(language.comment) {
            return (rest.len(), Some(COMMENT));
        }
        if let Some((begin, end)) = language.long.iter().find(|(begin, _)| rest.starts_with(begin)) {
            let colour = if *begin == "/*" { COMMENT } else { STRING };
            self.open = Some((end, colour));
            return (begin.len(), Some(colour));
        }
        let first = rest.chars().next().unwrap_or(' ');
        let run = |of: fn(char) -> bool| rest.find(|c| !of(c)).unwrap_or(rest.len());
        match first {
            '"' | '\'' => match string(rest, first) {
                Some(length) => (length, Some(STRING)),
                None => (first.len_utf8(), None),
            },
            c if c.is_ascii_digit() => {
                (run(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_'), Some(NUMBER))
            }
            c if c.is_alphabetic() || c == '_' => {
                let length = run(|c| c.is_alphanumeric() || c == '_');
                let keyword = language.keywords.split_whitespace().any(|word| word == &rest[..length]);
                (length, keyword.then_some(KEYWORD))
            }
            other => (other.len_utf8(), None),
        }
    }
}

/// The length of the string in quotes that the text begins with, if it ends on this line.
fn string(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(text: &str) -> String {
        [KEYWORD, STRING, NUMBER, COMMENT, PLAIN]
            .iter()
            .fold(text.to_owned(), |text, code| text.replace(code, ""))
    }

    #[test]
    fn code_is_coloured_and_not_changed() {
        let mut rust = Code::new("rust");
        let line = "let x = \"a // b\"; /* one";
        let shown = rust.line(line);
        assert!(
            shown.contains("\x1b[35mlet\x1b[0m") && shown.contains("\x1b[32m\"a // b\"\x1b[0m"),
            "{shown:?}"
        );
        assert_eq!(bare(&shown), line);
        assert_eq!(rust.line("two */ 3"), "\x1b[90mtwo */\x1b[0m \x1b[36m3\x1b[0m");
        for line in ["é'ö", "fn f<'a>(x: &'a str) {}", "\"open", "#[x]"] {
            assert_eq!(bare(&Code::new("rs").line(line)), line);
        }
        assert_eq!(Code::new("unknown").line("let"), "let");
    }
}
