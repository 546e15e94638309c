//! Columns of text that leave a scan as codes, for those who would look at equal texts again and again.
//!
//! Such a column is planned as a cast to a dictionary. Any reader of the file can do that, and takes longer than for the
//! text; where whole row groups are read on, the codes are those in the pages, and only the dictionaries are text. A file that has
//! more texts than there are codes is left to those who make new dictionaries for each record batch.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::datasource::physical_plan::{FileScanConfigBuilder, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::Partitioning;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};
use parquet::basic::Type as PhysicalType;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::decoding::{are_codes_of_text, code_type};
use super::source::{OdpSource, ScanShape};

/// Rows of a row group, at least, of those that are looked at. With fewer its dictionary is read for few.
const LEAST_ROWS: i64 = 1 << 15;

/// Rows for each byte of a dictionary, at least, where record batches of different row groups are joined.
const TURNS: i64 = 16;

/// `plan` with codes for its column at `position`, for one who may keep rows while reading others, or not: `are_kept`. `None` if it is
/// not a scan of whole batches, or the footers that are looked at do not show dictionaries of few texts.
///
/// # Errors
/// If the plan cannot be made.
pub(crate) fn with_codes(
    plan: &Arc<dyn ExecutionPlan>,
    position: usize,
    are_kept: bool,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    codes_of_scan(plan, position, 1, are_kept)
}

/// A text for each of so many rows, at most, as [`has_few_texts`] guesses.
fn codes_of_scan(
    plan: &Arc<dyn ExecutionPlan>,
    position: usize,
    rows: i64,
    are_kept: bool,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    // Where there are fewer batches than partitions, these take record batches in turn, and join short ones: with their
    // dictionaries.
    if let Some(turns) = plan.downcast_ref::<RepartitionExec>()
        && matches!(turns.partitioning(), Partitioning::RoundRobinBatch(_))
    {
        let Some(input) = codes_of_scan(turns.input(), position, TURNS, true)? else { return Ok(None) };
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        return Arc::clone(plan).replace_children(vec![input], options).map(Some);
    }
    let scan = plan.downcast_ref::<DataSourceExec>();
    let Some((config, source)) = scan.and_then(DataSourceExec::downcast_to_file_source::<OdpSource>) else {
        return Ok(None);
    };
    if config.limit.is_some() || !source.reads_whole_batches() {
        return Ok(None);
    }
    let Some(name) = source.projection().and_then(|given| text_column(source, given, position)) else {
        return Ok(None);
    };
    let footers = footers_to_look_at(source.scan());
    if !footers.is_some_and(|footers| footers.iter().all(|of| has_few_texts(of, &name, rows))) {
        return Ok(None);
    }

    let schema = plan.schema();
    let given = schema.fields().iter().enumerate().map(|(at, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
        let expr = match at == position {
            true => Arc::new(CastExpr::new(column, code_type(), None)),
            false => column,
        };
        ProjectionExpr::new(expr, field.name())
    });
    let Some(source) = source.try_pushdown_projection(&ProjectionExprs::new(given))? else { return Ok(None) };
    let source = match source.downcast_ref::<OdpSource>() {
        Some(source) if !are_kept => source.without_kept_rows(),
        _ => source,
    };
    let config = FileScanConfigBuilder::from(config.clone()).with_source(source).build();
    Ok(Some(DataSourceExec::from_data_source(config)))
}

/// Of up to eight files; `None` without files, or if they are not in memory.
fn footers_to_look_at(scan: &ScanShape) -> Option<Vec<Arc<ParquetMetaData>>> {
    let ScanShape { snapshot, kept, readers, .. } = scan;
    let file = |at: usize| snapshot.batches()[kept[at]].file_index;
    let last = kept.len().checked_sub(1)?;
    let files: BTreeSet<usize> = (0..8).map(|eighth| file(last * eighth / 7)).collect();
    files.into_iter().map(|file| readers.known_footer(&snapshot.files()[file].object_meta)).collect()
}

