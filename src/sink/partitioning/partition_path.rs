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

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::dataset::parse_partition_segment;
    use datafusion::object_store::local::LocalFileSystem;
    use datafusion::object_store::memory::InMemory;
    use datafusion::object_store::path::Path;
    use datafusion::object_store::{ObjectStore, ObjectStoreExt};
    use futures::TryStreamExt;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    const HOSTILE: [&str; 48] = [
        "",
        ".",
        "..",
        "...",
        "../..",
        "/",
        "//",
        "a/b",
        "/etc/passwd",
        "\\",
        "..\\x",
        "%",
        "%2F",
        "%2f",
        "%25",
        "%zz",
        "=",
        "a=b",
        "#1",
        "?x",
        "a&b",
        "\0",
        "\n",
        "\r\n",
        "\t",
        "\u{7f}",
        "\u{85}",
        " ",
        "  ",
        " a",
        "a ",
        "a.",
        ".a",
        "🐟",
        "👩‍🔬",
        "é",
        "e\u{301}",
        "NULL",
        "null",
        "__HIVE_DEFAULT_PARTITION__",
        "%5F_HIVE_DEFAULT_PARTITION__",
        "CON",
        "a",
        "A",
        "~",
        "a:b*c?\"<>|",
        "[x]{y}^`'",
        "\u{202e}txt\u{feff}",
    ];

    fn segment(value: Option<&str>) -> String {
        partition_directory(&["k".into()], &[value.map(String::from)]).unwrap()
    }

    fn is_harmless(segment: &str) -> bool {
        let name = segment.strip_prefix("k=");
        let reserved = |c: char| c.is_control() || "/\\:*?\"<>|#[]{}^'&`=".contains(c);
        segment.len() <= 255
            && name.is_some_and(|name| !name.contains(reserved) && !name.ends_with(['.', ' ']))
            && Path::parse(segment).is_ok_and(|path| path.as_ref() == segment)
    }

    #[test]
    fn hostile_values_stay_in_their_directory_and_are_read_back() {
        let mut segments = HashSet::new();
        for value in HOSTILE.iter().map(|value| Some(*value)).chain([None]) {
            let segment = segment(value);
            assert!(is_harmless(&segment), "{segment}");
            assert_eq!(
                parse_partition_segment(&segment),
                Some(("k".into(), value.map(String::from))),
                "{segment}"
            );
            assert!(segments.insert(segment));
        }
        assert_eq!(segment(None), "k=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(segment(Some("")), "k=");
        assert_eq!(segment(Some("..")), "k=%2E%2E");
        assert_eq!(segment(Some("a/b c.d")), "k=a%2Fb c.d");
        assert_eq!(segment(Some("blåhval 🐟")), "k=blåhval 🐟");
    }

    #[test]
    fn random_values_stay_in_their_directory_and_are_read_back() {
        let seed = 39;
        let mut random = StdRng::seed_from_u64(seed);
        let alphabet: Vec<char> = HOSTILE.concat().chars().chain('a'..='f').chain('0'..='9').collect();
        let mut seen: HashMap<String, String> = HashMap::new();
        for _ in 0..20_000 {
            let length = random.random_range(0..40) * if random.random_ratio(1, 50) { 20 } else { 1 };
            let value: String = (0..length)
                .map(|_| match random.random_ratio(1, 10) {
                    true => random.random::<char>(),
                    false => alphabet[random.random_range(0..alphabet.len())],
                })
                .collect();
            let segment = segment(Some(&value));
            assert!(is_harmless(&segment), "{value:?}: {segment}, seed {seed}");
            if !segment.contains('~') {
                assert_eq!(
                    parse_partition_segment(&segment),
                    Some(("k".into(), Some(value.clone()))),
                    "seed {seed}"
                );
            }
            let other = seen.insert(segment, value.clone());
            assert!(other.is_none_or(|other| other == value), "{value:?}, seed {seed}");
        }
    }

    #[test]
    fn long_values_end_in_a_hash_of_all_of_them() {
        let long = |end: &str| segment(Some(&format!("{}{end}", "ø".repeat(300))));
        let (one, other) = (long("1"), long("2"));
        assert_eq!(one, format!("k={}~{}", "ø".repeat(60), &one[one.len() - 32..]));
        assert_ne!(one, other);
        assert_eq!(one, long("1"));
        // An escape is not cut, whatever its place.
        for offset in 0..4 {
            let segment = segment(Some(&format!("{}{}", "a".repeat(offset), "/".repeat(200))));
            let (kept, _) = segment.split_once('~').unwrap();
            assert!(kept.ends_with("%2F"), "{segment}");
        }
        assert_eq!(segment(Some(&"a".repeat(253))).len(), 255);
        assert!(segment(Some(&"a".repeat(254))).contains('~'));
        // FNV's own test vector.
        assert_eq!(fnv1a_128(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    #[test]
    fn long_names_leave_space_for_a_value_or_are_refused() {
        let name = "n".repeat(221);
        let directory = partition_directory(std::slice::from_ref(&name), &[Some("v".repeat(40))]).unwrap();
        assert_eq!(directory.len(), 255);
        assert!(partition_directory(&[format!("{name}n")], &[None]).is_err());
        assert!(partition_directory(&[String::new()], &[None]).is_err());
        let directory =
            partition_directory(&["a=b/..".into(), ".c".into()], &[None, Some("1".into())]).unwrap();
        assert_eq!(directory, "a%3Db%2F%2E%2E=__HIVE_DEFAULT_PARTITION__/%2Ec=1");
    }

    #[tokio::test]
    async fn stores_list_directories_as_they_were_written() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let local = LocalFileSystem::new_with_prefix(&root).unwrap();
        let stores: [&dyn ObjectStore; 2] = [&local, &InMemory::new()];
        for store in stores {
            let mut written: Vec<String> = HOSTILE
                .iter()
                .map(|value| Some((*value).to_owned()))
                .chain([None, Some("x".repeat(400))])
                .map(|value| {
                    partition_directory(&["ø k".into(), "l".into()], &[value.clone(), value]).unwrap()
                })
                .map(|directory| format!("{directory}/0.parquet"))
                .collect();
            for path in &written {
                store.put(&Path::parse(path).unwrap(), "rows".into()).await.unwrap();
            }
            let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
            let mut listed: Vec<_> = listed.into_iter().map(|object| object.location.to_string()).collect();
            listed.sort();
            written.sort();
            assert_eq!(listed, written);
        }
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
