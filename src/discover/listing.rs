//! Which objects are the files of a dataset.
//!
//! Below a directory, a file is read if its name ends in one of the table's extensions, it is not empty, and no
//! path segment below the directory starts with `.` or `_` (`_key=value` is a partition, and read). A location
//! that is a file is read whatever its name.
//!
//! Where the directory has a commit log ([`commit_log`](super::commit_log)), the log says which of the files that are
//! named as those of our writers are there, and which of the others are no more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::DataType;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::path::Path;
use datafusion::object_store::{self, ObjectMeta, ObjectStore, ObjectStoreExt};
use futures::TryStreamExt;

use super::commit_log::{
    LiveFile, Log, LogListing, LogState, below, hidden_directory, is_ours, record_path, stage_directory,
};
use super::natural_order;
use super::snapshot_file::SNAPSHOT_NAME;
use crate::error::OdpError;

/// Name of the file that PyArrow, Dask and Spark gather footers in.
const METADATA_NAME: &str = "_metadata";

/// Name of the file that PyArrow, Dask and Spark write the schema to.
const COMMON_METADATA_NAME: &str = "_common_metadata";

/// How often a directory is listed again if writers were faster than the listing.
const MAX_LISTINGS: u32 = 20;

/// Milliseconds between two of them, at most, as a power of two; tests do not wait.
const MAX_PAUSE: u32 = if cfg!(test) { 1 } else { 7 };

/// A dataset's location, parsed.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    url: ListingTableUrl,
}

/// A file, and its path below the location it was found in.
#[derive(Debug, Clone)]
pub(crate) struct ListedFile {
    pub(crate) object_meta: ObjectMeta,
    /// Segments between the location and the file's name.
    pub(crate) directories: Vec<String>,
    /// What the commit log says of it; `None` for a file that is not in one.
    pub(crate) logged: Option<Arc<LiveFile>>,
}

/// Partition columns, and the exact text of their values.
pub(crate) type Recorded<'a> = (&'a [(String, DataType)], &'a [Option<String>]);

/// What lies at a location.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// In natural order of their paths.
    pub(crate) files: Vec<ListedFile>,
    /// What speaks of the files: our own snapshot file.
    pub(crate) snapshot: Option<ObjectMeta>,
    /// The `_metadata` that other writers leave, with all footers in it.
    pub(crate) metadata: Option<ObjectMeta>,
    /// The `_common_metadata` that other writers leave, a footer of no rows; looked for where there are no files.
    pub(crate) common_metadata: Option<ObjectMeta>,
    /// The state of the commit log that the files are of.
    pub(crate) log: Option<LogState>,
    /// Files that the log hides: not committed, or replaced.
    pub(crate) hidden: Vec<ObjectMeta>,
    /// What writers have staged.
    pub(crate) staged: Vec<ObjectMeta>,
    /// Files there, of any name.
    total: usize,
    /// There is something that may be meant, under another name.
    has_others: bool,
}

/// A directory whose files are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Directory<'a> {
    pub(crate) path: &'a Path,
    /// Which files below it, where not all.
    pattern: Option<&'a ListingTableUrl>,
    pub(crate) extensions: &'a [String],
    /// For messages, without credentials.
    pub(crate) display: &'a str,
    /// On a local disk, where a request costs nothing.
    pub(crate) is_local: bool,
}

impl ListedFile {
    /// The path below the location it was found in.
    pub(crate) fn relative_path(&self) -> String {
        let name = self.object_meta.location.filename().unwrap_or_default();
        let segments = self.directories.iter().map(String::as_str).chain([name]);
        segments.collect::<Vec<_>>().join("/")
    }

    /// The partition columns and the exact values that a commit log has for it.
    pub(crate) fn recorded(&self) -> Option<Recorded<'_>> {
        let logged = self.logged.as_ref()?;
        Some((&logged.columns, logged.added.partition.as_deref()?))
    }

    fn path(&self) -> &str {
        self.object_meta.location.as_ref()
    }
}

impl Location {
    /// A URL, an absolute or a relative path, or a path with a glob.
    pub(crate) fn parse(text: &str) -> Result<Self, OdpError> {
        let url = ListingTableUrl::parse(text).map_err(|error| OdpError::Storage {
            location: without_credentials(text),
            source: Box::new(error),
        })?;
        Ok(Self { url })
    }

    pub(crate) fn object_store_url(&self) -> ObjectStoreUrl {
        self.url.object_store()
    }

    /// The location without user, password, query and fragment.
    pub(crate) fn display(&self) -> String {
        match self.url.get_url().to_file_path() {
            Ok(path) if self.url.scheme() == "file" => path.display().to_string(),
            _ => without_credentials(self.url.as_str()),
        }
    }

