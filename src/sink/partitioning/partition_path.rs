//! Partition values as `key=value` directories, that no value leaves.

use std::fmt::Write;

use crate::dataset::NULL_SEGMENT;
use crate::error::OdpError;

/// The limit of file names on Linux, macOS and Windows.
const MAX_SEGMENT_BYTES: usize = 255;

/// What is kept of a value that is too long for a file name.
const MAX_PREFIX_BYTES: usize = 120;

/// `~`, and a hash of 128 bits.
const HASH_BYTES: usize = 1 + 32;

/// The directory of one partition: `year=2020/month=1`.
///
/// `values` are the exact texts of the values of `names`, as [`partition_value_text`] writes them; `None` is NULL.
/// The directory is meant for [`Path::parse`], which leaves it as it is; `Path::from` and `Path::child` would encode
/// it again.
///
/// Distinct values have distinct directories, with one exception: those that are too long for a file name end in a
/// hash, and could in theory be equal. A writer must check that.
/// # Errors
/// [`OdpError::Unsupported`] for a name that leaves no space for a value.
///
/// [`partition_value_text`]: crate::dataset::partition_value_text
/// [`Path::parse`]: datafusion::object_store::path::Path::parse
pub(super) fn partition_directory(names: &[String], values: &[Option<String>]) -> Result<String, OdpError> {
    let mut directory = String::new();
    for (name, value) in names.iter().zip(values) {
        if !directory.is_empty() {
            directory.push('/');
        }
        push_segment(&mut directory, name, value.as_deref())?;
    }
    Ok(directory)
}

/// Whether the name of a column can be the key of a segment, whatever the values.
pub(super) fn fits_segment(name: &str) -> bool {
    !name.is_empty() && encode(name).len() + 1 + HASH_BYTES <= MAX_SEGMENT_BYTES
}

fn push_segment(directory: &mut String, name: &str, value: Option<&str>) -> Result<(), OdpError> {
    if !fits_segment(name) {
        let what =
            format!("partition column {name:?}, whose name is empty or too long for the name of a directory");
        return Err(OdpError::Unsupported { what });
    }
    let start = directory.len();
    directory.push_str(&encode(name));
    directory.push('=');
    let key_bytes = directory.len() - start;
    match value {
        None => directory.push_str(NULL_SEGMENT),
        // With its first character escaped it is a text again, and not the mark of NULL.
        Some(NULL_SEGMENT) => {
            directory.push_str("%5F");
            directory.push_str(&NULL_SEGMENT[1..]);
        }
        Some(text) => {
            let encoded = encode(text);
            if key_bytes + encoded.len() <= MAX_SEGMENT_BYTES {
                directory.push_str(&encoded);
            } else {
                let space = MAX_SEGMENT_BYTES - key_bytes - HASH_BYTES;
                directory.push_str(prefix(&encoded, space.min(MAX_PREFIX_BYTES)));
                // Writing to a string cannot fail.
                let _ = write!(directory, "~{:032x}", fnv1a_128(text.as_bytes()));
            }
        }
    }
    Ok(())
}

/// Percent-encodes what means something in paths, URLs, shells or listings, or cannot be seen.
///
/// Other characters stay, emoji too: Spark decodes each escape as one character, and would misread encoded UTF-8.
fn encode(text: &str) -> String {
    let is_edge = |c: char| c == ' ' || c == '.';
    let leading = text.len() - text.trim_start_matches(is_edge).len();
    let trailing = text.trim_end_matches(is_edge).len();
    let mut encoded = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if is_reserved(c) || (is_edge(c) && (at < leading || at >= trailing)) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(encoded, "%{byte:02X}");
            }
        } else {
            encoded.push(c);
        }
    }
    encoded
}

fn is_reserved(c: char) -> bool {
    match c {
        ' ' => false,
        '/' | '\\' | '%' | '=' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '#' | '[' | ']' | '{' | '}'
        | '^' | '~' | '\'' | '&' | '`' => true,
        // Combining marks: some file systems compose them with the letter before, and two names become one.
        '\u{300}'..='\u{36F}' => true,
        // Marks that are not seen, and change the direction of text.
        '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' => true,
        // XML has no such characters, and object stores list in XML.
        '\u{FFFE}' | '\u{FFFF}' => true,
        other => other.is_control() || other.is_whitespace(),
    }
}

/// The longest start of at most `max_bytes` that cuts neither a character nor an escape.
fn prefix(encoded: &str, max_bytes: usize) -> &str {
    let end = encoded.floor_char_boundary(max_bytes);
    let cut = encoded[..end].rfind('%').filter(|escape| end - escape < 3);
    &encoded[..cut.unwrap_or(end)]
}

/// FNV-1a with 128 bits: the same in all versions and on all machines.
///
/// # Source
/// <https://datatracker.ietf.org/doc/draft-eastlake-fnv/>, section 2.
fn fnv1a_128(bytes: &[u8]) -> u128 {
    const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = (1 << 88) + 0x13b;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}
