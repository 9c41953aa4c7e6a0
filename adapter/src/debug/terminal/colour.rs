//! Colours of Python source, for a terminal. A line at a time would not do: strings go over several.

const RESET: &str = "\x1b[0m";

/// What a stretch of source is; plain where it is nothing of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Keyword,
    Text,
    Number,
    Comment,
    Definition,
    Decorator,
}

impl Kind {
    fn colour(self) -> &'static str {
        match self {
            Kind::Plain => "",
            Kind::Keyword => "\x1b[34m",
            Kind::Text => "\x1b[32m",
            Kind::Number => "\x1b[36m",
            Kind::Comment => "\x1b[90m",
            Kind::Definition => "\x1b[33m",
            Kind::Decorator => "\x1b[35m",
        }
    }
}

const KEYWORDS: [&str; 38] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "case", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "match",
    "nonlocal", "not", "or", "pass", "raise", "return", "try", "type", "while", "with", "yield",
];
/// These are names too, where no statement begins with them.
const SOFT: [&str; 3] = ["case", "match", "type"];

/// A source with colours; each line stands for itself.
pub fn paint(source: &str) -> String {
    let mut painted = String::with_capacity(source.len() * 2);
    let mut lexer = Lexer { rest: source, begins_line: true, defines: false };
    while let Some((kind, text)) = lexer.next() {
        for (place, line) in text.split('\n').enumerate() {
            if place > 0 {
                painted.push('\n');
            }
            match kind {
                _ if line.is_empty() => {}
                Kind::Plain => painted.push_str(line),
                kind => painted.extend([kind.colour(), line, RESET]),
            }
        }
    }
    painted
}

struct Lexer<'a> {
    rest: &'a str,
    /// Nothing but blanks came before on this line.
    begins_line: bool,
    /// The word before was `def` or `class`.
    defines: bool,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Option<(Kind, &'a str)> {
        let first = self.rest.chars().next()?;
        let (kind, length) = match first {
            '#' => (Kind::Comment, self.rest.find('\n').unwrap_or(self.rest.len())),
            '@' if self.begins_line => {
                (Kind::Decorator, length_while(self.rest, |c| c == '@' || c == '.' || in_name(c)))
            }
            '"' | '\'' => (Kind::Text, string_length(self.rest)),
            c if c.is_ascii_digit() => (Kind::Number, length_while(self.rest, |c| c == '.' || in_name(c))),
            c if in_name(c) => self.word(),
            c => (Kind::Plain, c.len_utf8()),
        };
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        if !text.trim().is_empty() || text.contains('\n') {
            self.begins_line = text.ends_with('\n');
            self.defines = matches!(text, "def" | "class");
        }
        Some((kind, text))
    }

    fn word(&self) -> (Kind, usize) {
        let length = length_while(self.rest, in_name);
        let (word, rest) = self.rest.split_at(length);
        let is_prefix = length <= 2 && word.chars().all(|c| "rRbBuUfF".contains(c));
        if is_prefix && rest.starts_with(['"', '\'']) {
            return (Kind::Text, length + string_length(rest));
        }
        let is_statement = self.begins_line && rest.starts_with(' ') && !rest.trim_start().starts_with(['=', '.', ',']);
        let kind = match word {
            _ if self.defines => Kind::Definition,
            word if SOFT.contains(&word) && !is_statement => Kind::Plain,
            word if KEYWORDS.contains(&word) => Kind::Keyword,
            _ => Kind::Plain,
        };
        (kind, length)
    }
}

fn in_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn length_while(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The length of the string that begins here; one that is not closed ends with its line.
fn string_length(text: &str) -> usize {
    let quote = &text[..1];
    let triple = quote.repeat(3);
    let close = if text.starts_with(&triple) { &triple } else { quote };
    let mut at = close.len();
    while let Some(next) = text[at..].chars().next() {
        if text[at..].starts_with(close) {
            return at + close.len();
        }
        if next == '\n' && close.len() == 1 {
            return at;
        }
        at += next.len_utf8();
        if next == '\\' {
            at += text[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(painted: &str) -> String {
        let mut text = String::new();
        let mut parts = painted.split('\x1b');
        text.push_str(parts.next().unwrap_or_default());
        parts.for_each(|part| text.push_str(part.split_once('m').map_or("", |(_, rest)| rest)));
        text
    }

    #[test]
    fn only_colours_are_added() {
        for source in [
            "def f(a):\n    '''x\n    y'''\n    return a # z\n",
            "'open\nx = \"\\",
            "é = f'{a}'",
            "@a.b\nclass C: pass",
            "",
        ] {
            assert_eq!(plain(&paint(source)), source);
        }
    }

    #[test]
    fn each_line_of_a_string_stands_for_itself() {
        assert_eq!(paint("'''a\nb'''"), "\x1b[32m'''a\x1b[0m\n\x1b[32mb'''\x1b[0m");
    }

    #[test]
    fn words_are_told_apart() {
        assert_eq!(paint("def iff(x): # if"), "\x1b[34mdef\x1b[0m \x1b[33miff\x1b[0m(x): \x1b[90m# if\x1b[0m");
        assert_eq!(paint("match = rb'\\''"), "match = \x1b[32mrb'\\''\x1b[0m");
        assert_eq!(paint("a1 + 0x1f"), "a1 + \x1b[36m0x1f\x1b[0m");
    }
}
