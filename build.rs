//! How the shell is linked.

/// At a fixed address, as `duckdb` and `python3` are: otherwise the 200,000 addresses in its tables are written anew at each
/// start, which takes 8 MB of memory.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, expected: &str| std::env::var(name).is_ok_and(|value| value == expected);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bin=odp=-no-pie");
    }
}
