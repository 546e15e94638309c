//! From the facts of files to a [`DatasetSnapshot`]: one schema, batches, and their bounds in the table's types.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::UInt64Array;
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Column, Result as DataFusionResult, ScalarValue};
use datafusion::config::ParquetOptions;
use datafusion::datasource::physical_plan::parquet::{transform_binary_to_string, transform_schema_to_view};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, SortExpr};
use datafusion::object_store::path::Path;

use super::FileRange;
use super::facts::{FileEntry, FileFacts, SortedBy, common_prefix};
use super::geometry::{FileColumn, FilesOfSchema};
use super::hive::Partitions;
use super::leaves::nested_numbers;
use super::listing::ListedFile;
use super::{bounds, geometry, leaves, schema};
use crate::dataset::{
    BatchBounds, ColumnBounds, DatasetFile, DatasetSnapshot, LeafBounds, SnapshotParts, cut_into_batches,
    cut_range, may_hold_nan,
};
use crate::error::OdpError;
use crate::options::BatchUnit;

/// Everything that a snapshot is made of.
pub(super) struct Assembly {
    pub(super) object_store_url: ObjectStoreUrl,
    /// For messages, without credentials.
    pub(super) location: String,
    /// In order, as they were found now.
    pub(super) listed: Vec<ListedFile>,
    /// Of all listed files, in any order.
    pub(super) facts: Vec<FileFacts>,
    pub(super) partitions: Partitions,
    /// Columns that the user declared.
    pub(super) declared: Option<SchemaRef>,
    pub(super) unit: BatchUnit,
    /// The only batch that is wanted, of the only file.
    pub(super) range: Option<FileRange>,
}

/// One file among all facts.
#[derive(Clone)]
struct Placed<'a> {
    facts: &'a FileFacts,
    file: &'a FileEntry,
    /// Its row groups among those of `facts`.
    groups: Range<usize>,
    /// The first of them among those of all facts.
    first_group: usize,
}

impl<'a> Placed<'a> {
    /// Its path, its number of row groups, and what it says of geometry columns.
    fn geometry(&self) -> (&'a str, usize, &'a [FileColumn]) {
        (self.file.object_meta.location.as_ref(), self.file.row_groups, &self.file.geometry)
    }
}

impl Assembly {
    /// The files, in the order in which they are listed.
    fn placed(&self) -> Vec<Placed<'_>> {
        let listed = self.listed.iter().enumerate();
        let by_path: HashMap<&Path, usize> =
            listed.map(|(i, file)| (&file.object_meta.location, i)).collect();
        let mut placed: Vec<(usize, Placed<'_>)> = Vec::with_capacity(self.listed.len());
        let mut first_group = 0;
        for facts in &self.facts {
            let mut next = 0;
            for file in &facts.files {
                let groups = next..next + file.row_groups;
                next = groups.end;
                if let Some(position) = by_path.get(&file.object_meta.location) {
                    placed.push((*position, Placed { facts, file, groups, first_group }));
                }
                first_group += file.row_groups;
            }
        }
        placed.sort_by_key(|(position, _)| *position);
        placed.into_iter().map(|(_, placed)| placed).collect()
    }