    /// The directory, as its object store has it.
    ///
    /// # Errors
    /// [`OdpError::Unsupported`] for a pattern, which names files and no directory.
    pub(crate) fn directory(&self) -> Result<&Path, OdpError> {
        match self.url.get_glob() {
            None => Ok(self.url.prefix()),
            Some(_) => {
                let what =
                    format!("a snapshot file for the pattern {}: it belongs to a directory", self.display());
                Err(OdpError::Unsupported { what })
            }
        }
    }

    /// The dataset's files here, and what speaks of them.
    ///
    /// # Errors
    /// As [`Directory::list`]; [`OdpError::EmptyDataset`] for a file without bytes.
    async fn list(&self, store: &dyn ObjectStore, extensions: &[String]) -> Result<Listing, OdpError> {
        let failed = |error: object_store::Error| OdpError::Storage {
            location: self.display(),
            source: Box::new(error),
        };
        if !self.url.is_collection() && self.url.get_glob().is_none() {
            match store.head(self.url.prefix()).await {
                Ok(object_meta) if object_meta.size > 0 => {
                    let files = vec![ListedFile { object_meta, directories: vec![], logged: None }];
                    return Ok(Listing { files, ..Listing::default() });
                }
                Ok(_) => return Err(self.empty("the file has no bytes".into())),
                // A directory of an object store, or of a path written without the last slash.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let display = self.display();
        let directory = Directory {
            path: self.url.prefix(),
            pattern: Some(&self.url).filter(|url| url.get_glob().is_some()),
            extensions,
            display: &display,
            is_local: self.url.scheme() == "file",
        };
        directory.list(store).await
    }

    /// [`list`](Self::list), where nothing to read is an error.
    ///
    /// # Errors
    /// Also [`OdpError::EmptyDataset`]; not where `is_declared` says that the columns are known, and nothing else is there
    /// that may be meant.
    pub(crate) async fn list_files(
        &self,
        store: &dyn ObjectStore,
        extensions: &[String],
        is_declared: bool,
    ) -> Result<Listing, OdpError> {
        let listing = self.list(store, extensions).await?;
        let has_columns = is_declared || listing.common_metadata.is_some();
        if !listing.files.is_empty() || (has_columns && !listing.has_others) {
            return Ok(listing);
        }
        Err(self.empty(match (listing.total, &listing.log) {
            (0, _) => "there is nothing there".into(),
            (_, Some(log)) if !listing.has_others => {
                format!("after commit {} no file is left, and nothing tells the columns", log.version)
            }
            (n, _) => {
                format!(
                    "{n} files there, none of them with rows to read and named *{}",
                    extensions.join(", *")
                )
            }
        }))
    }

    fn empty(&self, reason: String) -> OdpError {
        OdpError::EmptyDataset { location: self.display(), reason }
    }
}

/// Writers were faster than a listing.
#[derive(Debug)]
enum Listed {
    Done(Box<Listing>),
    /// List again. For the error when this was the last time: what is missing.
    Again(OdpError),
}

impl<'a> Directory<'a> {
    /// All of a directory.
    pub(crate) fn new(path: &'a Path, extensions: &'a [String], display: &'a str, is_local: bool) -> Self {
        Self { path, pattern: None, extensions, display, is_local }
    }

    /// The files here, as they were after one commit, if there is a log.
    ///
    /// # Errors
    /// [`OdpError::Storage`] if the store cannot be listed; [`OdpError::InvalidData`] if the log is damaged or a file that it
    /// names is missing, [`OdpError::Changed`] if one is not the file that was committed.
    pub(crate) async fn list(&self, store: &dyn ObjectStore) -> Result<Listing, OdpError> {
        let mut listings = 0;
        loop {
            match self.list_once(store).await? {
                Listed::Done(listing) => return Ok(*listing),
                Listed::Again(error) if listings == MAX_LISTINGS => return Err(error),
                Listed::Again(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(1 << listings.min(MAX_PAUSE))).await;
            listings += 1;
        }
    }

    fn failed(&self, error: object_store::Error) -> OdpError {
        OdpError::Storage { location: self.display.to_owned(), source: Box::new(error) }
    }

    async fn list_once(&self, store: &dyn ObjectStore) -> Result<Listed, OdpError> {
        let prefix = Some(self.path).filter(|path| !path.as_ref().is_empty());
        let found: Vec<ObjectMeta> =
            store.list(prefix).try_collect().await.map_err(|error| self.failed(error))?;
        let log = Log { store, directory: self.path };
        let log_listing = LogListing::of(self.path, &found);
        if log_listing.is_empty() {
            let has_begun = self.has_begun(&log, &found).await?;
            return Ok(match has_begun {
                true => Listed::Again(self.overtaken()),
                false => Listed::Done(Box::new(self.without_log(found))),
            });
        }
        let Some(state) = log.state(&log_listing).await? else {
            let last = log_listing.last().unwrap_or_default();
            return Ok(Listed::Again(OdpError::InvalidData {
                location: record_path(self.path, last).to_string(),
                source: "it, or a commit before it, is missing from the log".into(),
            }));
        };
        self.with_log(store, found, state, &log_listing).await
    }

    /// Whether a log has begun that the listing `found` does not show yet.
    async fn has_begun(&self, log: &Log<'_>, found: &[ObjectMeta]) -> Result<bool, OdpError> {
        let is_written = |meta: &ObjectMeta| {
            meta.location.prefix_matches(&hidden_directory(self.path)) || is_ours(meta.location.as_ref())
        };
        if !self.is_local && !found.iter().any(is_written) {
            return Ok(false);
        }
        Ok(!log.list().await.map_err(|error| self.failed(error))?.is_empty())
    }

    fn overtaken(&self) -> OdpError {
        let source = "writers change it faster than it can be listed".into();
        OdpError::Storage { location: self.display.to_owned(), source }
    }

    fn without_log(&self, found: Vec<ObjectMeta>) -> Listing {
        let mut listing = self.about(&found);
        listing.has_others = found.iter().any(|meta| self.is_meant(meta));
        listing.files = found.into_iter().filter_map(|meta| self.accept(meta, None)).collect();
        listing.in_order()
    }

    async fn with_log(
        &self,
        store: &dyn ObjectStore,
        found: Vec<ObjectMeta>,
        state: LogState,
        log_listing: &LogListing,
    ) -> Result<Listed, OdpError> {
        let mut listing = self.about(&found);
        let mut live: HashMap<&str, Option<ObjectMeta>> =
            state.live.keys().map(|path| (path.as_str(), None)).collect();
        let mut foreign = HashMap::new();
        for meta in found {
            let Some(path) = self.relative(&meta.location) else { continue };
            if let Some(file) = live.get_mut(path.as_str()) {
                *file = Some(meta);
            } else if is_ours(&path) || state.removed.get(&path).is_some_and(|was| was.is(&meta)) {
                listing.hidden.push(meta);
            } else {
                foreign.insert(path, meta);
            }
        }
        if self.has_lost(store, log_listing, &foreign).await? {
            return Ok(Listed::Again(self.overtaken()));
        }
        listing.has_others = foreign.values().any(|meta| self.is_meant(meta));
        for (path, file) in live {
            let recorded = &state.live[path];
            let location = below(self.path, path);
            let meta = match file {
                Some(meta) => meta,
                None if !self.is_accepted(&location, recorded.added.bytes) => continue,
                // Committed after its directory was listed; or replaced, and gone.
                None => match store.head(&location).await {
                    Ok(meta) => meta,
                    Err(object_store::Error::NotFound { .. }) => {
                        let source = format!("it is missing; commit {} has it", state.version).into();
                        let location = location.to_string();
                        return Ok(Listed::Again(OdpError::InvalidData { location, source }));
                    }
                    Err(error) => return Err(self.failed(error)),
                },
            };
            if meta.size != recorded.added.bytes {
                return Err(OdpError::Changed { path: location.to_string() });
            }
            listing.files.extend(self.accept(meta, Some(Arc::new(recorded.clone()))));
        }
        listing.files.extend(foreign.into_values().filter_map(|meta| self.accept(meta, None)));
        listing.log = Some(state);
        Ok(Listed::Done(Box::new(listing.in_order())))
    }

    /// Whether commits that came after `log_listing` have removed foreign files that were not seen any more: the log
    /// does not name those that should be there.
    async fn has_lost(
        &self,
        store: &dyn ObjectStore,
        log_listing: &LogListing,
        foreign: &HashMap<String, ObjectMeta>,
    ) -> Result<bool, OdpError> {
        let log = Log { store, directory: self.path };
        let now = log.list().await.map_err(|error| self.failed(error))?;
        let (Some(seen), Some(last)) = (log_listing.last(), now.last()) else { return Ok(true) };
        let Some(records) = log.records(seen.saturating_add(1)..=last, &now).await? else { return Ok(true) };
        let mut removed = records.iter().flat_map(|record| &record.removed);
        Ok(removed.any(|file| !is_ours(&file.path) && !foreign.contains_key(&file.path)))
    }

    /// What lies beside the data files.
    fn about(&self, found: &[ObjectMeta]) -> Listing {
        let named = |name: &str| {
            let path = self.path.clone().join(name);
            found.iter().find(|meta| meta.location == path && meta.size > 0).cloned()
        };
        let stage = stage_directory(self.path);
        let staged = found.iter().filter(|meta| meta.location.prefix_matches(&stage)).cloned();
        Listing {
            snapshot: named(SNAPSHOT_NAME),
            metadata: named(METADATA_NAME),
            common_metadata: named(COMMON_METADATA_NAME),
            staged: staged.collect(),
            total: found.len(),
            ..Listing::default()
        }
    }

    /// Segments below the directory.
    fn segments(&self, location: &Path) -> Option<Vec<String>> {
        Some(location.prefix_match(self.path)?.map(|segment| segment.as_ref().to_owned()).collect())
    }

    /// The path below the directory.
    fn relative(&self, location: &Path) -> Option<String> {
        self.segments(location).map(|segments| segments.join("/"))
    }

    /// Whether the file may be what was meant, though it has another name.
    fn is_meant(&self, meta: &ObjectMeta) -> bool {
        !meta.location.filename().is_some_and(is_hidden)
            && !meta.location.prefix_matches(&hidden_directory(self.path))
    }

    fn is_accepted(&self, location: &Path, size: u64) -> bool {
        let Some((name, directories)) =
            self.segments(location).and_then(|mut segments| Some((segments.pop()?, segments)))
        else {
            return false;
        };
        let lower = name.to_ascii_lowercase();
        let is_named = self.pattern.is_some()
            || self.extensions.iter().any(|extension| lower.ends_with(&extension.to_ascii_lowercase()));
        size > 0
            && is_named
            && !is_hidden(&name)
            && !directories.iter().any(|segment| is_hidden(segment))
            && self.pattern.is_none_or(|pattern| pattern.contains(location, false))
    }

    fn accept(&self, object_meta: ObjectMeta, logged: Option<Arc<LiveFile>>) -> Option<ListedFile> {
        if !self.is_accepted(&object_meta.location, object_meta.size) {
            return None;
        }
        let mut directories = self.segments(&object_meta.location)?;
        directories.pop();
        Some(ListedFile { object_meta, directories, logged })
    }
}

impl Listing {
    fn in_order(mut self) -> Self {
        self.files.sort_by(|a, b| natural_order::compare(a.path(), b.path()));
        self.files.dedup_by(|a, b| a.path() == b.path());
        if !self.files.is_empty() {
            self.common_metadata = None;
        }
        self
    }
}

/// Whether a file or directory of this name is none of a dataset's.
fn is_hidden(segment: &str) -> bool {
    segment.starts_with('.') || (segment.starts_with('_') && !segment.contains('='))
}

/// `url` without user, password, query and fragment.
pub(crate) fn without_credentials(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) => {
            let _ = parsed.set_username("");
            let _ = parsed.set_password(None);
            parsed.set_query(None);
            parsed.set_fragment(None);
            parsed.to_string()
        }
        Err(_) => {
            let bare = url.split(['?', '#']).next().unwrap_or_default();
            bare.rsplit_once('@').map_or(bare, |(_, rest)| rest).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::object_store::memory::InMemory;

    async fn listed(paths: &[(&str, usize)], location: &str) -> Result<Vec<String>, OdpError> {
        let store = InMemory::new();
        for (path, size) in paths {
            store.put(&Path::from(*path), vec![0; *size].into()).await.unwrap();
        }
        let extensions = crate::options::TableOptions::default().file_extensions;
        let files = Location::parse(location)?.list_files(&store, &extensions, false).await?.files;
        Ok(files.into_iter().map(|f| f.object_meta.location.to_string()).collect())
    }

    #[tokio::test]
    async fn hidden_empty_and_foreign_files_are_skipped() {
        let paths = [
            ("d/b/10.parquet", 1),
            ("d/b/9.PARQUET", 1),
            ("d/_SUCCESS", 1),
            ("d/_metadata.parquet", 1),
            ("d/.x.parquet", 1),
            ("d/_tmp/x.parquet", 1),
            ("d/_k=1/x.parquet", 1),
            ("d/empty.parquet", 0),
            ("d/x.parquet.crc", 1),
            ("d/notes.txt", 1),
            ("dd/other.parquet", 1),
        ];
        assert_eq!(
            listed(&paths, "memory:///d/").await.unwrap(),
            ["d/_k=1/x.parquet", "d/b/9.PARQUET", "d/b/10.parquet"]
        );
        assert_eq!(listed(&paths, "memory:///d/x.parquet.crc").await.unwrap(), ["d/x.parquet.crc"]);
    }

    #[tokio::test]
    async fn nothing_to_read_is_an_error_that_says_what_is_there() {
        let message = listed(&[("d/a.csv", 1)], "memory:///d/").await.unwrap_err().to_string();
        assert!(message.contains("1 files there") && message.contains(".parquet"), "{message}");
        let message = listed(&[], "memory:///d/").await.unwrap_err().to_string();
        assert!(message.contains("nothing there"), "{message}");
    }

    #[test]
    fn credentials_do_not_show() {
        let location = Location::parse("https://user:secret@host/d/?token=secret#secret").unwrap();
        assert!(!location.display().contains("secret"), "{}", location.display());
    }
}
