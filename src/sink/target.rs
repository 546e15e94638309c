//! Where a write goes.

use std::fmt::{self, Debug, Formatter};
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::object_store::ObjectStore;
use datafusion::object_store::path::Path;

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

impl Debug for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("location", &self.display)
            .field("is_file", &self.is_file)
            .finish_non_exhaustive()
    }
}
