//! The geometry columns of all files as those of one table.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use serde_json::Value;

use super::{FileColumn, GroupExtent};
use crate::dataset::{BatchMetadata, FileGeometry, GeometryColumn, GeometryDescription};
use crate::discover::leaves::keeps_geometries;
use crate::error::OdpError;
use crate::geo::BoundingBox;
use crate::geo::crs::{Crs, EXTENSION_METADATA, EXTENSION_NAME, ExtensionMetadata, is_geoarrow};

/// A geometry column of the table.
#[derive(Debug)]
pub(crate) struct TableGeometry {
    name: String,
    is_declared: bool,
    crs: Option<KnownCrs>,
    curved_edges: Option<String>,
    extension: Option<String>,
    /// What the last file said.
    last: Option<Arc<GeometryDescription>>,
    /// One per file.
    files: Vec<Option<FileGeometry>>,
    /// One per row group of all files.
    extents: Vec<GroupExtent>,
}

/// A CRS, and the first file that says it.
#[derive(Debug)]
struct KnownCrs {
    /// JSON.
    written: String,
    named: Crs,
    path: String,
}

/// A longer CRS is put into the schema by its name.
const MAX_CRS_BYTES: usize = 256 << 10;

impl KnownCrs {
    fn to_json(&self) -> Value {
        let short = (self.written.len() <= MAX_CRS_BYTES).then(|| serde_json::from_str(&self.written).ok());
        short.flatten().unwrap_or_else(|| Value::from(self.named.label()))
    }
}

/// The geometry columns of files of one schema, in order of the files.
pub(crate) struct FilesOfSchema<'a> {
    /// The files' own.
    pub(crate) schema: &'a Schema,
    /// Of each file its path, its number of row groups, and what it says.
    pub(crate) files: Vec<(&'a str, usize, &'a [FileColumn])>,
}

