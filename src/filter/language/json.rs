//! JSON as far as variables need it. `serde_json` reads some numbers as a neighbour of the nearest double, unless a
//! feature is on that other crates decide about; here numbers stay as they are written.

use super::error::cut;

/// Variables are an object or array of objects of scalars.
const MAX_DEPTH: usize = 8;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Boolean(bool),
    /// As written.
    Number(String),
    Text(String),
    Array(Vec<Self>),
    /// In the order of the text; names may repeat.
    Object(Vec<(String, Self)>),
}

/// Reads a JSON text.
///
/// # Errors
/// A text that is no JSON, or nested deeper than variables are.
pub(super) fn read(text: &str) -> Result<Json, String> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value(0)?;
    reader.skip_blanks();
    if reader.at < text.len() { Err(reader.wrong("the end")) } else { Ok(value) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.next(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn wrong(&self, expected: &str) -> String {
        let found = match self.text.get(self.at..) {
            None | Some("") => "the end".to_owned(),
            Some(rest) => format!("`{}`", cut(rest, 20)),
        };
        format!("the variables are no JSON: expected {expected} at byte {}, found {found}", self.at)
    }

    /// Takes a byte, if it is next after blanks.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let is_next = self.next() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Json, String> {
        self.skip_blanks();
        if depth > MAX_DEPTH {
            return Err("the variables are nested too deep, expected an object or array of values".to_owned());
        }
        match self.next() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let rest = &self.text[self.at..];
                let words =
                    [("null", Json::Null), ("true", Json::Boolean(true)), ("false", Json::Boolean(false))];
                match words.into_iter().find(|(word, _)| rest.starts_with(word)) {
                    Some((word, value)) => {
                        self.at += word.len();
                        Ok(value)
                    }
                    None => Err(self.wrong("a value")),
                }
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, String> {
        self.at += 1;
        let mut values = vec![];
        if self.take(b']') {
            return Ok(Json::Array(values));
        }
        loop {
            values.push(self.value(depth + 1)?);
            if self.take(b']') {
                return Ok(Json::Array(values));
            }
            if !self.take(b',') {
                return Err(self.wrong("`,` or `]`"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, String> {
        self.at += 1;
        let mut members = vec![];
        if self.take(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_blanks();
            if self.next() != Some(b'"') {
                return Err(self.wrong("a name in double quotes"));
            }
            let name = self.string()?;
            if !self.take(b':') {
                return Err(self.wrong("`:`"));
            }
            members.push((name, self.value(depth + 1)?));
            if self.take(b'}') {
                return Ok(Json::Object(members));
            }
            if !self.take(b',') {
                return Err(self.wrong("`,` or `}`"));
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let rest = &self.text[self.at..];
        let mut is_escaped = false;
        let end = rest.bytes().skip(1).position(|byte| {
            let is_end = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            is_end
        });
        let quoted =
            end.and_then(|inner| rest.get(..inner + 2)).ok_or_else(|| self.wrong("a text with its end"))?;
        let text = serde_json::from_str(quoted).map_err(|_| self.wrong("a text with the escapes of JSON"))?;
        self.at += quoted.len();
        Ok(text)
    }

    fn number(&mut self) -> Result<Json, String> {
        let rest = &self.text[self.at..];
        let length =
            rest.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        let written = &rest[..length.count()];
        // For the form alone; and whether a double can hold it.
        if serde_json::from_str::<serde_json::Number>(written).is_err() {
            return Err(self.wrong("a number in the range of doubles"));
        }
        self.at += written.len();
        Ok(Json::Number(written.to_owned()))
    }
}

impl std::fmt::Display for Json {
    /// For messages: numbers and texts as they are, of the others their kind.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Number(written) => f.write_str(written),
            Self::Text(text) => f.write_str(&super::text::quote(text)),
            Self::Array(_) => f.write_str("an array"),
            Self::Object(_) => f.write_str("an object"),
        }
    }
}
