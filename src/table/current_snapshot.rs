//! The snapshot that a table shows now.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;

use crate::dataset::DatasetSnapshot;

/// Shared by a table and the writes through it. Queries keep the one that they were planned with.
#[derive(Debug, Clone)]
pub(super) struct CurrentSnapshot {
    current: Arc<RwLock<Arc<DatasetSnapshot>>>,
    /// Held while the dataset is opened anew, so that what was opened last is what is shown.
    opening: Arc<Mutex<()>>,
}

impl CurrentSnapshot {
    pub(super) fn new(snapshot: Arc<DatasetSnapshot>) -> Self {
        Self { current: Arc::new(RwLock::new(snapshot)), opening: Arc::default() }
    }

    /// Shows what `open` gives.
    pub(super) async fn refresh<E>(
        &self,
        open: impl Future<Output = Result<Arc<DatasetSnapshot>, E>>,
    ) -> Result<(), E> {
        let _one_at_a_time = self.opening.lock().await;
        let snapshot = open.await?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        Ok(())
    }

    pub(super) fn get(&self) -> Arc<DatasetSnapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}
