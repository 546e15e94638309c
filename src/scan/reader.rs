//! Reads the bytes of one file version, and of no other.

use std::fmt::{self, Debug, Formatter};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::object_store::{
    self, GetOptions, GetRange, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore, ObjectStoreExt,
    coalesce_ranges,
};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use crate::discover::fetch_footer;
use crate::error::OdpError;

/// Makes readers that fail when their file is no longer the version that was planned.
pub(crate) struct PinnedReaderFactory {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) cache: Arc<FileMetadataCache>,
    /// Files lie in this machine's file system.
    pub(crate) is_local: bool,
}

impl Debug for PinnedReaderFactory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedReaderFactory").field("is_local", &self.is_local).finish_non_exhaustive()
    }
}

impl ParquetFileReaderFactory for PinnedReaderFactory {
    fn create_reader(
        &self,
        partition_index: usize,
        partitioned_file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> datafusion::common::Result<Box<dyn AsyncFileReader + Send>> {
        let path = partitioned_file.object_meta.location.as_ref();
        Ok(Box::new(PinnedReader {
            metrics: ParquetFileMetrics::new(partition_index, path, metrics),
            file: PinnedFile {
                store: Arc::clone(&self.store),
                object_meta: partitioned_file.object_meta,
                is_local: self.is_local,
            },
            cache: Arc::clone(&self.cache),
        }))
    }
}

struct PinnedReader {
    file: PinnedFile,
    cache: Arc<FileMetadataCache>,
    metrics: ParquetFileMetrics,
}

impl AsyncFileReader for PinnedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        let ranges = self.get_byte_ranges(vec![range]);
        async move {
            ranges.await?.pop().ok_or_else(|| ParquetError::General("no bytes for a byte range".into()))
        }
        .boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        let total: u64 = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        self.metrics.bytes_scanned.add(usize::try_from(total).unwrap_or(usize::MAX));
        async move { self.file.read(&ranges).await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        let page_index = options.map_or(PageIndexPolicy::Skip, ArrowReaderOptions::column_index_policy);
        async move {
            fetch_footer(&*self.file.store, &self.file.object_meta, &self.cache, page_index).await.map_err(
                |e| {
                    let location = self.file.object_meta.location.to_string();
                    ParquetError::External(Box::new(OdpError::InvalidData { location, source: e.into() }))
                },
            )
        }
        .boxed()
    }
}

struct PinnedFile {
    store: Arc<dyn ObjectStore>,
    object_meta: ObjectMeta,
    is_local: bool,
}

impl PinnedFile {
    async fn read(&self, ranges: &[Range<u64>]) -> std::result::Result<Vec<Bytes>, OdpError> {
        let path = &self.object_meta.location;
        if self.is_local {
            // One open file serves all ranges; whether it was the right one shows after.
            let read = self.store.get_ranges(path, ranges).await;
            let now = self.store.head(path).await.map_err(|error| self.failed(error))?;
            self.check(&now)?;
            return read.map_err(|error| self.failed(error));
        }
        coalesce_ranges(ranges, |range| self.read_pinned(range), OBJECT_STORE_COALESCE_DEFAULT).await
    }

    async fn read_pinned(&self, range: Range<u64>) -> std::result::Result<Bytes, OdpError> {
        let planned = &self.object_meta;
        // A weak tag never matches; it is compared below.
        let if_match = planned.e_tag.clone().filter(|tag| !tag.starts_with("W/"));
        let if_unmodified_since = if_match.is_none().then_some(planned.last_modified);
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match,
            if_unmodified_since,
            ..GetOptions::default()
        };
        let found =
            self.store.get_opts(&planned.location, options).await.map_err(|error| self.failed(error))?;
        self.check(&found.meta)?;
        found.bytes().await.map_err(|error| self.failed(error))
    }

    fn check(&self, now: &ObjectMeta) -> std::result::Result<(), OdpError> {
        let planned = &self.object_meta;
        let is_same = match (&planned.e_tag, &now.e_tag) {
            (Some(planned), Some(now)) => planned == now,
            _ => planned.last_modified == now.last_modified,
        };
        match is_same && planned.size == now.size {
            true => Ok(()),
            false => Err(OdpError::Changed { path: planned.location.to_string() }),
        }
    }

    fn failed(&self, error: object_store::Error) -> OdpError {
        let path = self.object_meta.location.to_string();
        match error {
            object_store::Error::Precondition { .. } => OdpError::Changed { path },
            error => OdpError::Storage { location: path, source: Box::new(error) },
        }
    }
}
