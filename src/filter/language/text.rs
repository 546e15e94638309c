//! Texts between quotes: double ones have the escapes of JSON, single ones those of Python.

/// Reads what stands between double quotes.
///
/// # Errors
/// An escape that JSON does not know, a control character, or half of a surrogate pair.
pub(super) fn decode_double(quoted: &str) -> Result<String, String> {
    serde_json::from_str(quoted).map_err(|_| {
        "expected the escapes of JSON between double quotes: \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX, and no \
         control characters"
            .to_owned()
    })
}

/// Reads what stands between single quotes.
///
/// # Errors
/// An escape cut short, a character by name or that is none, a line break or a NUL.
pub(super) fn decode_single(quoted: &str) -> Result<String, String> {
    let inner = quoted.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).unwrap_or(quoted);
    let mut decoded = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\r' => {
                return Err("a text in quotes ends on its line: write \\n for a line break".to_owned());
            }
            '\0' => return Err("a text holds a NUL character: write \\0".to_owned()),
            '\\' => escape(&mut rest, &mut decoded)?,
            c => decoded.push(c),
        }
    }
    Ok(decoded)
}

fn escape(rest: &mut std::str::Chars<'_>, decoded: &mut String) -> Result<(), String> {
    let Some(c) = rest.next() else {
        return Err("a backslash stands before the closing quote: write \\\\ for a backslash".to_owned());
    };
    let simple = match c {
        '\n' => return Ok(()),
        '\r' => {
            // Python reads the two characters of a line break as one.
            if rest.as_str().starts_with('\n') {
                rest.next();
            }
            return Ok(());
        }
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' | '\'' | '"' => c,
        'x' => hexadecimal(rest, 2)?,
        'u' => hexadecimal(rest, 4)?,
        'U' => hexadecimal(rest, 8)?,
        '0'..='7' => {
            let mut code = c.to_digit(8).unwrap_or_default();
            for _ in 0..2 {
                let Some(digit) = rest.as_str().chars().next().and_then(|c| c.to_digit(8)) else { break };
                code = code * 8 + digit;
                rest.next();
            }
            character(code)?
        }
        'N' => return Err("characters by name, as in \\N{…}, are not supported: write \\uXXXX".to_owned()),
        // Anything else stays, as in Python.
        other => {
            if other == '\0' {
                return Err("a text holds a NUL character: write \\0".to_owned());
            }
            decoded.push('\\');
            other
        }
    };
    decoded.push(simple);
    Ok(())
}

fn hexadecimal(rest: &mut std::str::Chars<'_>, digits: usize) -> Result<char, String> {
    let mut code = 0u32;
    for _ in 0..digits {
        let digit = rest.next().and_then(|c| c.to_digit(16));
        let digit = digit.ok_or_else(|| format!("expected {digits} hexadecimal digits in an escape"))?;
        code = code.wrapping_mul(16).wrapping_add(digit);
    }
    character(code)
}

fn character(code: u32) -> Result<char, String> {
    char::from_u32(code).ok_or_else(|| format!("an escape names U+{code:04X}, which is no character"))
}

/// A text as it is printed: between double quotes, and readable by [`decode_double`].
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
