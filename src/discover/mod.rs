//! From locations to a [`DatasetSnapshot`]: lists files, reads their footers once, cuts batches.

mod bounds;
mod footer;
mod geometry;
mod hive;
mod leaves;
mod listing;
mod natural_order;
mod schema;

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::Session;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{Column, ScalarValue};
use datafusion::config::ParquetOptions;
use datafusion::datasource::physical_plan::parquet::{
    Int96Coercer, transform_binary_to_string, transform_schema_to_view,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::logical_expr::{Expr, SortExpr};
use datafusion::object_store::{ObjectMeta, ObjectStore};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, RowGroupMetaData};

pub(crate) use footer::{cached_footer, fetch_footer};
use geometry::FileColumn;
pub(crate) use geometry::{BoundingLeaves, NullEdge, bounding_leaves};
pub(crate) use hive::DeclaredPartition;
pub(crate) use leaves::keeps_bounds;
use listing::{ListedFile, Location};

use crate::dataset::{
    BatchBounds, DatasetFile, DatasetSnapshot, RowGroup, SnapshotParts, cut_into_batches, cut_range,
};
use crate::error::OdpError;
use crate::options::TableOptions;

/// What to open, and how.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// URLs or paths, all in one object store.
    pub(crate) locations: Vec<String>,
    pub(crate) options: TableOptions,
    /// Partition columns that the user named.
    pub(crate) partitions: Option<Vec<DeclaredPartition>>,
    /// Columns that the user declared, without partition columns.
    pub(crate) schema: Option<SchemaRef>,
    /// The location is one file, and this is all that is wanted of it.
    pub(crate) range: Option<FileRange>,
}

/// Some rows of a file, and the values of its partition columns, as another snapshot had them.
#[derive(Debug, Clone)]
pub(crate) struct FileRange {
    pub(crate) first_row: u64,
    pub(crate) rows: u64,
    pub(crate) partitions: Vec<(String, ScalarValue)>,
}

