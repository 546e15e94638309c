//! How the columns of one file become those of a scan.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::apply_file_schema_type_coercions;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::{ProjectionExprs, Projector};
use datafusion::physical_expr::simplifier::PhysicalExprSimplifier;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr_adapter::{PhysicalExprAdapterFactory, replace_columns_with_literals};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type as PhysicalType;
use parquet::file::metadata::ParquetMetaData;

use super::coded_columns::as_codes;
use super::decoding::{ColumnChunks, ColumnCounts, ColumnDecoders};

/// What a scan wants of each of its files.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) table: TableSchema,
    pub(super) projection: ProjectionExprs,
    pub(super) adapter: Arc<dyn PhysicalExprAdapterFactory>,
    /// Rows of a record batch.
    pub(super) batch_size: usize,
    pub(super) counts: ColumnCounts,
    /// Rows may be kept while others are read.
    pub(super) are_kept: bool,
}

/// Decodes the columns that a scan wants of one file.
pub(super) struct FileDecoding {
    footer: Arc<ParquetMetaData>,
    decoders: ColumnDecoders,
    /// Positions of those that are read among the columns of the file.
    columns: Arc<[usize]>,
    /// For each column of the scan those that it is made of.
    columns_of: Vec<Vec<usize>>,
    projector: Projector,
    coded: usize,
    /// Of the scan: what it calls nullable may not be so in the file.
    schema: SchemaRef,
}

impl FileDecoding {
    /// `None` if the columns cannot be read on from one row group to the next, or there are none to be read.
    ///
    /// # Errors
    /// If the file does not fit the table.
    pub(super) fn try_new(
        wanted: &Wanted,
        footer: Arc<ParquetMetaData>,
        file: &PartitionedFile,
    ) -> Result<Option<Self>> {
        let table = wanted.table.file_schema();
        let schema = Arc::new(wanted.projection.project_schema(wanted.table.table_schema())?);
        let mut projection = wanted.projection.clone();
        if !file.partition_values.is_empty() {
            projection = projection
                .try_map_exprs(|expr| with_partition_values(&expr, &wanted.table, &file.partition_values))?;
        }

        let metadata = ArrowReaderMetadata::try_new(Arc::clone(&footer), ArrowReaderOptions::new())?;
        let mut found = match apply_file_schema_type_coercions(table, metadata.schema()) {
            Some(coerced) => Arc::new(coerced),
            None => Arc::clone(metadata.schema()),
        };
        if *table != found {
            let adapter = wanted.adapter.create(Arc::clone(table), Arc::clone(&found))?;
            let simplifier = PhysicalExprSimplifier::new(&found);
            projection = projection.try_map_exprs(|expr| simplifier.simplify(adapter.rewrite(expr)?))?;
        }

        let coded;
        (projection, found, coded) = as_codes(projection, &found, &footer)?;

        let read: BTreeSet<usize> = projection
            .expr_iter()
            .flat_map(|expr| collect_columns(&expr))
            .map(|column| column.index())
            .collect();
        let descriptor = metadata.parquet_schema();
        let columns: Vec<usize> = (0..descriptor.num_columns())
            .filter(|&column| read.contains(&descriptor.get_column_root_idx(column)))
            .collect();
        let is_plain = |data_type: &DataType| {
            let is_coded = matches!(data_type, DataType::Dictionary(..)) && coded == 0;
            !data_type.is_nested() && !is_coded && !matches!(data_type, DataType::RunEndEncoded(..))
        };
        if read.is_empty()
            || columns.len() != read.len()
            || !read.iter().all(|&root| is_plain(found.field(root).data_type()))
            || columns.iter().any(|&c| descriptor.column(c).physical_type() == PhysicalType::INT96)
        {
            return Ok(None);
        }
        let leaf_of: HashMap<usize, usize> = read.iter().copied().zip(columns.iter().copied()).collect();
        let leaves = |expr: &Arc<dyn PhysicalExpr>| {
            let of_expr = collect_columns(expr);
            of_expr.iter().filter_map(|column| leaf_of.get(&column.index()).copied()).collect()
        };
        let columns_of = projection.expr_iter().map(|expr| leaves(&expr)).collect();
        let decoded = Arc::new(found.project(&read.into_iter().collect::<Vec<_>>())?);
        let projection = projection.try_map_exprs(|expr| reassign_expr_columns(expr, &decoded))?;
        let projector = projection.make_projector(&decoded)?;
        let columns: Arc<[usize]> = columns.into();
        let (read, counts) = (Arc::clone(&columns), wanted.counts.clone());
        Ok(Some(Self {
            decoders: ColumnDecoders::try_new(&footer, found, read, decoded, !wanted.are_kept, counts)?,
            footer,
            columns,
            columns_of,
            projector,
            coded,
            schema,
        }))
    }

    pub(super) fn footer(&self) -> &Arc<ParquetMetaData> {
        &self.footer
    }

    pub(super) fn columns(&self) -> &Arc<[usize]> {
        &self.columns
    }

    /// Columns that are given as the codes in their pages. With any, one row group is decoded at a time, since each has its
    /// own.
    pub(super) fn coded(&self) -> usize {
        self.coded
    }

    /// How [`Self::columns`] are decoded.
    pub(super) fn decoders(&self) -> &ColumnDecoders {
        &self.decoders
    }

    /// Positions among the columns of the file of those that each column of the scan is made of.
    pub(super) fn columns_of(&self) -> &[Vec<usize>] {
        &self.columns_of
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// `bytes`: of each of `row_groups` those of each of [`Self::columns`].
    pub(super) fn chunks(&self, row_groups: Vec<usize>, bytes: Vec<Bytes>) -> ColumnChunks {
        let (footer, columns) = (Arc::clone(&self.footer), Arc::clone(&self.columns));
        ColumnChunks::new(footer, row_groups.into(), columns, bytes)
    }

    /// The columns of the scan for `decoded`.
    ///
    /// # Errors
    /// What its expressions give.
    pub(super) fn project(&self, decoded: &RecordBatch) -> Result<RecordBatch> {
        let (_, columns, rows) = self.projector.project_batch(decoded)?.into_parts();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

/// `footer` with its Arrow schema in the layouts that a table with `file_schema` wants.
///
/// # Errors
/// If the schema of the footer cannot be read.
pub(super) fn coerced(
    file_schema: &Schema,
    footer: Arc<ParquetMetaData>,
    options: ArrowReaderOptions,
) -> Result<ArrowReaderMetadata> {
    let metadata = ArrowReaderMetadata::try_new(footer, options.clone())?;
    match apply_file_schema_type_coercions(file_schema, metadata.schema()) {
        None => Ok(metadata),
        Some(coerced) => {
            let options = options.with_schema(Arc::new(coerced));
            Ok(ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)?)
        }
    }
}

/// `expr` with the partition columns as the constants that they are in one file.
///
/// # Errors
/// If it cannot be rewritten.
pub(super) fn with_partition_values(
    expr: &Arc<dyn PhysicalExpr>,
    table: &TableSchema,
    partition_values: &[ScalarValue],
) -> Result<Arc<dyn PhysicalExpr>> {
    let fields = table.table_partition_cols().iter().map(|field| field.name().clone());
    let constants: HashMap<String, ScalarValue> = fields.zip(partition_values.iter().cloned()).collect();
    replace_columns_with_literals(Arc::clone(expr), &constants)
}
