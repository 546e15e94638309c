//! Files whose footers need not be read: something else says what is in them.

use std::collections::HashMap;
use std::ops::Range;

use datafusion::object_store::path::Path;

use super::facts::FileFacts;
use super::listing::ListedFile;
use crate::dataset::is_same_version;

/// Facts of file versions.
#[derive(Debug, Default)]
pub(super) struct KnownFiles {
    runs: Vec<FileFacts>,
}

impl KnownFiles {
    pub(super) fn new(runs: Vec<FileFacts>) -> Self {
        Self { runs }
    }

    /// With what `other` knows of files that this one does not know, or knows in another version.
    pub(super) fn or(mut self, other: Self) -> Self {
        self.runs.extend(other.runs);
        self
    }

    /// The facts of those `listed` files that it knows, in any order, and the files that it does not.
    pub(super) fn take(self, listed: &[ListedFile]) -> (Vec<FileFacts>, Vec<&ListedFile>) {
        let by_path: HashMap<&Path, usize> =
            listed.iter().enumerate().map(|(i, file)| (&file.object_meta.location, i)).collect();
        let mut is_known = vec![false; listed.len()];
        let mut facts = Vec::with_capacity(self.runs.len());
        for mut run in self.runs {
            let mut wanted: Vec<Range<usize>> = Vec::new();
            for (at, file) in run.files.iter_mut().enumerate() {
                let version = &mut file.object_meta;
                let Some(&position) = by_path.get(&version.location) else { continue };
                let found = &listed[position].object_meta;
                // Whoever knows it first.
                if is_known[position] || !is_same_version(version, found) {
                    continue;
                }
                is_known[position] = true;
                // The same version, as it is named now.
                version.clone_from(found);
                match wanted.last_mut() {
                    Some(last) if last.end == at => last.end += 1,
                    _ => wanted.push(at..at + 1),
                }
            }
            match wanted.as_slice() {
                [all] if all.len() == run.files.len() => facts.push(run),
                some => facts.extend(some.iter().map(|files| run.slice(files))),
            }
        }
        let unknown = listed.iter().zip(&is_known).filter(|(_, is_known)| !**is_known);
        let unknown = unknown.map(|(file, _)| file).collect();
        (facts, unknown)
    }
}
