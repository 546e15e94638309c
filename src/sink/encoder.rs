//! Encodes the rows of one row group as Parquet columns, in memory, each column on its own task.
//!
//! The same rows give the same bytes, however they were cut into record batches: each column is put together before it
//! is encoded, since the writer looks for the end of a page at the end of each array that it is given.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, internal_err};
use futures::future::try_join_all;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::file::properties::WriterPropertiesPtr;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::TypePtr;

use super::geometry::{GeometrySummary, GeometryWriter};

/// What the files of a write have in common.
#[derive(Debug)]
pub(super) struct Encoder {
    /// Of the files, covering columns included.
    schema: SchemaRef,
    parquet_schema: TypePtr,
    properties: WriterPropertiesPtr,
    factory: ArrowRowGroupWriterFactory,
    geometry: Option<GeometryWriter>,
}

/// A row group, ready to be appended to a file.
#[derive(Debug)]
pub(super) struct EncodedRowGroup {
    pub(super) columns: Vec<ArrowColumnChunk>,
    pub(super) geometry: Option<GeometrySummary>,
    pub(super) rows: usize,
}

impl EncodedRowGroup {
    /// Its size in a file, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.columns.iter().map(|column| column.close().bytes_written).sum()
    }
}

impl Encoder {
    /// `schema` is that of the files.
    ///
    /// # Errors
    /// If a column's type has no place in Parquet.
    pub(super) fn try_new(
        schema: SchemaRef,
        properties: WriterPropertiesPtr,
        geometry: Option<GeometryWriter>,
    ) -> Result<Self> {
        let parquet_schema = ArrowSchemaConverter::new()
            .with_coerce_types(properties.coerce_types())
            .convert(&schema)?
            .root_schema_ptr();
        let file =
            SerializedFileWriter::new(Vec::new(), Arc::clone(&parquet_schema), Arc::clone(&properties))?;
        let factory = ArrowRowGroupWriterFactory::new(&file, Arc::clone(&schema));
        Ok(Self { schema, parquet_schema, properties, factory, geometry })
    }

    pub(super) fn geometry(&self) -> Option<&GeometryWriter> {
        self.geometry.as_ref()
    }

    /// An empty file in memory.
    pub(super) fn new_file(&self) -> Result<SerializedFileWriter<Vec<u8>>> {
        let (schema, properties) = (Arc::clone(&self.parquet_schema), Arc::clone(&self.properties));
        Ok(SerializedFileWriter::new(Vec::new(), schema, properties)?)
    }

    /// Encodes `rows`, all of one row group, in order.
    pub(super) async fn encode(self: Arc<Self>, rows: Vec<RecordBatch>) -> Result<EncodedRowGroup> {
        let encoder = Arc::clone(&self);
        let prepared = SpawnedTask::spawn(async move { encoder.prepare(&rows) });
        let (rows, geometry) = joined(prepared).await?;
        let mut writers = self.factory.create_column_writers(0)?.into_iter();
        let columns: Vec<_> = self
            .schema
            .fields()
            .iter()
            .zip(rows.columns())
            .map(|(field, column)| {
                let leaves = leaf_count(field.data_type());
                let writers: Vec<_> = writers.by_ref().take(leaves).collect();
                let (field, column) = (Arc::clone(field), Arc::clone(column));
                joined(SpawnedTask::spawn(async move { encode_column(&field, &column, writers) }))
            })
            .collect();
        let num_rows = rows.num_rows();
        drop(rows);
        let columns = try_join_all(columns).await?.into_iter().flatten().collect();
        Ok(EncodedRowGroup { columns, geometry, rows: num_rows })
    }

    fn prepare(&self, rows: &[RecordBatch]) -> Result<(RecordBatch, Option<GeometrySummary>)> {
        let rows = concatenated(rows)?;
        match &self.geometry {
            Some(geometry) => {
                let (rows, summary) = geometry.prepare(&rows)?;
                Ok((rows, Some(summary)))
            }
            None => Ok((rows, None)),
        }
    }
}

/// `rows` as one record batch. Unlike Arrow's own function it takes types from the arrays: those of partitions may differ
/// from the plan's in nullability of nested fields.
fn concatenated(rows: &[RecordBatch]) -> Result<RecordBatch> {
    match rows {
        [] => internal_err!("a row group has rows"),
        [one] => Ok(one.clone()),
        [first, ..] => {
            let columns = (0..first.num_columns())
                .map(|i| {
                    let arrays: Vec<_> = rows.iter().map(|batch| batch.column(i).as_ref()).collect();
                    Ok(concat(&arrays)?)
                })
                .collect::<Result<Vec<ArrayRef>>>()?;
            Ok(RecordBatch::try_new(first.schema(), columns)?)
        }
    }
}

fn encode_column(
    field: &FieldRef,
    column: &ArrayRef,
    writers: Vec<ArrowColumnWriter>,
) -> Result<Vec<ArrowColumnChunk>> {
    let leaves = compute_leaves(field, column)?;
    if leaves.len() != writers.len() {
        return internal_err!(
            "column {} has {} leaves, expected {}",
            field.name(),
            leaves.len(),
            writers.len()
        );
    }
    let encoded = leaves.iter().zip(writers).map(|(leaf, mut writer)| {
        writer.write(leaf)?;
        Ok(writer.close()?)
    });
    encoded.collect()
}

/// Primitive columns that a column of this type is stored as.
pub(super) fn leaf_count(data_type: &DataType) -> usize {
    use DataType::{
        Dictionary, FixedSizeList, LargeList, LargeListView, List, ListView, Map, RunEndEncoded, Struct,
    };
    match data_type {
        Struct(fields) => fields.iter().map(|field| leaf_count(field.data_type())).sum(),
        List(field)
        | LargeList(field)
        | FixedSizeList(field, _)
        | ListView(field)
        | LargeListView(field)
        | Map(field, _) => leaf_count(field.data_type()),
        Dictionary(_, value) => leaf_count(value),
        RunEndEncoded(_, values) => leaf_count(values.data_type()),
        _ => 1,
    }
}

/// What `task` gives; a panic in it is an error.
pub(super) async fn joined<T: Send + 'static>(task: SpawnedTask<Result<T>>) -> Result<T> {
    task.join().await.unwrap_or_else(|error| Err(task_failed(&error)))
}

fn task_failed(error: &tokio::task::JoinError) -> DataFusionError {
    exec_datafusion_err!("a task that wrote Parquet ended without a result: {error}")
}