/// The column of text in the files that is `given` at `position`, and nowhere else.
fn text_column(source: &OdpSource, given: &ProjectionExprs, position: usize) -> Option<String> {
    let file_schema = source.table_schema().file_schema();
    let column = given.iter().nth(position)?.expr.downcast_ref::<Column>()?.clone();
    let field = file_schema.fields().get(column.index())?;
    let uses: Vec<Column> = given.expr_iter().flat_map(|expr| collect_columns(&expr)).collect();
    let is_flat = |column: &Column| {
        let field = source.table_schema().table_schema().fields().get(column.index());
        field.is_some_and(|field| !field.data_type().is_nested())
    };
    let is_only = uses.iter().filter(|used| **used == column).count() == 1;
    (is_text(field.data_type()) && is_only && uses.iter().all(is_flat)).then(|| field.name().clone())
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether dictionaries of the column `name` have a byte for each of so many `rows`, or fewer, and nothing keeps the file from
/// being read on.
fn has_few_texts(footer: &ParquetMetaData, name: &str, rows: i64) -> bool {
    let schema = footer.file_metadata().schema_descr();
    let leaf = (0..schema.num_columns())
        .find(|&leaf| matches!(schema.column(leaf).path().parts(), [only] if only == name));
    let few = |leaf: usize, group: &RowGroupMetaData| {
        let column = group.column(leaf);
        let dictionary = column.dictionary_page_offset().map(|start| column.data_page_offset() - start);
        dictionary.is_some_and(|length| (0..=group.num_rows() / rows).contains(&length))
    };
    let has_int96 = schema.columns().iter().any(|column| column.physical_type() == PhysicalType::INT96);
    let mut large = footer.row_groups().iter().filter(|group| group.num_rows() >= LEAST_ROWS);
    let is_it = |leaf: usize| have_codes(footer, leaf) && large.all(|group| few(leaf, group));
    are_large(footer) && !has_int96 && leaf.is_some_and(is_it)
}

/// `projection` of a file with the columns themselves where they are cast to codes, the columns of the file, `found`, with
/// codes for these, and how many they are: those of which all row groups have codes.
///
/// # Errors
/// None of its own.
pub(super) fn as_codes(
    projection: ProjectionExprs,
    found: &SchemaRef,
    footer: &ParquetMetaData,
) -> Result<(ProjectionExprs, SchemaRef, usize)> {
    let uses: Vec<Column> = projection.expr_iter().flat_map(|expr| collect_columns(&expr)).collect();
    let schema = footer.file_metadata().schema_descr();
    let codes_of = |expr: &Arc<dyn PhysicalExpr>| -> Option<Column> {
        let cast = expr.downcast_ref::<CastExpr>().filter(|cast| *cast.cast_type() == code_type())?;
        let column = cast.expr().downcast_ref::<Column>()?;
        let leaf =
            (0..schema.num_columns()).find(|&leaf| schema.get_column_root_idx(leaf) == column.index())?;
        let is_only = uses.iter().filter(|used| *used == column).count() == 1;
        let is_it = is_only && is_text(found.field(column.index()).data_type());
        (is_it && have_codes(footer, leaf)).then(|| column.clone())
    };
    let mut fields: Vec<Arc<Field>> = found.fields().iter().cloned().collect();
    let mut coded = 0;
    let projection = projection.try_map_exprs(|expr| {
        let Some(column) = codes_of(&expr) else { return Ok(expr) };
        let field = &mut fields[column.index()];
        *field = Arc::new(field.as_ref().clone().with_data_type(code_type()));
        coded += 1;
        Ok(Arc::new(column))
    })?;
    let found = match coded {
        0 => Arc::clone(found),
        _ => Arc::new(Schema::new_with_metadata(fields, found.metadata().clone())),
    };
    Ok((projection, found, coded))
}

fn are_large(footer: &ParquetMetaData) -> bool {
    footer.row_groups().first().is_some_and(|group| group.num_rows() >= LEAST_ROWS)
}

fn have_codes(footer: &ParquetMetaData, leaf: usize) -> bool {
    footer.row_groups().iter().all(|group| are_codes_of_text(group.column(leaf)))
}

/// `given`, which is made of the column of a file at `leaf`, as codes, if it is text and has codes in all of the file, whose
/// row groups are large.
pub(super) fn coded(
    given: &ProjectionExpr,
    schema: &Schema,
    footer: &ParquetMetaData,
    leaf: usize,
) -> Option<ProjectionExpr> {
    let column = given.expr.downcast_ref::<Column>()?;
    let is_text = schema.fields().get(column.index()).is_some_and(|field| is_text(field.data_type()));
    (is_text && are_large(footer) && have_codes(footer, leaf)).then(|| {
        let cast = CastExpr::new(Arc::clone(&given.expr), code_type(), None);
        ProjectionExpr::new(Arc::new(cast), given.alias.clone())
    })
}

/// `rows` as those of `schema`, with text for codes.
///
/// # Errors
/// If the columns are others.
pub(super) fn as_text(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let text = rows.columns().iter().zip(schema.fields()).map(|(column, field)| {
        match column.data_type() == field.data_type() {
            true => Ok(Arc::clone(column)),
            false => Ok(cast(column, field.data_type())?),
        }
    });
    let columns = text.collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}
