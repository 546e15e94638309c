//! What discovery keeps of footers: facts of files, without the footers, in columns.
//!
//! Facts say what files say, in the files' own types; [`super::assemble`] makes a table of them. They are what a
//! snapshot file holds.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::object_store::ObjectMeta;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use super::geometry::{self, FileColumn};
use super::{bounds, leaves};
use crate::dataset::{ColumnBounds, LeafBounds, RowGroup};

/// Files whose facts are kept together at most.
pub(super) const FILES_PER_RUN: usize = 256;

/// Facts of files of one schema, in their order.
#[derive(Debug, Clone)]
pub(super) struct FileFacts {
    /// The Arrow schema of each of the files, without metadata of its own.
    pub(super) schema: SchemaRef,
    /// How INT96 was read, where the files have such columns.
    pub(super) int96: Option<Arc<str>>,
    pub(super) files: Vec<FileEntry>,
    /// Those of all files.
    pub(super) row_groups: Vec<RowGroup>,
    /// One per field of the schema, with one element per row group.
    pub(super) columns: Vec<ColumnBounds>,
    /// The numbers inside structs by their paths, with one element per row group.
    pub(super) nested: Vec<(Vec<String>, LeafBounds)>,
}

/// Facts of one file.
#[derive(Debug, Clone)]
pub(super) struct FileEntry {
    pub(super) object_meta: ObjectMeta,
    /// The number of its row groups.
    pub(super) row_groups: usize,
    /// The order that each of its row groups declares, as far as they agree; `None` = no row group has rows.
    pub(super) sorting: Option<Arc<[SortedBy]>>,
    pub(super) geometry: Vec<FileColumn>,
}

/// A column that rows are sorted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SortedBy {
    pub(super) column: String,
    pub(super) descending: bool,
    pub(super) nulls_first: bool,
}

impl FileFacts {
    /// The facts of one file. `schema`: its Arrow schema.
    pub(super) fn of_footer(
        object_meta: ObjectMeta,
        footer: &ParquetMetaData,
        schema: Schema,
        int96: Option<Arc<str>>,
    ) -> Self {
        let geometry = geometry::read_columns(footer, &schema, object_meta.location.as_ref());
        let columns = bounds::row_group_bounds(footer, &schema);
        let nested = leaves::nested_bounds(footer, &schema);
        let sorting = common_sorting(footer);
        let entry = FileEntry {
            object_meta,
            row_groups: footer.num_row_groups(),
            sorting: sorting.map(Arc::from),
            geometry,
        };
        let schema = Arc::new(Schema::new(schema.fields));
        Self { schema, int96, files: vec![entry], row_groups: row_groups(footer), columns, nested }
    }

    /// Facts of files of one schema, one list after the other; `None` of no lists.
    pub(super) fn concat(parts: Vec<Self>) -> Result<Option<Self>> {
        let Some(first) = parts.first() else { return Ok(None) };
        let columns = (0..first.columns.len())
            .map(|i| concat_bounds(&parts.iter().map(|part| &part.columns[i]).collect::<Vec<_>>()))
            .collect::<Result<_>>()?;
        let nested = (0..first.nested.len())
            .map(|i| {
                let bounds = parts.iter().map(|part| &part.nested[i].1);
                (first.nested[i].0.clone(), LeafBounds::concat(bounds))
            })
            .collect();
        let (schema, int96) = (Arc::clone(&first.schema), first.int96.clone());
        let (mut files, mut row_groups) = (Vec::new(), Vec::new());
        for part in parts {
            files.extend(part.files);
            row_groups.extend(part.row_groups);
        }
        share_equal_parts(&mut files);
        Ok(Some(Self { schema, int96, files, row_groups, columns, nested }))
    }

    /// The facts of the files in `range`.
    pub(super) fn slice(&self, range: &Range<usize>) -> Self {
        let count = |files: &[FileEntry]| files.iter().map(|file| file.row_groups).sum::<usize>();
        let start = count(&self.files[..range.start]);
        let groups = start..start + count(&self.files[range.clone()]);
        Self {
            schema: Arc::clone(&self.schema),
            int96: self.int96.clone(),
            files: self.files[range.clone()].to_vec(),
            row_groups: self.row_groups[groups.clone()].to_vec(),
            columns: self.columns.iter().map(|column| column.slice(&groups)).collect(),
            nested: self.nested.iter().map(|(path, leaf)| (path.clone(), leaf.slice(&groups))).collect(),
        }
    }
}

/// One list after the other. A list of which nothing could be read has no type.
fn concat_bounds(parts: &[&ColumnBounds]) -> Result<ColumnBounds> {
    let typed = parts.iter().map(|part| part.min.data_type()).find(|data_type| !data_type.is_null());
    let Some(data_type) = typed else { return ColumnBounds::concat(parts) };
    let filled: Vec<ColumnBounds> = parts
        .iter()
        .map(|part| match part.min.data_type() == data_type && part.max.data_type() == data_type {
            true => (*part).clone(),
            false => part.without_bounds(data_type),
        })
        .collect();
    ColumnBounds::concat(&filled.iter().collect::<Vec<_>>())
}

/// Lets files that say the same of their columns and order share it: most do.
fn share_equal_parts(files: &mut [FileEntry]) {
    for i in 1..files.len() {
        let (known, rest) = files.split_at_mut(i);
        let (Some(known), Some(file)) = (known.last(), rest.first_mut()) else { continue };
        if file.sorting == known.sorting {
            file.sorting.clone_from(&known.sorting);
        }
        for (column, before) in file.geometry.iter_mut().zip(&known.geometry) {
            column.share_with(before);
        }
    }
}

fn row_groups(footer: &ParquetMetaData) -> Vec<RowGroup> {
    let mut first_row = 0;
    let mut groups = Vec::with_capacity(footer.num_row_groups());
    for group in footer.row_groups() {
        let group = RowGroup::of_footer(group, first_row);
        first_row += group.rows;
        groups.push(group);
    }
    groups
}

/// The order that every row group with rows declares, as far as they agree and by whole columns; `None` without rows.
fn common_sorting(footer: &ParquetMetaData) -> Option<Vec<SortedBy>> {
    let mut common: Option<Vec<SortedBy>> = None;
    for group in footer.row_groups().iter().filter(|group| group.num_rows() > 0) {
        let declared = sorting_of(group);
        common = Some(match common {
            None => declared,
            Some(known) => common_prefix(known, declared),
        });
    }
    common
}

pub(super) fn common_prefix<T: PartialEq>(a: Vec<T>, b: Vec<T>) -> Vec<T> {
    a.into_iter().zip(b).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

fn sorting_of(group: &RowGroupMetaData) -> Vec<SortedBy> {
    let declared = group.sorting_columns().map(Vec::as_slice).unwrap_or_default();
    declared
        .iter()
        .map_while(|sorting| {
            let leaf = group.columns().get(usize::try_from(sorting.column_idx).ok()?)?;
            let [column] = leaf.column_path().parts() else { return None };
            Some(SortedBy {
                column: column.clone(),
                descending: sorting.descending,
                nulls_first: sorting.nulls_first,
            })
        })
        .collect()
}
