//! Files whose footers need not be read: something else says what is in them.

use std::collections::HashMap;
use std::ops::Range;

use datafusion::object_store::path::Path;

use super::facts::FileFacts;
use super::footers::Runs;
use super::listing::ListedFile;
use crate::dataset::is_same_version;
use crate::error::OdpError;

/// Facts of file versions, found by path.
#[derive(Debug, Default)]
pub(super) struct KnownFiles {
    runs: Vec<FileFacts>,
    /// Run, and file of the run.
    positions: HashMap<Path, (usize, usize)>,
}

/// Where the facts of files that follow each other come from.
#[derive(Debug, PartialEq, Eq)]
enum Source {
    /// A run, and some of its files.
    Known(usize, Range<usize>),
    /// So many files must be read.
    Read(usize),
}

impl KnownFiles {
    pub(super) fn new(runs: Vec<FileFacts>) -> Self {
        let mut positions = HashMap::new();
        for (run, facts) in runs.iter().enumerate() {
            for (file, entry) in facts.files.iter().enumerate() {
                positions.insert(entry.object_meta.location.clone(), (run, file));
            }
        }
        Self { runs, positions }
    }

    /// With what `other` knows of files that this one does not know, or knows in another version.
    pub(super) fn or(mut self, other: Self) -> Self {
        let offset = self.runs.len();
        for (path, (run, file)) in other.positions {
            let version = &other.runs[run].files[file].object_meta;
            let is_known = self.positions.get(&path).is_some_and(|(run, file)| {
                is_same_version(&self.runs[*run].files[*file].object_meta, version)
            });
            if !is_known {
                self.positions.insert(path, (offset + run, file));
            }
        }
        self.runs.extend(other.runs);
        self
    }

    fn sources(&self, listed: &[ListedFile]) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for file in listed {
            let found = self.positions.get(&file.object_meta.location).copied();
            let found = found.filter(|(run, at)| {
                is_same_version(&self.runs[*run].files[*at].object_meta, &file.object_meta)
            });
            match (found, sources.last_mut()) {
                (Some((run, at)), Some(Source::Known(last, files))) if *last == run && files.end == at => {
                    files.end += 1;
                }
                (Some((run, at)), _) => sources.push(Source::Known(run, at..at + 1)),
                (None, Some(Source::Read(count))) => *count += 1,
                (None, _) => sources.push(Source::Read(1)),
            }
        }
        sources
    }

    /// Those of `listed` that are not known.
    pub(super) fn unknown<'a>(&self, listed: &'a [ListedFile]) -> Vec<&'a ListedFile> {
        let mut next = 0;
        let mut unknown = Vec::new();
        for source in self.sources(listed) {
            match source {
                Source::Known(_, files) => next += files.len(),
                Source::Read(count) => {
                    unknown.extend(&listed[next..next + count]);
                    next += count;
                }
            }
        }
        unknown
    }

    /// The facts of all `listed` files in their order; `read` are those of the unknown ones.
    pub(super) fn merge(
        mut self,
        listed: &[ListedFile],
        read: Vec<FileFacts>,
    ) -> Result<Vec<FileFacts>, OdpError> {
        let sources = self.sources(listed);
        let mut read = Queue::new(read);
        let mut facts = Vec::with_capacity(sources.len());
        for source in sources {
            match source {
                Source::Known(run, files) if files.len() == self.runs[run].files.len() => {
                    // Each file is listed once: nobody else asks for the run.
                    facts.push(std::mem::replace(&mut self.runs[run], FileFacts::none()));
                }
                Source::Known(run, files) => facts.push(self.runs[run].slice(&files)),
                Source::Read(count) => facts.extend(read.take(count)),
            }
        }
        let mut next = listed.iter();
        let mut runs = Runs::default();
        for mut facts in facts {
            for (entry, listed) in facts.files.iter_mut().zip(next.by_ref()) {
                // The same version, as it is named now.
                entry.object_meta.clone_from(&listed.object_meta);
            }
            runs.push(facts)?;
        }
        runs.finish()
    }
}

/// Facts of files, taken some files at a time.
struct Queue {
    runs: std::vec::IntoIter<FileFacts>,
    current: Option<(FileFacts, usize)>,
}

impl Queue {
    fn new(runs: Vec<FileFacts>) -> Self {
        Self { runs: runs.into_iter(), current: None }
    }

    fn take(&mut self, mut count: usize) -> Vec<FileFacts> {
        let mut taken = Vec::new();
        while count > 0 {
            let Some((facts, start)) = self.current.take().or_else(|| Some((self.runs.next()?, 0))) else {
                break;
            };
            let end = facts.files.len().min(start + count);
            count -= end - start;
            taken.push(facts.slice(&(start..end)));
            if end < facts.files.len() {
                self.current = Some((facts, end));
            }
        }
        taken
    }
}
