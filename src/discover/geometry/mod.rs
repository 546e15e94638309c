//! Which columns of a file hold geometries, and what the file says of them: GeoParquet metadata, Parquet's own
//! geometry types, GeoArrow extension types, and the field metadata of ODP.

mod bounding_leaves;
mod duplicate_keys;
mod extents;
mod geo_metadata;
mod table_columns;

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use parquet::basic::{EdgeInterpolationAlgorithm, LogicalType};
use parquet::file::metadata::ParquetMetaData;
use serde_json::Value;

pub(crate) use bounding_leaves::{BoundingLeaves, NullEdge, bounding_leaves};
pub(crate) use extents::GroupExtent;
use geo_metadata::{GeoColumn, GeoCrs};
pub(crate) use table_columns::{FilesOfSchema, annotate, merge};

use super::leaves::FileLeaves;
use crate::dataset::GeometryDescription;
use crate::geo::crs::{Crs, EXTENSION_NAME, ExtensionMetadata, curved_edges, is_geoarrow};
use crate::geo::{BoundingBox, geometry_type};

/// A geometry column of one file.
#[derive(Debug, Clone)]
pub(crate) struct FileColumn {
    /// Files of one dataset mostly say the same: shared.
    pub(crate) about: Arc<ColumnAbout>,
    /// Where all of its geometries lie.
    pub(crate) extent: Option<BoundingBox>,
    /// One per row group.
    pub(crate) extents: Vec<GroupExtent>,
}

/// What a file says of a geometry column, but for where its geometries lie.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ColumnAbout {
    pub(crate) name: String,
    /// The file says that it is one; else it only looks like one.
    pub(crate) is_declared: bool,
    pub(crate) description: Arc<GeometryDescription>,
    /// As the file writes it, JSON, and by name.
    pub(crate) crs: Option<(String, Crs)>,
    /// Edges that are not straight.
    pub(crate) curved_edges: Option<String>,
    /// Name of its GeoArrow extension type, as far as it has one.
    pub(crate) extension: Option<String>,
}

impl FileColumn {
    /// Shares with `other` what both say.
    pub(crate) fn share_with(&mut self, other: &Self) {
        if self.about == other.about {
            self.about = Arc::clone(&other.about);
        }
    }
}

/// The geometry columns of a file, in order of its columns. `path` is for warnings.
pub(crate) fn read_columns(footer: &ParquetMetaData, schema: &Schema, path: &str) -> Vec<FileColumn> {
    let geo = geo_metadata::read(footer, path);
    for column in &geo {
        match schema.field_with_name(&column.name) {
            Err(_) => log::warn!("{path}: geo metadata names column {:?}, which does not exist", column.name),
            Ok(field) if !may_hold_geometries(field.data_type()) => {
                log::warn!(
                    "{path}: geo metadata names column {:?}, which is {}",
                    column.name,
                    field.data_type()
                );
            }
            Ok(_) => {}
        }
    }
    let mut leaves: Option<FileLeaves<'_>> = None;
    let is_unique = |name: &str| schema.fields().iter().filter(|field| field.name() == name).count() == 1;
    let mut columns = Vec::new();
    for field in schema.fields().iter().filter(|field| may_hold_geometries(field.data_type())) {
        let geo = geo.iter().find(|column| column.name == *field.name());
        let looks_like_one =
            matches!(field.data_type(), DataType::Struct(_)) && geometry_type(field.data_type()).is_some();
        let has_squares = || {
            ["x", "y", "q"]
                .iter()
                .all(|part| schema.field_with_name(&format!("{}.{part}", field.name())).is_ok())
        };
        let is_declared = geo.is_some() || is_marked(field) || has_squares();
        if (is_declared || looks_like_one) && is_unique(field.name()) {
            let leaves = leaves.get_or_insert_with(|| FileLeaves::new(footer));
            columns.push(read_column(leaves, footer, field, geo, is_declared, path));
        }
    }
    columns
}

