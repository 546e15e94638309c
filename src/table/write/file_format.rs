//! `COPY … STORED AS ODP`.

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::{GetExt, Result, Statistics, not_impl_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::{FileFormat, FileFormatFactory};
use datafusion::datasource::physical_plan::{FileScanConfig, FileSinkConfig, FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::object_store::{ObjectMeta, ObjectStore};
use datafusion::physical_expr::LexRequirement;
use datafusion::physical_plan::ExecutionPlan;

use super::plan::{Columns, Destination, plan_write};
use crate::error::OdpError;
use crate::sink::{LastWrite, WriteMode, WriteOptions};

/// Makes [`OdpFormat`]s from the options of statements.
#[derive(Default)]
pub(crate) struct OdpFormatFactory {
    /// Options that a program gave.
    pub(super) options: WriteOptions,
    /// Where the report goes, besides the session.
    pub(super) last_write: Option<Arc<LastWrite>>,
}

impl Debug for OdpFormatFactory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("OdpFormatFactory")
    }
}

impl GetExt for OdpFormatFactory {
    fn get_ext(&self) -> String {
        "odp".to_owned()
    }
}

impl FileFormatFactory for OdpFormatFactory {
    fn create(
        &self,
        state: &dyn Session,
        format_options: &HashMap<String, String>,
    ) -> Result<Arc<dyn FileFormat>> {
        let mut options = self.options.clone();
        let mut entries: Vec<_> = format_options.iter().collect();
        entries.sort();
        for (key, value) in entries {
            options = options.with_option(key, value)?;
        }
        let last_write = match &self.last_write {
            Some(own) => Some(Arc::clone(own)),
            None => state.config().get_extension::<LastWrite>(),
        };
        Ok(Arc::new(OdpFormat { options, last_write }))
    }

    fn default(&self) -> Arc<dyn FileFormat> {
        Arc::new(OdpFormat { options: self.options.clone(), last_write: self.last_write.clone() })
    }
}

/// A dataset of batches, as a format that rows are copied to.
#[derive(Debug)]
struct OdpFormat {
    options: WriteOptions,
    last_write: Option<Arc<LastWrite>>,
}

#[async_trait]
impl FileFormat for OdpFormat {
    fn get_ext(&self) -> String {
        "parquet".to_owned()
    }

    fn get_ext_with_compression(&self, _: &FileCompressionType) -> Result<String> {
        Ok(self.get_ext())
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        None
    }

    async fn infer_schema(
        &self,
        _state: &dyn Session,
        _store: &Arc<dyn ObjectStore>,
        _objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        not_impl_err!("ODP as the format of a listing table; CREATE EXTERNAL TABLE … STORED AS ODP reads it")
    }

    async fn infer_stats(
        &self,
        _state: &dyn Session,
        _store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        _object: &ObjectMeta,
    ) -> Result<Statistics> {
        Ok(Statistics::new_unknown(&table_schema))
    }

    async fn create_physical_plan(
        &self,
        _state: &dyn Session,
        _conf: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        not_impl_err!("ODP as the format of a listing table; CREATE EXTERNAL TABLE … STORED AS ODP reads it")
    }

    async fn create_writer_physical_plan(
        &self,
        input: Arc<dyn ExecutionPlan>,
        state: &dyn Session,
        conf: FileSinkConfig,
        _order_requirements: Option<LexRequirement>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(url) = conf.table_paths.first() else {
            return not_impl_err!("COPY without a location");
        };
        let partition_by: Vec<String> =
            conf.table_partition_cols.iter().map(|(name, _)| name.clone()).collect();
        let is_partitioned = !partition_by.is_empty() || !self.options.partition_by().is_empty();
        let is_file = !is_partitioned && conf.file_output_mode.single_file_output(url);
        let mode = match conf.insert_op {
            InsertOp::Overwrite => WriteMode::Overwrite,
            // As `cp` does, and all other engines.
            _ if is_file => WriteMode::Overwrite,
            _ => WriteMode::ErrorIfExists,
        };
        if is_partitioned && conf.keep_partition_by_columns {
            let what = "keep_partition_by_columns: a column is in the files of a dataset, or in their paths";
            return Err(OdpError::Unsupported { what: what.into() }.into());
        }
        let columns = Columns::Free { partition_by };
        let last_write = self.last_write.clone();
        let destination = Destination { url: url.clone(), is_file, mode, columns, after: None, last_write };
        plan_write(state, input, destination, self.options.clone())
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        Arc::new(ParquetSource::new(table_schema))
    }
}
