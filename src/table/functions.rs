//! Table functions over a dataset's metadata: `odp_batches('t')` and `odp_files('t')`. They read no data.

use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, Float64Array, Float64Builder, Int64Array, ListBuilder, RecordBatch, StringArray,
    StringBuilder, StructBuilder, TimestampMicrosecondArray, UInt64Array, UInt64Builder,
};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, TableReference, plan_datafusion_err, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use super::provider::OdpTableProvider;
use crate::dataset::{ColumnBounds, DatasetSnapshot, coordinate_extents};
use crate::geo::BoundingBox;

/// `odp_batches('t')`: one row per batch of table `t`, in `batch_index` order.
#[derive(Debug, Default)]
pub(crate) struct BatchesFunction;

/// `odp_files('t')`: one row per file of table `t`, in natural order.
#[derive(Debug, Default)]
pub(crate) struct FilesFunction;

impl TableFunctionImpl for BatchesFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(MetadataTable { table: table_name("odp_batches", args.exprs())?, kind: Kind::Batches }))
    }
}

impl TableFunctionImpl for FilesFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(MetadataTable { table: table_name("odp_files", args.exprs())?, kind: Kind::Files }))
    }
}

fn table_name(function: &str, args: &[Expr]) -> Result<TableReference> {
    match args {
        [Expr::Literal(value, _)] => match value.try_as_str() {
            Some(Some(name)) => Ok(TableReference::parse_str(name)),
            _ => plan_err!("{function} takes the name of a table as text, not {value}"),
        },
        [Expr::Column(column)] => Ok(TableReference::parse_str(&column.flat_name())),
        _ => plan_err!("{function} takes one argument, the name of a table: {function}('t')"),
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Batches,
    Files,
}

/// The metadata of a table, looked up when it is scanned.
struct MetadataTable {
    table: TableReference,
    kind: Kind,
}

impl Debug for MetadataTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataTable").field("table", &self.table).field("kind", &self.kind).finish()
    }
}

#[async_trait]
impl TableProvider for MetadataTable {
    fn schema(&self) -> SchemaRef {
        match self.kind {
            Kind::Batches => Arc::clone(&BATCHES_SCHEMA),
            Kind::Files => Arc::clone(&FILES_SCHEMA),
        }
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let provider = self.find(state).await?;
        let Some(table) = provider.downcast_ref::<OdpTableProvider>() else {
            return plan_err!("table {} is not stored as ODP", self.table);
        };
        let rows = match self.kind {
            Kind::Batches => {
                let last = BATCHES_SCHEMA.fields().len() - 1;
                batches(table.snapshot(), projection.is_none_or(|columns| columns.contains(&last)))?
            }
            Kind::Files => files(table.snapshot())?,
        };
        let plan = MemorySourceConfig::try_new_exec(&[vec![rows]], self.schema(), projection.cloned())?;
        Ok(plan)
    }
}

impl MetadataTable {
    async fn find(&self, state: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        let defaults = &state.config_options().catalog;
        let name = self.table.clone().resolve(&defaults.default_catalog, &defaults.default_schema);
        let schema =
            state.catalog_list().catalog(&name.catalog).and_then(|catalog| catalog.schema(&name.schema));
        let table = match schema {
            Some(schema) => schema.table(&name.table).await?,
            None => None,
        };
        table.ok_or_else(|| plan_datafusion_err!("table {} does not exist", self.table))
    }
}

static COLUMN_FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("min", DataType::Utf8, true),
        Field::new("max", DataType::Utf8, true),
        Field::new("nulls", DataType::UInt64, true),
    ])
});

fn columns_field() -> Field {
    let item = Field::new("item", DataType::Struct(COLUMN_FIELDS.clone()), true);
    Field::new("columns", DataType::List(Arc::new(item)), false)
}

static GEOMETRY_FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let edge = |name| Field::new(name, DataType::Float64, true);
    Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        text("encoding"),
        text("crs"),
        text("edges"),
        text("geometry_types"),
        edge("xmin"),
        edge("ymin"),
        edge("xmax"),
        edge("ymax"),
    ])
});