/// The columns of `files`, by name; those alone that `table` has.
///
/// # Errors
/// [`OdpError::SchemaMismatch`] if two files have a column in different coordinate reference systems.
pub(crate) fn merge(table: &Schema, lists: &[FilesOfSchema<'_>]) -> Result<Vec<TableGeometry>, OdpError> {
    let mut columns: Vec<TableGeometry> = Vec::new();
    let (mut num_files, mut row_groups) = (0, 0);
    for FilesOfSchema { schema, files } in lists {
        // What the table reads something else out of lies anywhere.
        let is_kept = |name: &str| match (schema.field_with_name(name), table.field_with_name(name)) {
            (Ok(from), Ok(to)) => keeps_geometries(from.data_type(), to.data_type()),
            _ => false,
        };
        for (path, groups, file_columns) in files {
            for file_column in *file_columns {
                let name = &file_column.about.name;
                if table.field_with_name(name).is_err() {
                    continue;
                }
                let known = match columns.iter().position(|column| column.name == *name) {
                    Some(known) => known,
                    None => {
                        columns.push(TableGeometry::new(name.clone()));
                        columns.len() - 1
                    }
                };
                // Files before this one may not have had the column.
                columns[known].pad(num_files, row_groups);
                columns[known].add(path, *groups, file_column, is_kept(name))?;
            }
            num_files += 1;
            row_groups += groups;
        }
    }
    columns.iter_mut().for_each(|column| column.pad(num_files, row_groups));
    Ok(columns)
}

impl TableGeometry {
    fn new(name: String) -> Self {
        Self {
            name,
            is_declared: false,
            crs: None,
            curved_edges: None,
            extension: None,
            last: None,
            files: Vec::new(),
            extents: Vec::new(),
        }
    }

    fn pad(&mut self, files: usize, row_groups: usize) {
        self.files.resize(files, None);
        self.extents.resize(row_groups, GroupExtent::Unknown);
    }

    /// Adds a file. `is_kept`: the table reads the same geometries out of the column.
    fn add(
        &mut self,
        path: &str,
        row_groups: usize,
        file: &FileColumn,
        is_kept: bool,
    ) -> Result<(), OdpError> {
        let about = &file.about;
        match (&self.crs, &about.crs) {
            (Some(known), Some((_, other))) if known.named != *other => {
                return Err(OdpError::SchemaMismatch {
                    first: known.path.clone(),
                    second: path.to_owned(),
                    reason: format!(
                        "column {:?} has coordinate reference system {} in one and {} in the other",
                        self.name,
                        known.named.label(),
                        other.label()
                    ),
                });
            }
            (None, Some((written, named))) => {
                self.crs =
                    Some(KnownCrs { written: written.clone(), named: named.clone(), path: path.to_owned() });
            }
            _ => {}
        }
        self.is_declared |= about.is_declared;
        self.curved_edges = self.curved_edges.take().or_else(|| about.curved_edges.clone());
        let extension = about.extension.as_ref().filter(|_| about.is_declared);
        self.extension = self.extension.take().or_else(|| extension.cloned());
        let description = match &self.last {
            Some(same) if *same == about.description => Arc::clone(same),
            _ => Arc::clone(&about.description),
        };
        self.last = Some(Arc::clone(&description));
        let extent = file.extent.filter(|_| is_kept);
        self.files.push(about.is_declared.then_some(FileGeometry { description, extent }));
        match is_kept {
            true => self.extents.extend(&file.extents),
            false => self.extents.resize(self.extents.len() + row_groups, GroupExtent::Unknown),
        }
        Ok(())
    }

    /// With one extent per batch; `first_row_group[f]` is the position of file `f`'s first row group.
    pub(crate) fn for_batches(self, batches: &[BatchMetadata], first_row_group: &[usize]) -> GeometryColumn {
        let extent = |batch: &BatchMetadata| -> Option<BoundingBox> {
            let base = first_row_group[batch.file_index];
            GroupExtent::union(&self.extents[base + batch.row_groups.start..base + batch.row_groups.end])
        };
        GeometryColumn {
            extents: batches.iter().map(extent).collect(),
            name: self.name,
            is_declared: self.is_declared,
            files: self.files,
        }
    }

    /// `field` with the column's GeoArrow extension type; what the field says itself stays.
    fn annotate(&self, field: &Field) -> Option<Field> {
        let mut metadata = field.metadata().clone();
        let extension =
            metadata.get(EXTENSION_NAME).or(self.extension.as_ref()).filter(|name| is_geoarrow(name))?;
        let is_text = field.data_type().is_string();
        let is_binary = field.data_type().is_binary();
        if (extension == "geoarrow.wkb" && !is_binary) || (extension == "geoarrow.wkt" && !is_text) {
            return None;
        }
        let said = ExtensionMetadata::of(field);
        let known = ExtensionMetadata {
            // What is written in the schema may only point to where the file has it.
            crs: self.crs.as_ref().map(KnownCrs::to_json).or_else(|| said.crs.clone()),
            edges: self.curved_edges.clone().or_else(|| said.edges.clone()),
        };
        if known == said && metadata.contains_key(EXTENSION_NAME) {
            return None;
        }
        metadata.insert(EXTENSION_NAME.to_owned(), extension.clone());
        metadata.insert(EXTENSION_METADATA.to_owned(), known.to_text());
        Some(field.clone().with_metadata(metadata))
    }
}

/// `schema` with what is known of its geometry columns, as GeoArrow extension types of the fields.
pub(crate) fn annotate(schema: SchemaRef, columns: &[TableGeometry]) -> SchemaRef {
    let annotated = |field: &Arc<Field>| {
        columns.iter().find(|column| column.name == *field.name()).and_then(|column| column.annotate(field))
    };
    if !schema.fields().iter().any(|field| annotated(field).is_some()) {
        return schema;
    }
    let fields: Vec<Arc<Field>> = schema
        .fields()
        .iter()
        .map(|field| annotated(field).map_or_else(|| Arc::clone(field), Arc::new))
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}
