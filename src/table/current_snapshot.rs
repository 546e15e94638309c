//! The snapshot that a table shows now.

use std::sync::{Arc, PoisonError, RwLock};

use crate::dataset::DatasetSnapshot;

/// Shared by a table and the writes through it. Queries keep the one that they were planned with.
#[derive(Debug, Clone)]
pub(super) struct CurrentSnapshot {
    current: Arc<RwLock<Arc<DatasetSnapshot>>>,
}

impl CurrentSnapshot {
    pub(super) fn new(snapshot: Arc<DatasetSnapshot>) -> Self {
        Self { current: Arc::new(RwLock::new(snapshot)) }
    }

    pub(super) fn get(&self) -> Arc<DatasetSnapshot> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, snapshot: Arc<DatasetSnapshot>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}
