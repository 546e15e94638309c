//! Encodes the rows of one row group as Parquet columns, in memory, each column on its own task.
//!
//! The same rows give the same bytes, however they were cut into record batches: each column is put together before it
//! is encoded, since the writer looks for the end of a page at the end of each array that it is given. Its task does that,
//! and lets go of the pieces; with geometries, which add columns, all are put together before.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
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
        let num_rows = rows.iter().map(RecordBatch::num_rows).sum();
        let (columns, geometry) = match self.geometry {
            Some(_) => {
                let encoder = Arc::clone(&self);
                joined(SpawnedTask::spawn(async move { encoder.prepare(rows) })).await?
            }
            None => self.prepare(rows)?,
        };
        let fields = self.schema.fields();
        if columns.len() != fields.len() {
            return internal_err!("a row group has {} columns, expected {}", columns.len(), fields.len());
        }
        let mut writers = self.factory.create_column_writers(0)?.into_iter();
        let columns: Vec<_> = fields
            .iter()
            .zip(columns)
            .map(|(field, pieces)| {
                let leaves = leaf_count(field.data_type());
                let writers: Vec<_> = writers.by_ref().take(leaves).collect();
                let field = Arc::clone(field);
                joined(SpawnedTask::spawn(async move { encode_column(&field, pieces, writers) }))
            })
            .collect();
        let columns = try_join_all(columns).await?.into_iter().flatten().collect();
        Ok(EncodedRowGroup { columns, geometry, rows: num_rows })
    }

    /// The pieces of each column of the file, those that geometries add included.
    fn prepare(&self, rows: Vec<RecordBatch>) -> Result<(Vec<Vec<ArrayRef>>, Option<GeometrySummary>)> {
        let Some(geometry) = &self.geometry else { return Ok((columns_of(rows), None)) };
        let (rows, summary) = geometry.prepare(&concatenated(rows)?)?;
        Ok((columns_of(vec![rows]), Some(summary)))
    }
}

/// The pieces of each column, in order.
fn columns_of(rows: Vec<RecordBatch>) -> Vec<Vec<ArrayRef>> {
    let mut columns = vec![Vec::with_capacity(rows.len()); rows.first().map_or(0, RecordBatch::num_columns)];
    for batch in rows {
        let (_, pieces, _) = batch.into_parts();
        columns.iter_mut().zip(pieces).for_each(|(column, piece)| column.push(piece));
    }
    columns
}

/// `rows` as one record batch. Unlike Arrow's own function it takes types from the arrays: those of partitions may differ
/// from the plan's in nullability of nested fields.
fn concatenated(rows: Vec<RecordBatch>) -> Result<RecordBatch> {
    let Some(first) = rows.first() else { return internal_err!("a row group has rows") };
    let schema = first.schema();
    let columns = columns_of(rows).into_iter().map(joined_pieces);
    Ok(RecordBatch::try_new(schema, columns.collect::<Result<_>>()?)?)
}

/// One array of `pieces`.
fn joined_pieces(pieces: Vec<ArrayRef>) -> Result<ArrayRef> {
    match <[ArrayRef; 1]>::try_from(pieces) {
        Ok([one]) => Ok(one),
        Err(pieces) => {
            let arrays: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
            Ok(concat(&arrays)?)
        }
    }
}

fn encode_column(
    field: &FieldRef,
    pieces: Vec<ArrayRef>,
    writers: Vec<ArrowColumnWriter>,
) -> Result<Vec<ArrowColumnChunk>> {
    let leaves = compute_leaves(field, &joined_pieces(pieces)?)?;
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
