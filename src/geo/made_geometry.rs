//! Marks columns that functions make as geometries, so that a writer knows them.
//!
//! Not with a GeoArrow extension type: other writers take that for Parquet's `GEOMETRY`, which not all readers know.

use datafusion::arrow::datatypes::Field;
use serde_json::{Map, Value};

use crate::geo::crs::{Crs, EXTENSION_METADATA, EXTENSION_NAME, ExtensionMetadata, is_geoarrow};

/// Key of a field's metadata: what a GeoArrow extension type would say, JSON.
pub(crate) const MADE_GEOMETRY: &str = "odp:geometry";

/// Key of a column in GeoParquet metadata: the name of a coordinate reference system of which only that is known,
/// beside `"crs": null`.
pub(crate) const CRS_NAME: &str = "odp:crs";

/// `field` as a geometry that a function has made, of GeoArrow's `extension`: in the CRS and with the edges of
/// `source`, else of longitude and latitude.
pub(super) fn made_geometry(field: Field, extension: &str, source: Option<&Field>) -> Field {
    let known = source.and_then(describe).map_or_else(of_degrees, |(_, known)| known);
    let mut object = Map::new();
    object.insert("name".into(), extension.into());
    object.insert("crs".into(), known.crs.unwrap_or_default());
    object.insert("edges".into(), known.edges.map_or(Value::Null, Value::from));
    let mut metadata = field.metadata().clone();
    metadata.insert(MADE_GEOMETRY.into(), Value::Object(object).to_string());
    field.with_metadata(metadata)
}

fn of_degrees() -> ExtensionMetadata {
    ExtensionMetadata { crs: Some(Crs::lon_lat().label().into()), edges: None }
}

/// The GeoArrow extension type that a field has, or that a function has marked it with; `None` if it is not said to be
/// a geometry.
pub(crate) fn describe(field: &Field) -> Option<(String, ExtensionMetadata)> {
    let metadata = field.metadata();
    if let Some(name) = metadata.get(EXTENSION_NAME).filter(|name| is_geoarrow(name)) {
        return Some((name.clone(), ExtensionMetadata::of(field)));
    }
    let made: Value = serde_json::from_str(metadata.get(MADE_GEOMETRY)?).ok()?;
    let name = made.get("name")?.as_str()?.to_owned();
    let crs = made.get("crs").filter(|crs| !crs.is_null()).cloned();
    let edges = made.get("edges").and_then(Value::as_str).map(String::from);
    is_geoarrow(&name).then_some((name, ExtensionMetadata { crs, edges }))
}

/// `field` without what says that it is a geometry.
pub(crate) fn without_marks(field: &Field) -> Field {
    let mut metadata = field.metadata().clone();
    for key in [EXTENSION_NAME, EXTENSION_METADATA, MADE_GEOMETRY] {
        metadata.remove(key);
    }
    field.clone().with_metadata(metadata)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::arrow::datatypes::DataType;

    use super::*;
    use crate::geo::crs::EXTENSION_METADATA;

    #[test]
    fn what_is_made_of_a_geometry_is_in_its_crs_and_else_in_degrees() {
        let plain = Field::new("g", DataType::Binary, true);
        let (name, known) = describe(&made_geometry(plain.clone(), "geoarrow.point", Some(&plain))).unwrap();
        assert_eq!((name.as_str(), known), ("geoarrow.point", of_degrees()));
        let metadata = [(EXTENSION_NAME, "geoarrow.wkb"), (EXTENSION_METADATA, r#"{"crs": "EPSG:3857"}"#)];
        let metadata: HashMap<_, _> = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let source = plain.clone().with_metadata(metadata);
        let made = made_geometry(plain.clone(), "geoarrow.wkb", Some(&source));
        let again = made_geometry(plain.clone(), "geoarrow.point", Some(&made));
        assert_eq!(describe(&again).unwrap().1.crs, Some("EPSG:3857".into()));
        assert_eq!(without_marks(&again), plain);
        assert_eq!(describe(&plain), None);
    }
}