    /// # Errors
    /// [`OdpError::SchemaMismatch`] and [`OdpError::InvalidData`] for files that do not fit together, or not what was
    /// declared.
    pub(super) fn snapshot(self, parquet: &ParquetOptions) -> Result<DatasetSnapshot, OdpError> {
        let placed = self.placed();
        let file_schema = self.file_schema(&placed, parquet)?;
        let lists: Vec<FilesOfSchema<'_>> = placed
            .chunk_by(|a, b| std::ptr::eq(a.facts, b.facts))
            .filter_map(|files| {
                Some(FilesOfSchema {
                    schema: &files.first()?.facts.schema,
                    files: files.iter().map(Placed::geometry).collect(),
                })
            })
            .collect();
        let geometry = geometry::merge(&file_schema, &lists)?;
        let file_schema = match self.range {
            None => geometry::annotate(file_schema, &geometry),
            // Annotated by all files already, which may name the same CRS in another way than this one does.
            Some(_) => file_schema,
        };
        let columns = self.partitions.columns.iter();
        let partition_fields: Vec<_> =
            columns.map(|(name, data_type)| schema::partition_field(name, data_type)).collect();
        let table_schema =
            TableSchema::builder(file_schema).with_table_partition_cols(partition_fields).build();

        let sorting = sorting(&placed, table_schema.file_schema());
        let row_group_bounds = self.row_group_bounds(&placed, &table_schema)?;
        let nested = self.nested_bounds(&placed, table_schema.file_schema());
        let mut first_row_group = Vec::with_capacity(placed.len());
        let mut row_groups = 0;
        for file in &placed {
            first_row_group.push(row_groups);
            row_groups += file.groups.len();
        }
        let groups = placed.iter().map(|placed| placed.facts.row_groups[placed.groups.clone()].to_vec());
        let files: Vec<DatasetFile> = self
            .listed
            .iter()
            .zip(groups)
            .zip(self.partitions.values.iter().cloned())
            .map(|((listed, groups), values)| DatasetFile::new(listed.object_meta.clone(), values, groups))
            .collect();
        check_total_rows(&files)?;
        let batches = match (&self.range, files.as_slice()) {
            (None, files) => cut_into_batches(files, self.unit),
            (Some(range), [file]) => Vec::from_iter(cut_range(file, range.first_row, range.rows)),
            (Some(_), _) => vec![],
        };
        let merges_row_groups = batches.iter().any(|batch| batch.row_groups.len() > 1);
        let sorting =
            match merges_row_groups && !row_groups_follow(&row_group_bounds, &table_schema, &sorting)? {
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
            object_store_url: self.object_store_url,
            location: self.location,
            schema: table_schema,
            files,
            batches,
            bounds,
            geometry_columns,
            leaf_bounds,
            sorting,
        }))
    }

    /// The columns of the table that are in files.
    fn file_schema(&self, placed: &[Placed<'_>], parquet: &ParquetOptions) -> Result<SchemaRef, OdpError> {
        // Of each list one file stands for all: the first.
        let mut seen = HashSet::new();
        let firsts = placed.iter().filter(|placed| seen.insert(std::ptr::from_ref(placed.facts)));
        let mut schemas: Vec<(&str, &Schema)> = firsts
            .map(|placed| (placed.file.object_meta.location.as_ref(), placed.facts.schema.as_ref()))
            .collect();
        if placed.is_empty() {
            // A dataset of no files may still have a schema.
            schemas.extend(self.facts.iter().map(|facts| ("_common_metadata", facts.schema.as_ref())));
        }
        let named = || schemas.iter().copied();
        let file_schema = match &self.declared {
            Some(declared) => {
                schema::check_declared(declared, named())?;
                Arc::clone(declared)
            }
            None => Arc::new(with_session_types(schema::union_by_name(named())?, parquet)),
        };
        let mut columns = self.partitions.columns.iter();
        if let Some((name, _)) = columns.find(|(name, _)| file_schema.field_with_name(name).is_ok()) {
            let first = self.listed.first().map(|file| file.object_meta.location.to_string());
            return Err(OdpError::SchemaMismatch {
                first: first.unwrap_or_default(),
                second: "the directories above it".into(),
                reason: format!("column {name:?} is in the file and in its path"),
            });
        }
        Ok(file_schema)
    }

    /// The bounds of all row groups of all files.
    fn row_group_bounds(&self, placed: &[Placed<'_>], table: &TableSchema) -> DataFusionResult<BatchBounds> {
        let rows: UInt64Array = placed
            .iter()
            .flat_map(|placed| &placed.facts.row_groups[placed.groups.clone()])
            .map(|group| Some(group.rows))
            .collect();
        let order = group_order(placed);
        let mut columns = Vec::with_capacity(table.table_schema().fields().len());
        for field in table.file_schema().fields() {
            let data_type = field.data_type();
            let mut parts = vec![ColumnBounds::unknown(data_type, 0)];
            for facts in &self.facts {
                parts.push(match facts.schema.index_of(field.name()) {
                    Ok(at) => bounds::in_table_type(&facts.columns[at], data_type)?,
                    Err(_) => {
                        let rows = facts.row_groups.iter().map(|group| Some(group.rows)).collect();
                        ColumnBounds::all_null(data_type, &rows)
                    }
                });
            }
            let column = ColumnBounds::concat(&parts.iter().collect::<Vec<_>>())?;
            columns.push(match &order {
                Some(order) => column.take(order)?,
                None => column,
            });
        }
        let file_of_group: UInt64Array = placed
            .iter()
            .enumerate()
            .flat_map(|(file, placed)| std::iter::repeat_n(Some(file as u64), placed.groups.len()))
            .collect();
        for (at, (_, data_type)) in self.partitions.columns.iter().enumerate() {
            let empty = ScalarValue::try_from(data_type)?.to_array_of_size(0)?;
            let values = match self.partitions.values.is_empty() {
                true => empty,
                false => {
                    let values = self.partitions.values.iter().map(|values| values[at].clone());
                    concat(&[&empty, &ScalarValue::iter_to_array(values)?])?
                }
            };
            columns.push(ColumnBounds::constants(take(&values, &file_of_group, None)?, &rows));
        }
        Ok(BatchBounds { rows, columns })
    }

    /// The bounds of all row groups of all files, of the numbers inside structs of the table.
    fn nested_bounds(&self, placed: &[Placed<'_>], table: &Schema) -> Vec<(Vec<String>, LeafBounds)> {
        let order = group_order(placed);
        let mut found = Vec::new();
        for (path, data_type) in nested_numbers(table) {
            let parts: Vec<LeafBounds> = self
                .facts
                .iter()
                .map(|facts| {
                    let rows = facts.row_groups.iter().map(|group| group.rows);
                    leaves::in_table_type(&facts.schema, &facts.nested, &path, &data_type, rows)
                })
                .collect();
            let bounds = LeafBounds::concat(parts.iter());
            let bounds = match &order {
                Some(order) => bounds.take(order.values().iter().filter_map(|i| usize::try_from(*i).ok())),
                None => bounds,
            };
            found.push((path, bounds));
        }
        found
    }
}

/// # Errors
/// [`OdpError::InvalidData`] if the files claim more rows than 64 bits can count.
fn check_total_rows(files: &[DatasetFile]) -> Result<(), OdpError> {
    let mut total = 0u64;
    for file in files {
        total = total.checked_add(file.num_rows()).ok_or_else(|| OdpError::InvalidData {
            location: file.path().to_owned(),
            source: "with it the dataset has more rows than can be counted".into(),
        })?;
    }
    Ok(())
}

/// Where the row groups of the files lie among those of all facts; `None` if they are in order already.
fn group_order(placed: &[Placed<'_>]) -> Option<UInt64Array> {
    let groups =
        || placed.iter().flat_map(|placed| placed.first_group..placed.first_group + placed.groups.len());
    let is_in_order = groups().enumerate().all(|(i, group)| i == group);
    (!is_in_order).then(|| groups().map(|group| Some(group as u64)).collect())
}

/// The order that every row group of every file declares, as far as they agree; columns of the table only.
///
/// A descending float is left out: DataFusion sorts NaN above all numbers, other writers put it last.
fn sorting(placed: &[Placed<'_>], table: &Schema) -> Vec<SortExpr> {
    let mut common: Option<Vec<SortExpr>> = None;
    for Placed { facts, file, .. } in placed {
        let Some(sorting) = &file.sorting else { continue };
        let declared = in_table_order(sorting, &facts.schema, table);
        let kept = match common {
            None => declared,
            Some(known) => common_prefix(known, declared),
        };
        if kept.is_empty() {
            return kept;
        }
        common = Some(kept);
    }
    common.unwrap_or_default()
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

/// Whether each row group of the dataset that has rows comes before the next one in the order `sorting`.
fn row_groups_follow(
    bounds: &BatchBounds,
    table: &TableSchema,
    sorting: &[SortExpr],
) -> DataFusionResult<bool> {
    let Some(first) = sorting.first() else { return Ok(true) };
    let Expr::Column(column) = &first.expr else { return Ok(false) };
    let Ok(index) = table.table_schema().index_of(&column.name) else { return Ok(false) };
    let with_rows: Vec<usize> = (0..bounds.len()).filter(|&i| bounds.rows.value(i) > 0).collect();
    bounds.follow(index, &with_rows, !first.asc, sorting.len() > 1)
}

fn in_table_order(sorting: &[SortedBy], file: &Schema, table: &Schema) -> Vec<SortExpr> {
    sorting
        .iter()
        .map_while(|sorted| {
            let (name, descending) = (&sorted.column, sorted.descending);
            let (found, wanted) = (file.field_with_name(name).ok()?, table.field_with_name(name).ok()?);
            let is_kept = found.data_type() == wanted.data_type()
                || bounds::keeps_order(found.data_type(), wanted.data_type());
            let is_trusted = is_kept && !(may_hold_nan(wanted.data_type()) && descending);
            let expr = Expr::Column(Column::from_name(name));
            is_trusted.then(|| SortExpr::new(expr, !descending, sorted.nulls_first))
        })
        .collect()
}
