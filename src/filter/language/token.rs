//! Tokens, read one at a time: which of them can stand at a place depends on what was read before.
//!
//! The reference reads the same way, hence its quirks: no keyword needs a blank after it where an operator may stand
//! (`n == 1 orok`), keywords are column names where an operand may start (`within within within`), and a sign
//! belongs to a number only there.

use std::ops::Range;

use super::ast::BinaryOperator;
use super::error::{FilterError, cut};

/// What an operand starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OperandToken<'a> {
    /// A name that is no `not`.
    Name(&'a str),
    /// `not` in any case, or `~`.
    Not,
    /// As written.
    Number(&'a str),
    /// With its quotes.
    Double(&'a str),
    /// With its quotes.
    Single(&'a str),
    /// `?`.
    Positional,
    /// `$name`.
    Named(&'a str),
    Open,
}

/// What can follow an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FollowToken {
    Binary(BinaryOperator),
    /// `is`, before `null` or `not null`.
    Is,
    Dot,
    Comma,
    Close,
    End,
}

/// Where an operator may stand, longer spellings first. Keywords in upper case are those of the reference.
const OPERATORS: [(&str, BinaryOperator); 21] = [
    ("and", BinaryOperator::And),
    ("AND", BinaryOperator::And),
    ("or", BinaryOperator::Or),
    ("OR", BinaryOperator::Or),
    ("==", BinaryOperator::Equal),
    // Of the live service.
    ("=", BinaryOperator::Equal),
    ("!=", BinaryOperator::NotEqual),
    ("!~", BinaryOperator::NotCoarse),
    ("~", BinaryOperator::Coarse),
    ("intersect", BinaryOperator::Intersects),
    ("within", BinaryOperator::Within),
    ("contains", BinaryOperator::Contains),
    ("<=", BinaryOperator::LessOrEqual),
    ("<", BinaryOperator::Less),
    (">=", BinaryOperator::GreaterOrEqual),
    (">", BinaryOperator::Greater),
    ("+", BinaryOperator::Add),
    ("-", BinaryOperator::Subtract),
    ("*", BinaryOperator::Multiply),
    ("/", BinaryOperator::Divide),
    ("%", BinaryOperator::Modulo),
];

/// What people write who know other languages, and what to write here.
const FOREIGN: [(&str, &str); 13] = [
    ("<>", "for `not equal` write `!=`"),
    ("&&", "write `and`"),
    ("&", "write `and`"),
    ("||", "write `or`"),
    ("|", "write `or`"),
    ("!", "for `not equal` write `!=`"),
    ("and", "`and` is written in lower case or in upper case"),
    ("or", "`or` is written in lower case or in upper case"),
    ("within", "`within` is written in lower case"),
    ("contain", "write `contains`, in lower case"),
    ("intersect", "`intersect` is written in lower case"),
    ("in", "write `name == 1 or name == 2`"),
    ("between", "write `name >= 1 and name <= 2`"),
];

/// Reads tokens of a text from a place on.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// Where the next token, or the blanks before it, start.
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn skip_blanks(&mut self) {
        let rest = self.rest();
        let blanks = rest.bytes().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\x0c' | b'\r' | b'\n'));
        self.at += blanks.count();
    }

    /// Takes `length` bytes.
    fn take(&mut self, length: usize) -> (&'a str, Range<usize>) {
        let span = self.at..self.at + length;
        self.at = span.end;
        (&self.text[span.clone()], span)
    }

    /// The start of an operand.
    ///
    /// # Errors
    /// Something else stands here, or a quote that is not closed.
    pub(super) fn operand(&mut self) -> Result<(OperandToken<'a>, Range<usize>), FilterError> {
        self.skip_blanks();
        let rest = self.rest();
        let number = number_length(rest);
        if number > 0 {
            let (token, span) = self.take(number);
            return Ok((OperandToken::Number(token), span));
        }
        let name = name_length(rest);
        if name > 0 {
            let (token, span) = self.take(name);
            let is_not = token.eq_ignore_ascii_case("not");
            return Ok((if is_not { OperandToken::Not } else { OperandToken::Name(token) }, span));
        }
        let length = match rest.bytes().next() {
            Some(b'"') => self.double_length()?,
            Some(b'\'') => self.single_length()?,
            _ => 1,
        };
        let start = self.at;
        let token = match rest.bytes().next() {
            Some(b'"') => OperandToken::Double(self.take(length).0),
            Some(b'\'') => OperandToken::Single(self.take(length).0),
            Some(b'(') => {
                self.take(1);
                OperandToken::Open
            }
            Some(b'~') => {
                self.take(1);
                OperandToken::Not
            }
            Some(b'?') => {
                self.take(1);
                OperandToken::Positional
            }
            Some(b'$') => {
                self.take(1);
                self.skip_blanks();
                let (name, _) = self.name("the name of a variable after `$`")?;
                OperandToken::Named(name)
            }
            _ => return Err(self.unexpected("a column, number, text, variable or `(`")),
        };
        Ok((token, start..self.at))
    }

    /// A name, after `.` and `$`: any, `not` too.
    pub(super) fn name(&mut self, expected: &str) -> Result<(&'a str, Range<usize>), FilterError> {
        self.skip_blanks();
        match name_length(self.rest()) {
            0 => Err(self.unexpected(expected)),
            length => Ok(self.take(length)),
        }
    }

    /// Takes the `(` of a call, if it is next.
    pub(super) fn open_call(&mut self) -> bool {
        let mut ahead = self.clone();
        ahead.skip_blanks();
        if ahead.rest().starts_with('(') {
            ahead.take(1);
            self.at = ahead.at;
            return true;
        }
        false
    }

    /// Takes a `)`, if it is next.
    pub(super) fn close(&mut self) -> Option<Range<usize>> {
        let mut ahead = self.clone();
        ahead.skip_blanks();
        if !ahead.rest().starts_with(')') {
            return None;
        }
        let (_, span) = ahead.take(1);
        self.at = ahead.at;
        Some(span)
    }

    /// What follows an operand.
    ///
    /// # Errors
    /// Nothing of the kind stands here.
    pub(super) fn follow(&mut self) -> Result<(FollowToken, Range<usize>), FilterError> {
        self.skip_blanks();
        let rest = self.rest();
        // Only as a whole word: the reference reads `intersectsea` as `intersect sea`.
        let is_inside_name =
            |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
        if rest.strip_prefix("intersects").is_some_and(|rest| !is_inside_name(rest.as_bytes().first())) {
            let (_, span) = self.take("intersects".len());
            return Ok((FollowToken::Binary(BinaryOperator::Intersects), span));
        }
        if rest.starts_with("<>") {
            return Err(self.unexpected("an operator or the end"));
        }
        if let Some((spelling, operator)) = OPERATORS.iter().find(|(spelling, _)| rest.starts_with(spelling))
        {
            let (_, span) = self.take(spelling.len());
            return Ok((FollowToken::Binary(*operator), span));
        }
        if starts_with_word(rest, "is") {
            let (_, span) = self.take(2);
            return Ok((FollowToken::Is, span));
        }
        let token = match rest.bytes().next() {
            None => return Ok((FollowToken::End, self.at..self.at)),
            Some(b'.') => FollowToken::Dot,
            Some(b',') => FollowToken::Comma,
            Some(b')') => FollowToken::Close,
            Some(_) => return Err(self.unexpected("an operator or the end")),
        };
        let (_, span) = self.take(1);
        Ok((token, span))
    }

    /// What follows `is`: whether it is negated, and where it ends.
    ///
    /// # Errors
    /// Neither `null` nor `not null` stands here.
    pub(super) fn null_test(&mut self) -> Result<(bool, usize), FilterError> {
        self.skip_blanks();
        let is_negated = starts_with_word(self.rest(), "not");
        if is_negated {
            self.take(3);
            self.skip_blanks();
        }
        if starts_with_word(self.rest(), "null") || self.rest().starts_with("None") {
            self.take(4);
            return Ok((is_negated, self.at));
        }
        Err(self.unexpected(if is_negated {
            "`null` after `is not`"
        } else {
            "`null` or `not null` after `is`"
        }))
    }

    /// Says what stands at this place instead of what was expected.
    pub(super) fn unexpected(&self, expected: &str) -> FilterError {
        let mut ahead = self.clone();
        ahead.skip_blanks();
        let rest = ahead.rest();
        let Some(first) = rest.chars().next() else {
            return FilterError::new(ahead.at..ahead.at, format!("expected {expected}, found the end"));
        };
        let length = match name_length(rest) {
            0 => rest.len() - rest.trim_start_matches(|c| "<>=!&|~*".contains(c)).len(),
            length => length,
        };
        let found = &rest[..length.max(first.len_utf8())];
        let lower = found.to_ascii_lowercase();
        let is_follow = expected.contains("operator");
        let hint = FOREIGN.iter().find(|(foreign, _)| {
            let is_word = foreign.starts_with(|c: char| c.is_alphabetic());
            is_follow && if is_word { lower.trim_end_matches('s') == *foreign } else { lower == *foreign }
        });
        let hint = match (hint, first) {
            (Some((_, hint)), _) => format!("; {hint}"),
            (None, '`' | '[') => "; columns are named without quotes or brackets".to_owned(),
            (None, '!') => "; write `not`".to_owned(),
            (None, '“' | '”' | '„' | '‘' | '’') => "; texts stand between \" or '".to_owned(),
            (None, '+' | '-') if !is_follow => "; a sign belongs to the digits right after it".to_owned(),
            _ => String::new(),
        };
        let reason = format!("expected {expected}, found `{}`{hint}", cut(found, 40));
        FilterError::new(ahead.at..ahead.at + found.len(), reason)
    }

    /// The length of a text between double quotes: on one line, up to a quote without a backslash before it.
    fn double_length(&self) -> Result<usize, FilterError> {
        let rest = self.rest();
        let mut is_escaped = false;
        for (at, byte) in rest.bytes().enumerate().skip(1) {
            match byte {
                b'\n' => break,
                b'"' if !is_escaped => return Ok(at + 1),
                b'\\' => is_escaped = !is_escaped,
                _ => is_escaped = false,
            }
        }
        Err(FilterError::new(
            self.at..self.at + 1,
            "the text that starts here has no closing `\"` on its line",
        ))
    }

    /// The length of a text between single quotes, which holds none, escaped or doubled.
    fn single_length(&self) -> Result<usize, FilterError> {
        match self.rest().bytes().skip(1).position(|byte| byte == b'\'') {
            Some(inner) => Ok(inner + 2),
            None => {
                Err(FilterError::new(self.at..self.at + 1, "the text that starts here has no closing `'`"))
            }
        }
    }
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.as_bytes().get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
}

/// The length of the name at the start of a text; 0 if there is none.
fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

/// The length of the number at the start of a text, with its sign; 0 if there is none.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let sign_at = |at: usize| usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
    let mut at = sign_at(0);
    let whole = digits(at);
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if whole + fraction == 0 {
            return 0;
        }
        at += 1 + fraction;
    } else if whole == 0 {
        return 0;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = sign_at(at + 1);
        let exponent = digits(at + 1 + sign);
        if exponent > 0 {
            at += 1 + sign + exponent;
        }
    }
    at
}
