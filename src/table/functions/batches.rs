//! `odp_batches('t')`: one row per batch; with a filter, one per batch that may hold rows that match.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, Float64Array, ListBuilder, RecordBatch, StringArray, StructBuilder, UInt64Array,
    UInt64Builder,
};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use super::{FilterArgs, append_text, as_odp, find_table, partition_text, table_name};
use crate::dataset::{BatchMetadata, ColumnBounds, DatasetSnapshot, batch_extents};
use crate::geo::BoundingBox;
use crate::table::selected_batch::{KeptReason, row_bounds};
use crate::table::selection_builder::{KeptByFilter, keep_batches};

/// `odp_batches('t')`: one row per batch of table `t`, in `batch_index` order. `odp_batches('t', 'filter')`: of the
/// batches that may hold rows that match, with `min_rows`, `max_rows` and `reason`.
#[derive(Debug, Default)]
pub(crate) struct BatchesFunction;

impl TableFunctionImpl for BatchesFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let Some((table, filter)) = args.exprs().split_first() else {
            return plan_err!("odp_batches takes the name of a table: odp_batches('t')");
        };
        let filter = match filter {
            [] => None,
            filter => Some(FilterArgs::try_new("odp_batches", filter)?),
        };
        Ok(Arc::new(BatchesTable { table: table_name("odp_batches", table)?, filter }))
    }
}

/// The batches of a table, looked up when it is scanned.
#[derive(Debug)]
struct BatchesTable {
    table: TableReference,
    filter: Option<FilterArgs>,
}

#[async_trait]
impl TableProvider for BatchesTable {
    fn schema(&self) -> SchemaRef {
        match self.filter {
            None => Arc::clone(&BATCHES_SCHEMA),
            Some(_) => Arc::clone(&KEPT_SCHEMA),
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
        let provider = find_table(state, &self.table).await?;
        let snapshot = &as_odp(&provider, &self.table)?.snapshot();
        let bounds_at = BATCHES_SCHEMA.fields().len() - 1;
        let with_bounds = projection.is_none_or(|columns| columns.contains(&bounds_at));
        let rows = match &self.filter {
            None => {
                let all: Vec<usize> = (0..snapshot.num_batches()).collect();
                RecordBatch::try_new(self.schema(), batches(snapshot, &all, with_bounds)?)?
            }
            Some(filter) => {
                let kept = keep_batches(state, snapshot, &filter.plan(state, snapshot)?)?;
                let mut columns = batches(snapshot, &kept.indices, with_bounds)?;
                columns.extend(kept_columns(snapshot, &kept));
                RecordBatch::try_new(self.schema(), columns)?
            }
        };
        let plan = MemorySourceConfig::try_new_exec(&[vec![rows]], self.schema(), projection.cloned())?;
        Ok(plan)
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

static KEPT_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields: Vec<Field> = BATCHES_SCHEMA.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new("min_rows", DataType::UInt64, false));
    fields.push(Field::new("max_rows", DataType::UInt64, false));
    fields.push(Field::new("reason", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
});

fn kept_columns(snapshot: &DatasetSnapshot, kept: &KeptByFilter) -> [ArrayRef; 3] {
    let bounds: Vec<_> = kept
        .indices
        .iter()
        .zip(&kept.certainty)
        .map(|(&index, &certainty)| row_bounds(certainty, snapshot.batches()[index].rows))
        .collect();
    let reasons = kept.certainty.iter().map(|&certainty| Some(KeptReason::of(certainty).to_string()));
    [
        Arc::new(bounds.iter().map(|rows| Some(rows.min)).collect::<UInt64Array>()),
        Arc::new(bounds.iter().map(|rows| Some(rows.max)).collect::<UInt64Array>()),
        Arc::new(reasons.collect::<StringArray>()),
    ]
}

/// The columns of [`BATCHES_SCHEMA`] for the batches at `indices`. `with_bounds`: whether the last column, the bounds of
/// every column as text, is wanted; it is empty otherwise.
fn batches(snapshot: &DatasetSnapshot, indices: &[usize], with_bounds: bool) -> Result<Vec<ArrayRef>> {
    let batches: Vec<&BatchMetadata> = indices.iter().map(|&i| &snapshot.batches()[i]).collect();
    let numbers = |value: fn(&BatchMetadata) -> u64| -> ArrayRef {
        Arc::new(batches.iter().map(|batch| Some(value(batch))).collect::<UInt64Array>())
    };
    let files: StringArray = batches.iter().map(|batch| Some(snapshot.file_of(batch).path())).collect();
    let values: StringArray = batches
        .iter()
        .map(|batch| partition_text(snapshot, &snapshot.file_of(batch).partition_values))
        .collect();
    let extents = batch_extents(snapshot);
    let edges = |edge: fn(&BoundingBox) -> f64| -> ArrayRef {
        Arc::new(indices.iter().map(|&i| extents[i].as_ref().map(edge)).collect::<Float64Array>())
    };
    Ok(vec![
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
        column_bounds(snapshot, indices, with_bounds)?,
    ])
}

fn column_bounds(snapshot: &DatasetSnapshot, indices: &[usize], is_wanted: bool) -> Result<ArrayRef> {
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
    for &batch in indices {
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
