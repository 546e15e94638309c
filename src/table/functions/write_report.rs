//! `odp_write_report()`: what the last write of the session wrote.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, ListBuilder, RecordBatch, StringArray, StringBuilder, StructBuilder, UInt64Array, UInt64Builder,
};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::datasource::TableType;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use super::append_text;
use crate::sink::{LastWrite, WriteReport, WrittenColumn};

/// `odp_write_report()`: one row per file that the session's last write of ODP wrote; none before the first.
#[derive(Debug, Default)]
pub(crate) struct WriteReportFunction;

impl TableFunctionImpl for WriteReportFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        match args.exprs() {
            [] => Ok(Arc::new(WriteReportTable)),
            _ => plan_err!("odp_write_report takes no arguments"),
        }
    }
}

#[derive(Debug)]
struct WriteReportTable;

static COLUMN_FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("min", DataType::Utf8, true),
        Field::new("max", DataType::Utf8, true),
        Field::new("nulls", DataType::UInt64, true),
    ])
});

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let item = Field::new("item", DataType::Struct(COLUMN_FIELDS.clone()), true);
    let number = |name, nullable| Field::new(name, DataType::UInt64, nullable);
    Arc::new(Schema::new(vec![
        Field::new("location", DataType::Utf8, false),
        Field::new("file", DataType::Utf8, false),
        number("rows", false),
        number("bytes", false),
        number("row_groups", false),
        Field::new("partition", DataType::Utf8, true),
        number("version", true),
        Field::new("columns", DataType::List(Arc::new(item)), false),
    ]))
});

#[async_trait]
impl TableProvider for WriteReportTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&SCHEMA)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let report = state.config().get_extension::<LastWrite>().and_then(|last| last.get());
        let rows = report.map(|report| rows(&report)).transpose()?;
        let partitions = [rows.into_iter().collect::<Vec<_>>()];
        let plan = MemorySourceConfig::try_new_exec(&partitions, self.schema(), projection.cloned())?;
        Ok(plan)
    }
}

fn rows(report: &WriteReport) -> Result<RecordBatch> {
    let files = &report.files;
    let numbers = |values: Vec<u64>| Arc::new(UInt64Array::from(values)) as ArrayRef;
    let partition = files.iter().map(|file| {
        let part = |(name, value): &(String, Option<String>)| {
            format!("{name}={}", value.as_deref().unwrap_or("NULL"))
        };
        let parts: Vec<String> = file.partition.iter().map(part).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    });
    let item = Field::new("item", DataType::Struct(COLUMN_FIELDS.clone()), true);
    let mut columns =
        ListBuilder::new(StructBuilder::from_fields(COLUMN_FIELDS.clone(), files.len())).with_field(item);
    for file in files {
        file.columns.iter().for_each(|column| append_column(columns.values(), column));
        columns.append(true);
    }
    Ok(RecordBatch::try_new(
        Arc::clone(&SCHEMA),
        vec![
            Arc::new(files.iter().map(|_| Some(report.location.as_str())).collect::<StringArray>()),
            Arc::new(files.iter().map(|file| Some(file.path.as_str())).collect::<StringArray>()),
            numbers(files.iter().map(|file| file.rows).collect()),
            numbers(files.iter().map(|file| file.bytes).collect()),
            numbers(files.iter().map(|file| file.row_groups as u64).collect()),
            Arc::new(partition.collect::<StringArray>()),
            Arc::new(files.iter().map(|_| report.version).collect::<UInt64Array>()),
            Arc::new(columns.finish()),
        ],
    )?)
}

fn append_column(row: &mut StructBuilder, column: &WrittenColumn) {
    let text = |value: &ScalarValue| (!value.is_null()).then(|| value.to_string());
    if let Some(name) = row.field_builder::<StringBuilder>(0) {
        name.append_value(&column.name);
    }
    append_text(row, 1, text(&column.min));
    append_text(row, 2, text(&column.max));
    if let Some(nulls) = row.field_builder::<UInt64Builder>(3) {
        nulls.append_option(column.null_count);
    }
    row.append(true);
}