/// Opens a dataset: lists it, reads all footers concurrently, merges schemas, cuts batches.
///
/// # Errors
/// See [`OdpError`]: nothing to read, storage failures, files that break their format or do not fit together.
pub(crate) async fn open_snapshot(
    state: &dyn Session,
    request: Request,
) -> Result<DatasetSnapshot, OdpError> {
    let locations = request.locations.iter().map(|l| Location::parse(l)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = locations.first() else {
        return Err(OdpError::EmptyDataset {
            location: "(none)".into(),
            reason: "no location is given".into(),
        });
    };
    let object_store_url = first.object_store_url();
    if let Some(other) = locations.iter().find(|l| l.object_store_url() != object_store_url) {
        let what = format!("one dataset in two object stores ({} and {})", first.display(), other.display());
        return Err(OdpError::Unsupported { what });
    }
    let store = state.runtime_env().object_store(&object_store_url).map_err(|_| OdpError::Storage {
        location: first.display(),
        // DataFusion's own message repeats the URL as written, credentials included.
        source: "no object store is registered for this URL".into(),
    })?;
    let mut listed = Vec::new();
    for location in &locations {
        listed.extend(location.list(store.as_ref(), &request.options.file_extensions).await?);
    }
    // A file that lies in two of the locations is read once.
    let mut seen = HashSet::new();
    listed.retain(|file| seen.insert(file.object_meta.location.clone()));
    let footers = read_footers(state, &store, &listed).await?;
    let partitions = match request.options.hive_partitions || request.partitions.is_some() {
        true => hive::read_partitions(&listed, request.partitions.as_deref())?,
        false => hive::Partitions::given(request.range.as_ref(), listed.len()),
    };
    let mut files: Vec<FileWithFooter> = listed
        .into_iter()
        .zip(footers)
        .zip(partitions.values)
        .map(|((listed, read), partition_values)| FileWithFooter {
            file: dataset_file(listed.object_meta, &read.footer, partition_values),
            read,
        })
        .collect();

    let file_schema = match request.schema {
        Some(declared) => {
            schema::check_declared(&declared, files.iter().map(FileWithFooter::named_schema))?;
            declared
        }
        None => {
            let union = schema::union_by_name(files.iter().map(FileWithFooter::named_schema))?;
            Arc::new(with_session_types(union, &state.config_options().execution.parquet))
        }
    };
    let clash = partitions.columns.iter().find(|(name, _)| file_schema.field_with_name(name).is_ok());
    if let Some((name, _)) = clash {
        return Err(OdpError::SchemaMismatch {
            first: files[0].file.path().to_owned(),
            second: "the directories above it".into(),
            reason: format!("column {name:?} is in the file and in its path"),
        });
    }
    let geometry = geometry::merge(
        &file_schema,
        files
            .iter_mut()
            .map(|file| (file.file.path(), file.read.footer.num_row_groups(), &mut file.read.geometry)),
    )?;
    let file_schema = geometry::annotate(file_schema, &geometry);
    let partition_fields: Vec<_> =
        partitions.columns.iter().map(|(name, data_type)| schema::partition_field(name, data_type)).collect();
    let table_schema = TableSchema::builder(file_schema).with_table_partition_cols(partition_fields).build();

    let sorting = common_sorting(&files, table_schema.file_schema());
    let mut first_row_group = Vec::with_capacity(files.len());
    let mut row_groups = 0;
    let mut parts = Vec::with_capacity(files.len());
    for file in &files {
        first_row_group.push(row_groups);
        row_groups += file.read.footer.num_row_groups();
        let values = &file.file.partition_values;
        parts.push(bounds::row_group_bounds(
            &file.read.footer,
            &file.read.schema,
            table_schema.file_schema(),
            values,
        )?);
    }
    let row_group_bounds = BatchBounds::concat(&parts, table_schema.table_schema())?;
    let nested = leaves::nested_bounds(
        table_schema.file_schema(),
        files.iter().map(|file| (file.read.footer.as_ref(), &file.read.schema)),
    );
    let files: Vec<DatasetFile> = files.drain(..).map(|file| file.file).collect();
    let batches = match (&request.range, files.as_slice()) {
        (None, files) => cut_into_batches(files, request.options.batch_unit),
        (Some(range), [file]) => Vec::from_iter(cut_range(file, range.first_row, range.rows)),
        (Some(_), _) => vec![],
    };
    let merges_row_groups = batches.iter().any(|batch| batch.row_groups.len() > 1);
    let sorting = match merges_row_groups && !row_groups_follow(&row_group_bounds, &table_schema, &sorting)? {
        // The files declare the order of each row group, not of several together.
        true => Vec::new(),
        false => sorting,
    };
    let bounds = row_group_bounds.for_batches(&batches, &first_row_group)?;
    let rows = row_group_bounds.rows.values();
    let leaf_bounds = nested
        .into_iter()
        .map(|(path, bounds)| (path, bounds.for_batches(rows, &batches, &first_row_group)))
        .collect();
    let geometry_columns =
        geometry.into_iter().map(|column| column.for_batches(&batches, &first_row_group)).collect();
    Ok(DatasetSnapshot::new(SnapshotParts {
        object_store_url,
        location: locations.iter().map(Location::display).collect::<Vec<_>>().join(", "),
        schema: table_schema,
        files,
        batches,
        bounds,
        geometry_columns,
        leaf_bounds,
        sorting,
    }))
}

struct FileWithFooter {
    file: DatasetFile,
    read: ReadFooter,
}

/// A footer, and what is made of it.
struct ReadFooter {
    footer: Arc<ParquetMetaData>,
    /// The Arrow schema of the file itself.
    schema: Schema,
    geometry: Vec<FileColumn>,
}

impl FileWithFooter {
    fn named_schema(&self) -> (&str, &Schema) {
        (self.file.path(), &self.read.schema)
    }
}

/// All footers, in order of the files; reads several at a time, on all threads.
async fn read_footers(
    state: &dyn Session,
    store: &Arc<dyn ObjectStore>,
    files: &[ListedFile],
) -> Result<Vec<ReadFooter>, OdpError> {
    let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
    let parquet = &state.config_options().execution.parquet;
    let int96 = int96_type(parquet);
    let concurrency = state.config_options().execution.meta_fetch_concurrency.get();
    let versions: Vec<ObjectMeta> = files.iter().map(|file| file.object_meta.clone()).collect();
    futures::stream::iter(versions)
        .map(|object_meta| {
            let (store, cache, int96) = (Arc::clone(store), Arc::clone(&cache), int96.clone());
            async move {
                let path = object_meta.location.to_string();
                // A task of its own: footers are decoded in parallel, and a panic of the decoder stays in it.
                SpawnedTask::spawn(async move { read_footer(&*store, &object_meta, &cache, int96).await })
                    .join()
                    .await
                    .unwrap_or_else(|error| {
                        Err(OdpError::InvalidData { location: path, source: error.into() })
                    })
            }
        })
        .buffered(concurrency)
        .try_collect()
        .await
}

async fn read_footer(
    store: &dyn ObjectStore,
    object_meta: &ObjectMeta,
    cache: &Arc<FileMetadataCache>,
    int96: Option<(TimeUnit, Option<Arc<str>>)>,
) -> Result<ReadFooter, OdpError> {
    let footer = fetch_footer(store, object_meta, cache, PageIndexPolicy::Skip).await?;
    let footer = footer::trusted(object_meta, cache, footer, false)?;
    let invalid =
        |source: BoxError| OdpError::InvalidData { location: object_meta.location.to_string(), source };
    check_row_groups(&footer, object_meta.size).map_err(invalid)?;
    let file = footer.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())
        .map_err(|error| invalid(error.into()))?;
    let coerced = int96.and_then(|(unit, zone)| {
        Int96Coercer::new(file.schema_descr(), &schema, &unit).with_timezone(zone).coerce()
    });
    let schema = coerced.unwrap_or(schema);
    let geometry = geometry::read_columns(&footer, &schema, object_meta.location.as_ref());
    Ok(ReadFooter { footer, schema, geometry })
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Whether row counts and byte ranges can be true for a file of `file_size` bytes.
fn check_row_groups(footer: &ParquetMetaData, file_size: u64) -> Result<(), BoxError> {
    for (index, group) in footer.row_groups().iter().enumerate() {
        if group.num_rows() < 0 {
            return Err(format!("row group {index} has {} rows", group.num_rows()).into());
        }
        for column in group.columns() {
            let (start, length) = (first_page_offset_of(column), column.compressed_size());
            let end =
                u64::try_from(start).ok().zip(u64::try_from(length).ok()).map(|(a, b)| a.saturating_add(b));
            if end.is_none_or(|end| end > file_size) {
                return Err(format!(
                    "row group {index}, column {}: {length} bytes at {start} do not lie in a file of {file_size} bytes",
                    column.column_path()
                )
                .into());
            }
        }
    }
    Ok(())
}

/// The unit and time zone that the session reads INT96 timestamps in, if it says so.
fn int96_type(parquet: &ParquetOptions) -> Option<(TimeUnit, Option<Arc<str>>)> {
    let unit = match parquet.coerce_int96.as_deref()?.to_ascii_lowercase().as_str() {
        "s" => TimeUnit::Second,
        "ms" => TimeUnit::Millisecond,
        "us" => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    };
    Some((unit, parquet.coerce_int96_tz.as_deref().map(Arc::from)))
}

/// The layouts of text and binary that the session wants Parquet read as.
fn with_session_types(schema: Schema, parquet: &ParquetOptions) -> Schema {
    let schema = match parquet.binary_as_string {
        true => transform_binary_to_string(&schema),
        false => schema,
    };
    match parquet.schema_force_view_types {
        true => transform_schema_to_view(&schema),
        false => schema,
    }
}

fn dataset_file(
    object_meta: ObjectMeta,
    footer: &ParquetMetaData,
    partition_values: Vec<ScalarValue>,
) -> DatasetFile {
    let positive = |n: i64| u64::try_from(n).unwrap_or(0);
    let mut first_row = 0;
    let row_groups: Vec<RowGroup> = footer
        .row_groups()
        .iter()
        .map(|group| {
            let rows = positive(group.num_rows());
            let row_group = RowGroup {
                first_row,
                rows,
                offset: positive(first_page_offset(group)),
                compressed_bytes: positive(group.compressed_size()),
                uncompressed_bytes: positive(group.total_byte_size()),
            };
            first_row += rows;
            row_group
        })
        .collect();
    DatasetFile::new(object_meta, partition_values, row_groups)
}

/// What DataFusion's byte ranges are compared with: the offset of the first column's first page.
fn first_page_offset(group: &RowGroupMetaData) -> i64 {
    group.columns().first().map_or(0, first_page_offset_of)
}

fn first_page_offset_of(column: &ColumnChunkMetaData) -> i64 {
    column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset())
}

