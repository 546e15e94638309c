//! Which columns hold geometries, and how files have them.

use datafusion::arrow::datatypes::{DataType, Field};

use super::options::GeometryEncoding;
use crate::geo::crs::ExtensionMetadata;
use crate::geo::made_geometry::describe;
use crate::geo::{GeometryTypes, levels_over_points};

/// How a file has the geometries of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    /// As WKB, which they are.
    Wkb,
    /// As GeoParquet's encoding of this name, which they are; all of one type.
    Native(&'static str, GeometryTypes),
    /// As WKB, which is made of GeoArrow's lists and structs, or of binary of fixed size.
    ToWkb,
    /// As WKB of points, whose longitudes and latitudes are these columns.
    FromPoint { longitude: usize, latitude: usize },
}

/// The native encodings of GeoParquet with their levels of lists.
const NATIVE: [(&str, usize); 6] = [
    ("point", 0),
    ("linestring", 1),
    ("multipoint", 1),
    ("polygon", 2),
    ("multilinestring", 2),
    ("multipolygon", 3),
];

/// How files have a column, and what it says of its coordinates; `None` if it is not one of geometries, or one that
/// GeoParquet cannot have as it is where it must stay so.
pub(super) fn storage(
    field: &Field,
    encoding: GeometryEncoding,
    may_change_type: bool,
) -> Option<(Storage, ExtensionMetadata)> {
    let (extension, known) = match describe(field) {
        Some(described) => described,
        None if is_marked_by_odp(field) => ("geoarrow.wkb".to_owned(), ExtensionMetadata::default()),
        None => return None,
    };
    let data_type = field.data_type();
    let converted = may_change_type.then_some(Storage::ToWkb);
    let storage = match extension.strip_prefix("geoarrow.").unwrap_or("wkb") {
        "wkb" if is_binary(data_type) => Some(Storage::Wkb),
        "wkb" if matches!(data_type, DataType::FixedSizeBinary(_)) => converted,
        other => {
            let (name, levels) = NATIVE.into_iter().find(|(name, _)| *name == other)?;
            if levels_over_points(data_type) != Some(levels) {
                return None;
            }
            let native = native_types(name, data_type).map(|types| Storage::Native(name, types));
            match encoding {
                GeometryEncoding::Wkb => native.or(converted),
                GeometryEncoding::Parquet => converted.or(native),
            }
        }
    };
    Some((storage?, known))
}

/// Whether the field's metadata is that of a geometry column of ODP.
fn is_marked_by_odp(field: &Field) -> bool {
    let metadata = field.metadata();
    let is_marked =
        metadata.get("class").is_some_and(|class| class == "geometry") || metadata.contains_key("isGeometry");
    is_marked && (is_binary(field.data_type()) || matches!(field.data_type(), DataType::FixedSizeBinary(_)))
}

fn is_binary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Dictionary(_, value) => is_binary(value),
        _ => false,
    }
}

/// The type of all geometries, if the coordinates are as GeoParquet has them: structs of `x`, `y` and perhaps `z` of 64
/// bits.
fn native_types(name: &str, data_type: &DataType) -> Option<GeometryTypes> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => native_types(name, item.data_type()),
        DataType::Struct(fields) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            let has_z = match names.as_slice() {
                ["x", "y"] => false,
                ["x", "y", "z"] => true,
                _ => return None,
            };
            let are_doubles = fields.iter().all(|field| *field.data_type() == DataType::Float64);
            are_doubles.then(|| GeometryTypes::of_encoding(name, has_z, false))
        }
        _ => None,
    }
}