fn geometry_item() -> Field {
    Field::new("item", DataType::Struct(GEOMETRY_FIELDS.clone()), true)
}

static BATCHES_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let edge = |name| Field::new(name, DataType::Float64, true);
    Arc::new(Schema::new(vec![
        Field::new("batch_index", DataType::UInt64, false),
        Field::new("file", DataType::Utf8, false),
        Field::new("first_row", DataType::UInt64, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("compressed_bytes", DataType::UInt64, false),
        Field::new("uncompressed_bytes", DataType::UInt64, false),
        Field::new("partition_values", DataType::Utf8, true),
        edge("xmin"),
        edge("ymin"),
        edge("xmax"),
        edge("ymax"),
        columns_field(),
    ]))
});

static FILES_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("file", DataType::Utf8, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("last_modified", time, false),
        Field::new("e_tag", DataType::Utf8, true),
        Field::new("rows", DataType::UInt64, false),
        Field::new("row_groups", DataType::UInt64, false),
        Field::new("batches", DataType::UInt64, false),
        Field::new("first_batch", DataType::Int64, true),
        Field::new("partition_values", DataType::Utf8, true),
        Field::new("geometry_columns", DataType::List(Arc::new(geometry_item())), false),
    ]))
});

/// `with_columns`: whether the last column, the bounds of every column as text, is wanted; it is empty otherwise.
fn batches(snapshot: &DatasetSnapshot, with_columns: bool) -> Result<RecordBatch> {
    let batches = snapshot.batches();
    let numbers = |value: fn(&crate::BatchMetadata) -> u64| -> ArrayRef {
        Arc::new(batches.iter().map(|batch| Some(value(batch))).collect::<UInt64Array>())
    };
    let files: StringArray = batches.iter().map(|batch| Some(snapshot.file_of(batch).path())).collect();
    let values: StringArray = batches
        .iter()
        .map(|batch| partition_text(snapshot, &snapshot.file_of(batch).partition_values))
        .collect();
    let extents = extents(snapshot);
    let edges = |edge: fn(&BoundingBox) -> f64| -> ArrayRef {
        Arc::new(extents.iter().map(|extent| extent.as_ref().map(edge)).collect::<Float64Array>())
    };
    let columns: Vec<ArrayRef> = vec![
        numbers(|batch| batch.batch_index as u64),
        Arc::new(files),
        numbers(|batch| batch.first_row),
        numbers(|batch| batch.rows),
        numbers(|batch| batch.compressed_bytes),
        numbers(|batch| batch.uncompressed_bytes),
        Arc::new(values),
        edges(|e| e.xmin + 0.0),
        edges(|e| e.ymin + 0.0),
        edges(|e| e.xmax + 0.0),
        edges(|e| e.ymax + 0.0),
        column_bounds(snapshot, with_columns)?,
    ];
    Ok(RecordBatch::try_new(Arc::clone(&BATCHES_SCHEMA), columns)?)
}

fn files(snapshot: &DatasetSnapshot) -> Result<RecordBatch> {
    let files = snapshot.files();
    let mut first_batch: Vec<Option<i64>> = vec![None; files.len()];
    let mut num_batches = vec![0u64; files.len()];
    for batch in snapshot.batches() {
        num_batches[batch.file_index] += 1;
        let index = i64::try_from(batch.batch_index).unwrap_or(i64::MAX);
        first_batch[batch.file_index].get_or_insert(index);
    }
    let modified: TimestampMicrosecondArray =
        files.iter().map(|file| Some(file.object_meta.last_modified.timestamp_micros())).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(files.iter().map(|file| Some(file.path())).collect::<StringArray>()),
        Arc::new(files.iter().map(|file| Some(file.object_meta.size)).collect::<UInt64Array>()),
        Arc::new(modified.with_timezone("UTC")),
        Arc::new(files.iter().map(|file| file.object_meta.e_tag.clone()).collect::<StringArray>()),
        Arc::new(files.iter().map(|file| Some(file.num_rows())).collect::<UInt64Array>()),
        Arc::new(files.iter().map(|file| Some(file.row_groups.len() as u64)).collect::<UInt64Array>()),
        Arc::new(UInt64Array::from(num_batches)),
        Arc::new(Int64Array::from(first_batch)),
        Arc::new(
            files
                .iter()
                .map(|file| partition_text(snapshot, &file.partition_values))
                .collect::<StringArray>(),
        ),
        geometry_columns(snapshot),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&FILES_SCHEMA), columns)?)
}

