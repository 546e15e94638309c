//! Tests against the public corpora in `../shared/corpora` (or `ODP_CORPORA`); without them they say so and end.

use std::fs;
use std::path::{Path, PathBuf};

use geo::relate::IntersectionMatrix;
use geo::{Coord, Geometry, MapCoords};

use crate::geo::area::Area;
use crate::geo::predicate::PredicateKind;
use crate::geo::wkb::{parse_wkb, to_wkb};
use crate::geo::wkt::{parse_wkt, to_wkt};

fn corpora(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora");
    let root = std::env::var_os("ODP_CORPORA").map_or_else(beside, PathBuf::from);
    let found = root.join(path);
    if !found.exists() {
        println!("ignored: no {}", found.display());
        return None;
    }
    Some(found)
}

#[test]
fn sedona_wkt_and_wkb_are_the_same_geometries() {
    let Some(dir) = corpora("apache_sedona-testing/data/parsing") else { return };
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let (wkt, wkb) = (read("example-wkt.tsv"), read("example-wkb-le.tsv"));
    let column = |line: &str| line.split('\t').nth(2).unwrap().trim().to_owned();
    let mut count = 0;
    for (wkt, wkb) in wkt.lines().skip(1).zip(wkb.lines().skip(1)) {
        let (wkt, hex) = (column(wkt), column(wkb));
        if wkt.is_empty() && hex.is_empty() {
            continue; // NULL
        }
        let bytes = from_hex(&hex).unwrap();
        let geometry = parse_wkt(&wkt).unwrap_or_else(|error| panic!("{wkt}: {error}"));
        assert_eq!(parse_wkb(&bytes).unwrap_or_else(|error| panic!("{hex}: {error}")), geometry, "{wkt}");
        assert_eq!(parse_wkt(&to_wkt(&geometry)).unwrap(), geometry);
        assert_eq!(parse_wkb(&to_wkb(&geometry).unwrap()).unwrap(), geometry);
        for end in 0..bytes.len() {
            assert!(parse_wkb(&bytes[..end]).is_err(), "{wkt} cut at {end}");
        }
        for at in 0..bytes.len() {
            // Whatever a damaged byte does, it is no panic and no runaway.
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            let _ = parse_wkb(&damaged).map(Area::try_new);
        }
        count += 1;
    }
    assert!(count > 100, "{count}");
}

#[test]
fn jts_predicates_answer_as_expected() {
    let Some(dir) = corpora("georust_geo/jts-test-runner/resources/testxml") else { return };
    let (mut right, mut wrong, mut skipped) = (0, vec![], 0);
    for folder in ["general", "misc", "robust", "validate"] {
        for entry in fs::read_dir(dir.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for case in text.split("<case>").skip(1) {
                for (a, b, kind, expected) in expectations(case, &mut skipped) {
                    let answer = Area::try_new(b.clone()).and_then(|area| area.relate(kind, &a));
                    if answer == Ok(expected) {
                        right += 1;
                    } else {
                        let name = path.file_name().unwrap().to_string_lossy().into_owned();
                        wrong.push(format!(
                            "{folder}/{name}: {kind:?} gave {answer:?}\n  {}\n  {}",
                            to_wkt(&a),
                            to_wkt(&b)
                        ));
                    }
                }
            }
        }
    }
    println!("right {right}, wrong {}, skipped {skipped}", wrong.len());
    for line in &wrong {
        println!("{}", line.chars().take(400).collect::<String>());
    }
    assert!(right > 11_500);
    assert!(wrong.len() <= KNOWN_WRONG, "{} wrong", wrong.len());
}

/// In `TestRobustRelateFloat.xml`: a point that is on an edge in decimal, but inside as the nearest `f64`s, where
/// we are exact.
const KNOWN_WRONG: usize = 1;

/// What a case says of the predicates between its geometries.
fn expectations(case: &str, skipped: &mut usize) -> Vec<(Geometry<f64>, Geometry<f64>, PredicateKind, bool)> {
    let geometry = |tag: &str| {
        let text = between(case, &format!("<{tag}>"), &format!("</{tag}>"))?.trim().to_owned();
        let parsed = from_hex(&text).map_or_else(|| parse_wkt(&text), |bytes| parse_wkb(&bytes));
        // Scaled by a power of two, so that coordinates stay exact and none is taken for a longitude past 180.
        Some(parsed.ok()?.map_coords(|at| Coord { x: at.x / 65536.0, y: at.y / 65536.0 }))
    };
    let (Some(a), Some(b)) = (geometry("a"), geometry("b")) else {
        let asked =
            PredicateKind::ALL.iter().any(|kind| case.contains(&format!("\"{}\"", &kind.name()[3..])));
        if asked || case.contains("\"relate\"") {
            *skipped += 1;
            println!("skipped: {}", case.chars().take(300).collect::<String>());
        }
        return vec![];
    };
    let mut found = vec![];
    for op in case.split("<op").skip(1) {
        let Some((head, body)) = op.split_once('>') else { continue };
        let attribute = |name: &str| {
            between(&head.replace('\'', "\""), &format!("{name}=\""), "\"").map(|v| v.to_ascii_lowercase())
        };
        let Some(expected) = body.split('<').next().and_then(|text| text.trim().parse::<bool>().ok()) else {
            continue;
        };
        let (left, right) = match (attribute("arg1").as_deref(), attribute("arg2").as_deref()) {
            (Some("a"), Some("b")) => (&a, &b),
            (Some("b"), Some("a")) => (&b, &a),
            _ => continue,
        };
        let name = attribute("name").unwrap_or_default().replace("equalstopo", "equals");
        if let Some(kind) = PredicateKind::ALL.into_iter().find(|kind| kind.name()[3..] == name) {
            found.push((left.clone(), right.clone(), kind, expected));
        } else if let (true, true, Some(matrix)) = (name == "relate", expected, attribute("arg3")) {
            let matrix = matrix.to_ascii_uppercase();
            if matrix.bytes().all(|cell| b"F012".contains(&cell))
                && let Ok(matrix) = matrix.parse::<IntersectionMatrix>()
            {
                for kind in PredicateKind::ALL {
                    found.push((left.clone(), right.clone(), kind, kind.of_matrix(&matrix)));
                }
            }
        }
    }
    found
}

fn between(text: &str, start: &str, end: &str) -> Option<String> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner.to_owned())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits =
        text.len() >= 10 && text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| {
        (0..text.len()).step_by(2).filter_map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
    })
}
