//! The outside of a ticket: prefix, base64, checksum, compression.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use crate::error::OdpError;

/// What a ticket of this version starts with.
const PREFIX: &str = "odp1.";

/// Longest text that is looked at, in bytes: the digits of [`MAX_CONTENT`] fit.
const MAX_TEXT: usize = 48 << 20;

/// Longest content that is unpacked, in bytes: an area of a million vertices fits.
const MAX_CONTENT: usize = 64 << 20;

/// Most values in the content, about. Each takes many times the bytes that it is written in.
const MAX_VALUES: usize = 1 << 20;

pub(super) fn encode(content: &str) -> String {
    let mut packer = DeflateEncoder::new(Vec::new(), Compression::best());
    // Writing to memory does not fail; if it did, the checksum would tell the reader.
    let packed = packer.write_all(content.as_bytes()).and_then(|()| packer.finish()).unwrap_or_default();
    let mut bytes = checksum(&packed).to_le_bytes().to_vec();
    bytes.extend(packed);
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

pub(super) fn decode(text: &str) -> Result<String, OdpError> {
    if text.len() > MAX_TEXT {
        return Err(invalid(format!("{} bytes, at most {MAX_TEXT} are read", text.len())));
    }
    let Some(body) = text.strip_prefix(PREFIX) else {
        let start: String = text.chars().take(8).collect();
        return Err(invalid(format!("it starts with {start:?}, not with {PREFIX:?}")));
    };
    let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|error| invalid(format!("not base64: {error}")))?;
    let Some((sum, packed)) = bytes.split_first_chunk::<4>() else {
        return Err(invalid("it is cut off".into()));
    };
    if checksum(packed) != u32::from_le_bytes(*sum) {
        return Err(invalid("its checksum is wrong: it was cut off or changed on its way".into()));
    }
    let content = unpacked(packed, MAX_CONTENT)?;
    check_content(&content, 0)?;
    Ok(content)
}

/// # Errors
/// [`OdpError::InvalidTicket`] if there are too many values in the JSON `content`, or it is too long, with `room` left for
/// more of it.
pub(super) fn check_content(content: &str, room: usize) -> Result<(), OdpError> {
    let (mut values, mut is_text, mut is_escaped) = (1, false, false);
    for byte in content.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            b',' | b':' | b'[' | b'{' if !is_text => values += 1,
            _ => {}
        }
    }
    if values + room > MAX_VALUES {
        return Err(invalid(format!("its content has about {values} values, at most {MAX_VALUES} are read")));
    }
    if content.len() + room > MAX_CONTENT {
        let bytes = content.len();
        return Err(invalid(format!("its content has {bytes} bytes, at most {MAX_CONTENT} are read")));
    }
    Ok(())
}

fn unpacked(packed: &[u8], max: usize) -> Result<String, OdpError> {
    let mut content = Vec::new();
    let mut unpacker = DeflateDecoder::new(packed).take(max as u64 + 1);
    unpacker.read_to_end(&mut content).map_err(|error| invalid(format!("it cannot be unpacked: {error}")))?;
    if content.len() > max {
        return Err(invalid(format!("its content is longer than {max} bytes")));
    }
    String::from_utf8(content).map_err(|_| invalid("its content is not UTF-8".into()))
}

pub(super) fn invalid(reason: String) -> OdpError {
    OdpError::InvalidTicket { reason }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// FNV-1a, 64 bits.
pub(super) fn fingerprint(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_survives_and_every_changed_byte_is_noticed() {
        let content = r#"{"path":"a/b c.parquet","rows":5}"#;
        let text = encode(content);
        assert_eq!(decode(&text).unwrap(), content);
        for at in 0..text.len() {
            for replacement in ["A", "_", "!", ""] {
                let mut garbled = text.clone();
                garbled.replace_range(at..=at, replacement);
                if garbled != text {
                    assert!(decode(&garbled).is_err(), "{garbled}");
                }
            }
        }
        for cut in 0..text.len() {
            assert!(decode(&text[..cut]).is_err());
        }
    }

    #[test]
    fn a_small_text_does_not_unpack_to_more_than_the_limit() {
        let mut packer = DeflateEncoder::new(Vec::new(), Compression::best());
        packer.write_all(&[b'a'; 10_000]).unwrap();
        let packed = packer.finish().unwrap();
        assert!(packed.len() < 100);
        assert!(unpacked(&packed, 9_999).unwrap_err().to_string().contains("longer than 9999"));
        assert_eq!(unpacked(&packed, 10_000).unwrap().len(), 10_000);
    }

    #[test]
    fn a_small_text_does_not_become_millions_of_values() {
        let numbers = |count: usize| format!("[{}0]", "0,".repeat(count));
        assert!(decode(&encode(&numbers(MAX_VALUES - 2))).is_ok());
        for content in [numbers(MAX_VALUES), "[".repeat(MAX_VALUES), "{\"a\":".repeat(MAX_VALUES)] {
            let text = encode(&content);
            assert!(text.len() < 20_000);
            assert!(decode(&text).unwrap_err().to_string().contains("values, at most"));
        }
        // An area is one value, whatever is in it.
        let area = format!("{{\"vars\":\"[\\\"POLYGON(({})\\\"]\"}}", "0,[{:".repeat(MAX_VALUES));
        assert!(check_content(&area, 100).is_ok());
        assert!(check_content(&area, MAX_VALUES).is_err());
    }
}
