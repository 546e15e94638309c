//! Geometry columns of what is written: GeoParquet 1.1 metadata, boxes beside geometries, Parquet's own type.
//!
//! What is said of a file holds for all of its rows, or is not said: a reader skips what cannot match by it.

mod columns;
mod covering;
mod metadata;
mod options;
mod summary;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Result, internal_err};

use columns::Storage;
use covering::Covering;
use metadata::{ColumnEntry, WrittenCrs};
pub(crate) use options::{GeometryEncoding, GeometryOptions};
use summary::ColumnSummary;
pub(crate) use summary::GeometrySummary;

use crate::error::OdpError;
use crate::geo::crs::{EXTENSION_METADATA, EXTENSION_NAME};
use crate::geo::made_geometry::{MADE_GEOMETRY, without_marks};
use crate::geo::{
    BoundingBox, GeometryArray, GeometryTypes, RowBoxes, geometry_type, points_to_wkb, to_wkb_array,
};

/// The column that is made of longitudes and latitudes, and the one that is primary wherever it is.
const GEOMETRY: &str = "geometry";

/// The geometry columns of what is written, how they are stored, and what the footer says of them.
#[derive(Debug)]
pub(crate) struct GeometryWriter {
    rows: SchemaRef,
    file: SchemaRef,
    encoding: GeometryEncoding,
    /// Name of the primary column.
    primary: String,
    columns: Vec<GeometryColumn>,
}

/// A geometry column.
#[derive(Debug)]
struct GeometryColumn {
    /// Its place in the rows; behind them if it is made.
    index: usize,
    field: FieldRef,
    storage: Storage,
    crs: WrittenCrs,
    /// Edges that are not straight.
    curved_edges: Option<String>,
    covering: Option<Covering>,
}

impl GeometryWriter {
    /// Looks for geometry columns among the columns of rows; `None` if there is none.
    ///
    /// # Errors
    /// [`OdpError::InvalidOption`] if the points of `options` cannot be made.
    pub(crate) fn try_new(schema: &SchemaRef, options: &GeometryOptions) -> Result<Option<Self>, OdpError> {
        let mut columns = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            let is_unique = schema.fields().iter().filter(|other| other.name() == field.name()).count() == 1;
            let found = columns::storage(field, options.encoding, options.may_add_columns);
            let Some((storage, known)) = found.filter(|_| is_unique) else { continue };
            columns.push(GeometryColumn {
                index,
                field: Arc::clone(field),
                storage,
                crs: WrittenCrs::of(known.crs.as_ref()),
                curved_edges: known.edges,
                covering: None,
            });
        }
        if let Some((longitude, latitude)) = &options.point_from {
            columns.push(GeometryColumn::from_point(schema, longitude, latitude, options.may_add_columns)?);
        }
        let named = columns.iter().find(|column| column.field.name() == GEOMETRY);
        let Some(primary) = named.or(columns.first()).map(|column| column.field.name().clone()) else {
            return Ok(None);
        };
        for column in &mut columns {
            let name = column.field.name();
            let may_make = options.covering && options.may_add_columns && column.needs_covering();
            let make = || Covering::make(schema, name, *name == primary).filter(|_| may_make);
            column.covering = Covering::find(schema, name, *name == primary).or_else(make);
        }
        let file = file_schema(schema, &columns, options.encoding);
        Ok(Some(Self { rows: Arc::clone(schema), file, encoding: options.encoding, primary, columns }))
    }

    /// The schema of the files: that of the rows, geometries as they are stored, then a geometry that is made, then
    /// columns of boxes.
    pub(crate) fn file_schema(&self) -> &SchemaRef {
        &self.file
    }

    /// Rows as the file has them, and what they say for [`Self::metadata`].
    ///
    /// A malformed geometry is written as it is, and nothing is then said of where the file's geometries lie.
    /// # Errors
    /// [`OdpError::InvalidData`] for a malformed geometry that Parquet's own type cannot have, or that cannot be stored
    /// as WKB.
    pub(crate) fn prepare(&self, rows: &RecordBatch) -> Result<(RecordBatch, GeometrySummary)> {
        if rows.num_columns() != self.rows.fields().len() {
            return internal_err!(
                "{} columns to write, expected {}",
                rows.num_columns(),
                self.rows.fields().len()
            );
        }
        let mut arrays = rows.columns().to_vec();
        let (mut made, mut coverings, mut summaries) = (Vec::new(), Vec::new(), Vec::new());
        for column in &self.columns {
            let (stored, boxes) = column.read(rows)?;
            if let (GeometryEncoding::Parquet, Some((row, error)), true) =
                (self.encoding, &boxes.fault, column.is_wkb())
            {
                return Err(error.clone().in_row(*row).into());
            }
            let mut summary = ColumnSummary::of(&boxes);
            match &column.covering {
                Some(Covering::Made(_)) => coverings.push(covering::make_column(&boxes)?),
                Some(Covering::Found(_, index)) => {
                    summary.covering_lies = !covering::holds(rows.column(*index), &boxes)?;
                }
                None => {}
            }
            summaries.push(summary);
            match arrays.get_mut(column.index) {
                Some(array) => *array = stored,
                None => made.push(stored),
            }
        }
        arrays.append(&mut made);
        arrays.append(&mut coverings);
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.file), arrays, &options)?;
        Ok((rows, GeometrySummary::new(summaries)))
    }

    /// The value of the key `geo` in the footer of a file whose rows say `summary`: JSON.
    pub(crate) fn metadata(&self, summary: &GeometrySummary) -> String {
        let columns = self.columns.iter().enumerate();
        metadata::entry(&self.primary, columns.map(|(index, column)| column.entry(&summary.column(index))))
    }
}