/// The order that every row group of every file declares, as far as they agree; columns of the table only.
///
/// A descending float is left out: DataFusion sorts NaN above all numbers, other writers put it last.
fn common_sorting(files: &[FileWithFooter], table: &Schema) -> Vec<SortExpr> {
    let mut common: Option<Vec<SortExpr>> = None;
    for file in files {
        for group in file.read.footer.row_groups().iter().filter(|group| group.num_rows() > 0) {
            let declared = sorting_of(group, &file.read.schema, table);
            let kept = match common {
                None => declared,
                Some(known) => {
                    known.into_iter().zip(declared).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
                }
            };
            if kept.is_empty() {
                return kept;
            }
            common = Some(kept);
        }
    }
    common.unwrap_or_default()
}

/// Whether each row group of the dataset that has rows comes before the next one in the order `sorting`.
fn row_groups_follow(
    bounds: &BatchBounds,
    table: &TableSchema,
    sorting: &[SortExpr],
) -> Result<bool, OdpError> {
    let Some(first) = sorting.first() else { return Ok(true) };
    let Expr::Column(column) = &first.expr else { return Ok(false) };
    let Ok(index) = table.table_schema().index_of(&column.name) else { return Ok(false) };
    let with_rows: Vec<usize> = (0..bounds.len()).filter(|&i| bounds.rows.value(i) > 0).collect();
    Ok(bounds.follow(index, &with_rows, !first.asc, sorting.len() > 1)?)
}

fn sorting_of(group: &RowGroupMetaData, file: &Schema, table: &Schema) -> Vec<SortExpr> {
    let declared = group.sorting_columns().map(Vec::as_slice).unwrap_or_default();
    let column = |index: i32| -> Option<(String, DataType)> {
        let leaf = group.columns().get(usize::try_from(index).ok()?)?;
        let [name] = leaf.column_path().parts() else { return None };
        let (found, wanted) = (file.field_with_name(name).ok()?, table.field_with_name(name).ok()?);
        let is_kept = found.data_type() == wanted.data_type()
            || bounds::keeps_order(found.data_type(), wanted.data_type());
        is_kept.then(|| (name.clone(), wanted.data_type().clone()))
    };
    declared
        .iter()
        .map_while(|sorting| {
            let (name, data_type) = column(sorting.column_idx)?;
            let is_trusted = !(data_type.is_floating() && sorting.descending);
            let expr = Expr::Column(Column::from_name(name));
            is_trusted.then(|| SortExpr::new(expr, !sorting.descending, sorting.nulls_first))
        })
        .collect()
}