/// What each file says of its geometry columns.
fn geometry_columns(snapshot: &DatasetSnapshot) -> ArrayRef {
    let mut list =
        ListBuilder::new(StructBuilder::from_fields(GEOMETRY_FIELDS.clone(), 0)).with_field(geometry_item());
    for file in 0..snapshot.files().len() {
        let row = list.values();
        for column in snapshot.geometry_columns() {
            let Some(geometry) = &column.files[file] else { continue };
            let description = geometry.description.as_ref();
            let types = &description.geometry_types;
            let texts = [
                Some(column.name.clone()),
                description.encoding.clone(),
                description.crs.clone(),
                description.edges.clone(),
                (!types.is_empty()).then(|| types.join(", ")),
            ];
            for (index, text) in texts.into_iter().enumerate() {
                append_text(row, index, text);
            }
            let extent = geometry.extent.as_ref();
            let edges: [fn(&BoundingBox) -> f64; 4] = [|e| e.xmin, |e| e.ymin, |e| e.xmax, |e| e.ymax];
            for (index, edge) in edges.into_iter().enumerate() {
                if let Some(builder) = row.field_builder::<Float64Builder>(5 + index) {
                    builder.append_option(extent.map(edge).map(|bound| bound + 0.0));
                }
            }
            row.append(true);
        }
        list.append(true);
    }
    Arc::new(list.finish())
}

/// `year=2020, month=NULL`; `None` without partition columns.
fn partition_text(snapshot: &DatasetSnapshot, values: &[ScalarValue]) -> Option<String> {
    let fields = snapshot.table_schema().table_partition_cols();
    let parts: Vec<String> =
        fields.iter().zip(values).map(|(field, value)| format!("{}={value}", field.name())).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The extent of each batch where it is known: of a declared geometry column, else of plain coordinate columns.
fn extents(snapshot: &DatasetSnapshot) -> Vec<Option<BoundingBox>> {
    let mut extents = coordinate_extents(snapshot);
    for column in snapshot.geometry_columns().iter().rev().filter(|column| column.is_declared) {
        for (extent, known) in extents.iter_mut().zip(&column.extents) {
            *extent = known.or(*extent);
        }
    }
    extents
}

fn column_bounds(snapshot: &DatasetSnapshot, is_wanted: bool) -> Result<ArrayRef> {
    let schema = snapshot.schema();
    let columns = if is_wanted { snapshot.bounds().columns.as_slice() } else { &[] };
    let options = FormatOptions::default().with_display_error(true);
    let texts = columns
        .iter()
        .map(|bounds: &ColumnBounds| {
            Ok((
                ArrayFormatter::try_new(&bounds.min, &options)?,
                ArrayFormatter::try_new(&bounds.max, &options)?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut list = ListBuilder::new(StructBuilder::from_fields(COLUMN_FIELDS.clone(), columns.len()));
    for batch in 0..snapshot.num_batches() {
        let row = list.values();
        for ((field, bounds), (min, max)) in schema.fields().iter().zip(columns).zip(&texts) {
            let min = bounds.min.is_valid(batch).then(|| min.value(batch).to_string());
            let max = bounds.max.is_valid(batch).then(|| max.value(batch).to_string());
            let nulls = bounds.null_counts.is_valid(batch).then(|| bounds.null_counts.value(batch));
            append_text(row, 0, Some(field.name().clone()));
            append_text(row, 1, min);
            append_text(row, 2, max);
            if let Some(builder) = row.field_builder::<UInt64Builder>(3) {
                builder.append_option(nulls);
            }
            row.append(true);
        }
        list.append(true);
    }
    Ok(Arc::new(list.finish()))
}

fn append_text(row: &mut StructBuilder, field: usize, text: Option<String>) {
    if let Some(builder) = row.field_builder::<StringBuilder>(field) {
        builder.append_option(text);
    }
}
