//! Where a write goes.

use std::fmt::{self, Debug, Formatter};
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::object_store::ObjectStore;
use datafusion::object_store::path::Path;

use crate::discover::without_credentials;
use crate::error::OdpError;

/// A directory, or a single file, in an object store.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The directory, or the file.
    pub(crate) path: Path,
    /// The path names one file, and not a directory of them.
    pub(crate) is_file: bool,
    /// The folder of a local disk that the store's root is: what is written there must be forced to the disk.
    pub(crate) local_root: Option<PathBuf>,
    /// For messages, without credentials.
    pub(crate) display: String,
}

impl Target {
    /// The directory at `url`, or the file.
    ///
    /// # Errors
    /// [`OdpError::Storage`] if no object store is registered for the URL.
    pub(crate) fn find(runtime: &RuntimeEnv, url: &ListingTableUrl, is_file: bool) -> Result<Self, OdpError> {
        let is_local = url.scheme() == "file";
        let display = match url.get_url().to_file_path() {
            Ok(path) if is_local => path.display().to_string(),
            _ => without_credentials(url.as_str()),
        };
        let store = runtime.object_store(url.object_store()).map_err(|_| OdpError::Storage {
            location: display.clone(),
            // DataFusion's own message repeats the URL as written, credentials included.
            source: "no object store is registered for this URL".into(),
        })?;
        // DataFusion's store of local files has the root of the file system for its own.
        let local_root = is_local.then(|| PathBuf::from("/"));
        Ok(Self { store, path: url.prefix().clone(), is_file, local_root, display })
    }
}

impl Debug for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("location", &self.display)
            .field("is_file", &self.is_file)
            .finish_non_exhaustive()
    }
}
