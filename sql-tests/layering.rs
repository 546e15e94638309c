//! The layers of the crate: who may import whom, read from the sources themselves.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the crate, and the modules it may import besides itself.
const LAYERS: [(&str, &[&str]); 13] = [
    ("error", &[]),
    ("options", &["error"]),
    ("date_part", &[]),
    ("row_bytes", &[]),
    ("geo", &["error", "options"]),
    ("dataset", &["error", "options", "geo"]),
    ("filter", &["error", "options", "geo", "dataset"]),
    ("discover", &["error", "options", "geo", "dataset"]),
    ("scan", &["error", "options", "row_bytes", "geo", "dataset", "discover"]),
    ("aggregate", &["options", "scan"]),
    ("sink", &["error", "options", "row_bytes", "geo", "dataset", "discover"]),
    ("table", &["error", "options", "geo", "dataset", "filter", "discover", "scan", "sink"]),
    (
        "register",
        &[
            "error",
            "options",
            "date_part",
            "geo",
            "dataset",
            "filter",
            "discover",
            "scan",
            "aggregate",
            "sink",
            "table",
        ],
    ),
];

/// Crates that come through `datafusion::`, so that there is one version of each. `parquet` is not among them:
/// see Cargo.toml.
const RE_EXPORTED: [&str; 8] = [
    "arrow",
    "arrow_array",
    "arrow_buffer",
    "arrow_schema",
    "arrow_cast",
    "arrow_select",
    "object_store",
    "sqlparser",
];

struct Source {
    /// Below `src`.
    path: PathBuf,
    /// The top-level module that the file belongs to; `lib` for the root, `bin` for programs.
    module: String,
    /// Without line comments.
    code: String,
}

fn sources() -> Result<Vec<Source>, Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = without_comments(&fs::read_to_string(&path)?);
                let path = path.strip_prefix(&root)?.to_owned();
                let first = path.components().next().ok_or("no path")?;
                let module = Path::new(&first).with_extension("").to_string_lossy().into_owned();
                sources.push(Source { path, module, code });
            }
        }
    }
    if sources.len() < 20 {
        return Err(format!("only {} files in {}", sources.len(), root.display()).into());
    }
    Ok(sources)
}

fn without_comments(text: &str) -> String {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    text.lines()
        .filter(is_code)
        .map(|line| line.split(" // ").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The first names of all paths that start with `crate::`, those of `crate::{a, b::c}` included.
fn crate_imports(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.push(identifier(rest));
            continue;
        };
        let (mut depth, mut is_start) = (0, true);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => is_start = true,
                c if is_start && !c.is_whitespace() => {
                    names.push(identifier(&group[i..]));
                    is_start = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Items that the crate's root re-exports, and the module each comes from.
fn re_exports(root: &str) -> BTreeMap<String, String> {
    let mut modules = BTreeMap::new();
    for statement in root.split(';') {
        let Some((_, path)) = statement.split_once("pub use ") else { continue };
        let Some((module, items)) = path.split_once("::") else { continue };
        for item in items.trim_matches(['{', '}']).split(',') {
            modules.insert(identifier(item.trim()), module.trim().to_owned());
        }
    }
    modules
}

#[test]
fn imports_go_downward_only() -> Result<(), Box<dyn Error>> {
    let sources = sources()?;
    let root = sources.iter().find(|source| source.module == "lib").ok_or("no lib.rs")?;
    let re_exported = re_exports(&root.code);
    let mut wrong = Vec::new();
    for source in &sources {
        // The root re-exports everything; programs are crates of their own.
        if source.module == "lib" || source.module == "bin" {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(module, _)| *module == source.module) else {
            wrong.push(format!("{}: module {} has no layer", source.path.display(), source.module));
            continue;
        };
        for name in crate_imports(&source.code) {
            let module = re_exported.get(&name).unwrap_or(&name);
            if *module != source.module && !allowed.contains(&module.as_str()) {
                wrong.push(format!("{}: {} may not import {module}", source.path.display(), source.module));
            }
        }
        // Anything above a file's own module is named by its full path.
        if source.code.contains("super::super") {
            wrong.push(format!("{}: super::super, write crate::…", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn arrow_and_object_store_come_through_datafusion() -> Result<(), Box<dyn Error>> {
    let mut wrong = Vec::new();
    for source in sources()? {
        let packed: String = source.code.split_whitespace().collect();
        for name in RE_EXPORTED {
            // `use datafusion::object_store::{self, …}` brings the name in.
            if packed.contains(&format!("datafusion::{name}::{{self"))
                || packed.contains(&format!("datafusion::{name};"))
            {
                continue;
            }
            for (at, path) in source.code.match_indices(&format!("{name}::")) {
                let is_part =
                    source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
                if !is_part {
                    wrong.push(format!("{}: {path}, write datafusion::{path}", source.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn dataset_geo_and_filter_do_no_io() -> Result<(), Box<dyn Error>> {
    let mut wrong = Vec::new();
    for source in
        sources()?.iter().filter(|source| ["dataset", "geo", "filter"].contains(&source.module.as_str()))
    {
        // Their tests may read files and run queries.
        let is_test = ["tests.rs", "corpora.rs"].iter().any(|name| source.path.ends_with(name));
        let code = source.code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for word in ["async fn", "async move", ".await", "std::fs", "tokio::"] {
            if !is_test && code.contains(word) {
                wrong.push(format!("{}: {word}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn the_reader_of_imports_sees_groups_and_paths() {
    let code =
        "use crate::{error::OdpError, geo::{A, B},\n    scan};\nfn f() -> crate::options::X { mycrate::y }";
    assert_eq!(crate_imports(code), ["error", "geo", "scan", "options"]);
    assert_eq!(re_exports("mod a;\npub use a::{X, Y};\npub use b::z;")["Y"], "a");
}
