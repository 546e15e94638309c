//! How the shell is linked, and which tests have the data they need.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    link_at_a_fixed_address();
    look_for("corpora", "ODP_CORPORA", "has_corpora");
    look_for("odp", "ODP_CASES", "has_cases");
}

/// As `duckdb` and `python3` are: otherwise the 200,000 addresses in the tables of `odp` are written anew at each start,
/// for which it takes 8 MB of memory.
fn link_at_a_fixed_address() {
    let is = |name: &str, expected: &str| env::var(name).is_ok_and(|value| value == expected);
    let is_static =
        env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|on| on.split(',').any(|one| one == "crt-static"));
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && !is_static {
        println!("cargo::rustc-link-arg-bin=odp=-no-pie");
    }
}

/// Tests that need what lies in `../shared/{folder}`, or where `variable` says, are ignored without it.
fn look_for(folder: &str, variable: &str, cfg: &str) {
    println!("cargo::rustc-check-cfg=cfg({cfg})");
    println!("cargo::rerun-if-env-changed={variable}");
    let beside =
        || env::var_os("CARGO_MANIFEST_DIR").map(|root| Path::new(&root).join("../shared").join(folder));
    let found = env::var_os(variable).map(PathBuf::from).or_else(beside);
    if found.is_some_and(|found| found.is_dir()) {
        println!("cargo::rustc-cfg={cfg}");
    }
}
