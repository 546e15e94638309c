//! Which objects are the files of a dataset.
//!
//! Below a directory, a file is read if its name ends in one of the table's extensions, it is not empty, and no
//! path segment below the directory starts with `.` or `_` (`_key=value` is a partition, and read). A location
//! that is a file is read whatever its name.

use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::path::Path;
use datafusion::object_store::{self, ObjectMeta, ObjectStore, ObjectStoreExt};
use futures::TryStreamExt;

use super::natural_order;
use super::snapshot_file::SNAPSHOT_NAME;
use crate::error::OdpError;

/// Name of the file that PyArrow, Dask and Spark gather footers in.
const METADATA_NAME: &str = "_metadata";

/// Name of the file that PyArrow, Dask and Spark write the schema to.
const COMMON_METADATA_NAME: &str = "_common_metadata";

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
}

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
}

impl ListedFile {
    /// The path below the location it was found in.
    pub(crate) fn relative_path(&self) -> String {
        let name = self.object_meta.location.filename().unwrap_or_default();
        let segments = self.directories.iter().map(String::as_str).chain([name]);
        segments.collect::<Vec<_>>().join("/")
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
    /// [`OdpError::Storage`] if the store cannot be listed, [`OdpError::EmptyDataset`] if it holds no file to read.
    pub(crate) async fn list(
        &self,
        store: &dyn ObjectStore,
        extensions: &[String],
    ) -> Result<Listing, OdpError> {
        let failed = |error: object_store::Error| OdpError::Storage {
            location: self.display(),
            source: Box::new(error),
        };
        if !self.url.is_collection() && self.url.get_glob().is_none() {
            match store.head(self.url.prefix()).await {
                Ok(object_meta) if object_meta.size > 0 => {
                    let files = vec![ListedFile { object_meta, directories: vec![] }];
                    return Ok(Listing { files, ..Listing::default() });
                }
                Ok(_) => return Err(self.empty("the file has no bytes".into())),
                // A directory of an object store, or of a path written without the last slash.
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let prefix = Some(self.url.prefix()).filter(|p| !p.as_ref().is_empty());
        let found: Vec<ObjectMeta> = store.list(prefix).try_collect().await.map_err(failed)?;
        let total = found.len();
        let named = |name: &str| {
            let path = self.url.prefix().clone().join(name);
            found.iter().find(|meta| meta.location == path && meta.size > 0).cloned()
        };
        let (snapshot, metadata) = (named(SNAPSHOT_NAME), named(METADATA_NAME));
        let common_metadata = named(COMMON_METADATA_NAME);
        // Something else there may be what was meant, under another name.
        let has_others = found.iter().any(|meta| !meta.location.filename().is_some_and(is_hidden));
        let mut files: Vec<ListedFile> =
            found.into_iter().filter_map(|meta| self.accept(meta, extensions)).collect();
        if files.is_empty() && common_metadata.is_some() && !has_others {
            return Ok(Listing { common_metadata, ..Listing::default() });
        }
        if files.is_empty() {
            return Err(self.empty(match total {
                0 => "there is nothing there".into(),
                n => format!(
                    "{n} files there, none of them with rows to read and named *{}",
                    extensions.join(", *")
                ),
            }));
        }
        files.sort_by(|a, b| natural_order::compare(a.path(), b.path()));
        files.dedup_by(|a, b| a.path() == b.path());
        Ok(Listing { files, snapshot, metadata, common_metadata: None })
    }

    fn accept(&self, object_meta: ObjectMeta, extensions: &[String]) -> Option<ListedFile> {
        let mut directories: Vec<String> =
            self.url.strip_prefix(&object_meta.location)?.map(String::from).collect();
        let name = directories.pop().or_else(|| object_meta.location.filename().map(String::from))?;
        let lower = name.to_ascii_lowercase();
        let is_named = self.url.get_glob().is_some()
            || extensions.iter().any(|extension| lower.ends_with(&extension.to_ascii_lowercase()));
        let accepted = object_meta.size > 0
            && is_named
            && !is_hidden(&name)
            && !directories.iter().any(|segment| is_hidden(segment))
            && self.url.contains(&object_meta.location, false);
        accepted.then_some(ListedFile { object_meta, directories })
    }

    fn empty(&self, reason: String) -> OdpError {
        OdpError::EmptyDataset { location: self.display(), reason }
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
        let files = Location::parse(location)?.list(&store, &extensions).await?.files;
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
