//! `odp_files('t')`: one row per file.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, Float64Builder, Int64Array, ListBuilder, RecordBatch, StringArray, StructBuilder,
    TimestampMicrosecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, TableReference, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use super::{append_text, as_odp, find_table, partition_text, table_name};
use crate::dataset::DatasetSnapshot;
use crate::geo::BoundingBox;

/// `odp_files('t')`: one row per file of table `t`, in natural order.
#[derive(Debug, Default)]
pub(crate) struct FilesFunction;

impl TableFunctionImpl for FilesFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        match args.exprs() {
            [table] => Ok(Arc::new(FilesTable { table: table_name("odp_files", table)? })),
            _ => plan_err!("odp_files takes one argument, the name of a table: odp_files('t')"),
        }
    }
}

/// The files of a table, looked up when it is scanned.
#[derive(Debug)]
struct FilesTable {
    table: TableReference,
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&FILES_SCHEMA)
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
        let rows = files(&as_odp(&provider, &self.table)?.snapshot())?;
        let plan = MemorySourceConfig::try_new_exec(&[vec![rows]], self.schema(), projection.cloned())?;
        Ok(plan)
    }
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
