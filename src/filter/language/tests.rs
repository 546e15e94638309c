//! The cases of the reference, and trees made at random.

use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::ast::{BinaryOperator, Node, NodeKind};
use super::*;

/// Texts of the case file that its reference refuses, and that are read here as the live service reads them.
pub(crate) const EXTENSIONS: [&str; 13] = [
    "name IS NOT NULL",
    "depth IS NOT NULL AND depth > 100",
    "name Is Null",
    "name is NULL",
    "name is Not null",
    "geom intersects 'POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0))'",
    "n = 1",
    "NOT ok",
    "ok AND NOT nothing",
    "scientificName IS NOT NULL AND minimumDepthInMeters IS NOT NULL",
    "footprintWKT IS NOT NULL",
    "category_name = 'Marine Protected Area' AND iucn_category = 'Ia'",
    // Three columns in a row are a mistake either way; see the test of names that are keywords.
    "",
];

/// The folder with the reference's cases: `../shared/odp`, or `ODP_CASES`.
pub(crate) fn cases_file(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/odp");
    let found = std::env::var_os("ODP_CASES").map_or_else(beside, PathBuf::from).join(name);
    if !found.exists() {
        println!("ignored: no {}", found.display());
        return None;
    }
    Some(found)
}

fn cases() -> Option<Vec<Value>> {
    let text = fs::read_to_string(cases_file("filter_cases.jsonl")?).unwrap();
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn the_cases_of_the_reference_are_read_as_it_reads_them() {
    let Some(cases) = cases() else { return };
    let (mut valid, mut invalid, mut extensions) = (0, 0, 0);
    for case in &cases {
        let text = case["filter"].as_str().unwrap();
        match (parse(text), case["valid"].as_bool().unwrap()) {
            (Ok(ast), true) => {
                assert_eq!(sexpr(&ast), case["sexpr"].as_str().unwrap(), "{text}");
                valid += 1;
            }
            (Err(_), false) => invalid += 1,
            (Ok(_), false) => {
                assert!(EXTENSIONS.contains(&text), "{text:?} is read, and should not be");
                extensions += 1;
            }
            (Err(error), true) => panic!("{text:?}: {}{}", error.reason, error.diagram(text)),
        }
    }
    assert_eq!((valid, invalid, extensions), (234, 75, 12));
}