impl GeometryColumn {
    /// Points in columns of longitude and latitude.
    fn from_point(
        schema: &Schema,
        longitude: &str,
        latitude: &str,
        may_add_columns: bool,
    ) -> Result<Self, OdpError> {
        let fault = |expected: String| OdpError::InvalidOption {
            key: "point_from".into(),
            value: format!("{longitude}, {latitude}"),
            expected,
        };
        let place = |name: &str| match schema.column_with_name(name) {
            Some((index, field)) if field.data_type().is_numeric() => Ok(index),
            Some((_, field)) => {
                Err(fault(format!("columns of numbers, but {name:?} is {}", field.data_type())))
            }
            None => Err(fault(format!("columns of longitude and latitude, but there is no {name:?}"))),
        };
        if schema.column_with_name(GEOMETRY).is_some() {
            return Err(fault(format!("no column {GEOMETRY:?} yet, but there is one")));
        }
        if !may_add_columns {
            return Err(fault(format!("a table with a column {GEOMETRY:?}, whose columns are fixed")));
        }
        Ok(Self {
            index: schema.fields().len(),
            field: Arc::new(Field::new(GEOMETRY, DataType::Binary, true)),
            storage: Storage::FromPoint { longitude: place(longitude)?, latitude: place(latitude)? },
            crs: WrittenCrs::LonLat,
            curved_edges: None,
            covering: None,
        })
    }

    /// The coordinates of single points have statistics of their own. The box of a curved edge is not that of its ends.
    fn needs_covering(&self) -> bool {
        let has_own = matches!(self.storage, Storage::Native("point", _));
        !has_own && self.curved_edges.is_none()
    }

    fn is_wkb(&self) -> bool {
        !matches!(self.storage, Storage::Native(..))
    }