fn read_column(
    leaves: &FileLeaves<'_>,
    footer: &ParquetMetaData,
    field: &Field,
    geo: Option<&GeoColumn>,
    is_declared: bool,
    path: &str,
) -> FileColumn {
    let name = field.name();
    let extents = extents::row_group_extents(leaves, name, geo, path);
    let leaf = leaves.find(std::slice::from_ref(name));
    let logical_type =
        leaf.and_then(|leaf| footer.file_metadata().schema_descr().column(leaf).logical_type_ref().cloned());
    let parquet_edges = match &logical_type {
        Some(LogicalType::Geography(geography)) => Some(edges_of(geography.algorithm())),
        Some(LogicalType::Geometry(_)) => Some("planar".to_owned()),
        _ => None,
    };
    let carried = ExtensionMetadata::of(field);
    let written = carried.crs.and_then(|crs| resolve(footer, crs)).or_else(|| match &geo?.crs {
        GeoCrs::LonLat => Some(Value::from(Crs::lon_lat().label())),
        GeoCrs::Unknown => None,
        GeoCrs::Written(crs) => Some(crs.clone()),
    });
    let crs = written.and_then(|written| {
        let named = Crs::from_json(&written)?;
        Some((written.to_string(), named))
    });
    let geo_edges = geo.map(|geo| geo.edges.clone().unwrap_or_else(|| "planar".to_owned()));
    let said = [parquet_edges, carried.edges, geo_edges];
    let curved = said.iter().flatten().find_map(|edges| curved_edges(edges));
    let edges = curved.clone().or_else(|| said.into_iter().flatten().next());
    let extension = field.metadata().get(EXTENSION_NAME).filter(|name| is_geoarrow(name)).cloned();
    let encoding = geo
        .and_then(|geo| geo.encoding.clone())
        .or_else(|| extension.as_deref().map(encoding_of))
        .or_else(|| encoding_by_type(field.data_type()));
    let geometry_types = match geo.filter(|geo| !geo.geometry_types.is_empty()) {
        Some(geo) => geo.geometry_types.clone(),
        None => leaf.map(|leaf| types_in_statistics(footer, leaf)).unwrap_or_default(),
    };
    let description = Arc::new(GeometryDescription {
        crs: crs.as_ref().map(|(_, crs)| crs.label().to_owned()),
        encoding: encoding.clone(),
        edges,
        geometry_types,
    });
    let about = ColumnAbout {
        name: name.clone(),
        is_declared,
        description,
        crs,
        curved_edges: curved,
        extension: extension.or_else(|| extension_of(&geo.and(encoding)?, field.data_type())),
    };
    FileColumn {
        about: Arc::new(about),
        extent: geo.and_then(|geo| geo.bbox).or_else(|| GroupExtent::union(&extents)),
        extents,
    }
}

/// Whether a column of this type can hold geometries in any encoding: WKB, WKT, GeoArrow.
fn may_hold_geometries(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Struct(_) | List(_) | LargeList(_) | FixedSizeList(..) | FixedSizeBinary(_) => true,
        Dictionary(_, value) => may_hold_geometries(value),
        other => other.is_binary() || other.is_string(),
    }
}

/// Whether the field's own metadata says that it holds geometries: GeoArrow's, or ODP's, where `isGeometry` counts
/// whatever its value.
fn is_marked(field: &Field) -> bool {
    let metadata = field.metadata();
    metadata.get(EXTENSION_NAME).is_some_and(|name| is_geoarrow(name))
        || metadata.get("class").is_some_and(|class| class == "geometry")
        || metadata.contains_key("isGeometry")
}

/// A CRS that names another entry of the footer, by that entry.
fn resolve(footer: &ParquetMetaData, crs: Value) -> Option<Value> {
    let Some(key) = crs.as_str().and_then(|text| text.strip_prefix("projjson:")) else { return Some(crs) };
    let entries = footer.file_metadata().key_value_metadata()?;
    let text = entries.iter().find(|entry| entry.key == key)?.value.as_deref()?;
    serde_json::from_str(text).ok()
}

fn edges_of(algorithm: Option<EdgeInterpolationAlgorithm>) -> String {
    match algorithm {
        None => "spherical".to_owned(),
        Some(algorithm) => algorithm.to_string().to_ascii_lowercase(),
    }
}

/// The GeoParquet name of a GeoArrow extension type.
fn encoding_of(extension: &str) -> String {
    match extension.strip_prefix("geoarrow.").unwrap_or("wkb") {
        text @ ("wkb" | "wkt") => text.to_ascii_uppercase(),
        native => native.to_owned(),
    }
}

/// The encoding that a type alone tells.
fn encoding_by_type(data_type: &DataType) -> Option<String> {
    match geometry_type(data_type)? {
        text if text.is_string() => Some("WKT".to_owned()),
        DataType::Struct(_) => Some("point".to_owned()),
        _ => Some("WKB".to_owned()),
    }
}

/// The GeoArrow extension type of an encoding; `None` if the column's type is not one that it can have.
fn extension_of(encoding: &str, data_type: &DataType) -> Option<String> {
    let native = ["point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"];
    let lower = encoding.to_ascii_lowercase();
    let lower = lower.strip_prefix("geoarrow.").unwrap_or(&lower);
    let fits = match lower {
        "wkb" => matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView),
        "wkt" => data_type.is_string(),
        other => native.contains(&other) && data_type.is_nested(),
    };
    fits.then(|| format!("geoarrow.{lower}"))
}

/// The geometry types in the statistics of a Parquet `GEOMETRY` column, by their WKB numbers; none if a row group
/// does not say.
fn types_in_statistics(footer: &ParquetMetaData, leaf: usize) -> Vec<String> {
    let mut numbers = BTreeSet::new();
    for group in footer.row_groups().iter().filter(|group| group.num_rows() > 0) {
        let types = group.columns().get(leaf).and_then(|column| column.geo_statistics()?.geospatial_types());
        match types {
            Some(types) => numbers.extend(types),
            None => return Vec::new(),
        }
    }
    const NAMES: [&str; 7] = [
        "Point",
        "LineString",
        "Polygon",
        "MultiPoint",
        "MultiLineString",
        "MultiPolygon",
        "GeometryCollection",
    ];
    let name = |number: &i32| {
        let index = usize::try_from(number % 1000 - 1).ok()?;
        let dimensions = ["", " Z", " M", " ZM"].get(usize::try_from(number / 1000).ok()?)?;
        Some(format!("{}{dimensions}", NAMES.get(index)?))
    };
    numbers.iter().filter_map(name).collect()
}