    /// The geometries as they are stored, and their boxes.
    fn read(&self, rows: &RecordBatch) -> Result<(ArrayRef, RowBoxes)> {
        if let Storage::FromPoint { longitude, latitude } = self.storage {
            let number = |index: usize| -> Result<Float64Array> {
                Ok(cast(rows.column(index), &DataType::Float64)?.as_primitive::<Float64Type>().clone())
            };
            let (x, y) = (number(longitude)?, number(latitude)?);
            let wkb = points_to_wkb(&x, &y)?;
            let nulls = wkb.nulls().cloned();
            let boxes =
                RowBoxes::of_points(x.values().clone(), y.values().clone(), nulls, GeometryTypes::POINTS);
            return Ok((Arc::new(wkb), boxes));
        }
        let column = rows.column(self.index);
        let (stored, types): (ArrayRef, _) = match self.storage {
            Storage::ToWkb if matches!(column.data_type(), DataType::FixedSizeBinary(_)) => {
                (cast(column, &DataType::Binary)?, None)
            }
            Storage::ToWkb => (Arc::new(to_wkb_array(column, &self.field)?), None),
            Storage::Native(_, types) => (Arc::clone(column), Some(types)),
            Storage::Wkb | Storage::FromPoint { .. } => (Arc::clone(column), None),
        };
        let viewed = match geometry_type(stored.data_type()) {
            Some(wanted) if wanted != *stored.data_type() => cast(&stored, &wanted)?,
            _ => Arc::clone(&stored),
        };
        let boxes = RowBoxes::of(&GeometryArray::try_with_field(&viewed, &self.field)?, types);
        Ok((stored, boxes))
    }

    fn entry(&self, summary: &ColumnSummary) -> ColumnEntry<'_> {
        let is_curved = self.curved_edges.is_some() && !summary.types.has_no_edges();
        let is_sure = !summary.has_malformed && !is_curved;
        let edges = |bounds: BoundingBox| [bounds.xmin, bounds.ymin, bounds.xmax, bounds.ymax];
        ColumnEntry {
            name: self.field.name(),
            encoding: match self.storage {
                Storage::Native(name, _) => name,
                Storage::Wkb | Storage::ToWkb | Storage::FromPoint { .. } => "WKB",
            },
            geometry_types: if summary.has_malformed { Vec::new() } else { summary.types.names() },
            crs: &self.crs,
            is_curved: self.curved_edges.is_some(),
            bbox: summary.bounds.filter(|_| is_sure).map(edges),
            covering: self
                .covering
                .as_ref()
                .filter(|_| is_sure && !summary.covering_lies)
                .map(Covering::name),
        }
    }

    /// The column's field in files.
    fn file_field(&self, encoding: GeometryEncoding) -> Field {
        let mut field = without_marks(&self.field);
        if matches!(self.storage, Storage::ToWkb) {
            field = field.with_data_type(DataType::Binary);
        }
        if encoding == GeometryEncoding::Parquet && self.is_wkb() {
            let mut metadata = field.metadata().clone();
            metadata.insert(EXTENSION_NAME.into(), "geoarrow.wkb".into());
            let known = self.crs.to_extension(self.curved_edges.as_ref());
            metadata.insert(EXTENSION_METADATA.into(), known.to_text());
            field = field.with_metadata(metadata);
        }
        field
    }
}

fn file_schema(rows: &Schema, columns: &[GeometryColumn], encoding: GeometryEncoding) -> SchemaRef {
    let stored = |(index, field): (usize, &FieldRef)| match columns.iter().find(|c| c.index == index) {
        Some(column) => Arc::new(column.file_field(encoding)),
        None if field.metadata().contains_key(MADE_GEOMETRY) => {
            let mut metadata = field.metadata().clone();
            metadata.remove(MADE_GEOMETRY);
            Arc::new(field.as_ref().clone().with_metadata(metadata))
        }
        None => Arc::clone(field),
    };
    let mut fields: Vec<FieldRef> = rows.fields().iter().enumerate().map(stored).collect();
    let made = columns.iter().filter(|column| column.index >= rows.fields().len());
    fields.extend(made.map(|column| Arc::new(column.file_field(encoding))));
    let coverings = columns.iter().filter_map(|column| match &column.covering {
        Some(Covering::Made(name)) => Some(Arc::new(covering::field(name))),
        _ => None,
    });
    fields.extend(coverings);
    let mut metadata = rows.metadata().clone();
    // What another file said of its rows.
    metadata.remove("geo");
    Arc::new(Schema::new_with_metadata(fields, metadata))
}
