//! The `geo` entry of a file.
//!
//! # Source
//! <https://geoparquet.org/releases/v1.1.0/>

use serde_json::{Map, Value, json};

use crate::geo::crs::{Crs, ExtensionMetadata};
use crate::geo::made_geometry::CRS_NAME;

/// What the entry says of a column's coordinate reference system.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum WrittenCrs {
    /// Nothing: longitude and latitude on WGS 84.
    LonLat,
    /// `null`; and the name, where that is all that is known.
    ///
    /// GeoParquet has only PROJJSON, and readers take it at its word: DuckDB refuses files with text in its place,
    /// GeoPandas those with an object that has but an identifier.
    Unknown(Option<String>),
    Projjson(Value),
}

impl WrittenCrs {
    pub(super) fn of(crs: Option<&Value>) -> Self {
        let Some(crs) = crs else { return Self::Unknown(None) };
        let parsed: Option<Value> = crs.as_str().and_then(|text| serde_json::from_str(text).ok());
        let object = parsed.as_ref().unwrap_or(crs);
        if is_projjson(object) {
            return Self::Projjson(object.clone());
        }
        match Crs::from_json(crs) {
            // With heights it is another system, but for the plane.
            Some(named) if named == Crs::lon_lat() => Self::LonLat,
            Some(named) => Self::Unknown(Some(named.label().to_owned())),
            None => Self::Unknown(None),
        }
    }

    fn write(&self, column: &mut Map<String, Value>) {
        match self {
            Self::LonLat => {}
            Self::Unknown(name) => {
                column.insert("crs".into(), Value::Null);
                if let Some(name) = name {
                    column.insert(CRS_NAME.into(), Value::from(name.as_str()));
                }
            }
            Self::Projjson(crs) => {
                column.insert("crs".into(), crs.clone());
            }
        }
    }

    /// For a field's GeoArrow metadata, from which Parquet's logical type is made.
    pub(super) fn to_extension(&self, edges: Option<&String>) -> ExtensionMetadata {
        let crs = match self {
            Self::LonLat => Some(Crs::lon_lat().label().into()),
            Self::Unknown(name) => name.as_deref().map(Value::from),
            Self::Projjson(crs) => Some(crs.clone()),
        };
        ExtensionMetadata { crs, edges: edges.cloned() }
    }
}

/// Whether an object is a coordinate reference system of PROJJSON, and not another format's.
fn is_projjson(crs: &Value) -> bool {
    let text = |key: &str| crs.get(key).and_then(Value::as_str);
    text("type").is_some_and(|kind| kind.ends_with("CRS")) && text("name").is_some()
}

/// What the entry says of a column.
pub(super) struct ColumnEntry<'a> {
    pub(super) name: &'a str,
    pub(super) encoding: &'static str,
    pub(super) geometry_types: Vec<String>,
    pub(super) crs: &'a WrittenCrs,
    /// Edges are not straight in the coordinates.
    pub(super) is_curved: bool,
    pub(super) bbox: Option<[f64; 4]>,
    /// Name of the column of boxes.
    pub(super) covering: Option<&'a str>,
}

impl ColumnEntry<'_> {
    fn to_json(&self) -> Value {
        let mut column = Map::new();
        column.insert("encoding".into(), self.encoding.into());
        column.insert("geometry_types".into(), self.geometry_types.as_slice().into());
        self.crs.write(&mut column);
        if self.is_curved {
            // The only word there is for it.
            column.insert("edges".into(), "spherical".into());
        }
        if let Some(bbox) = self.bbox {
            column.insert("bbox".into(), bbox.to_vec().into());
        }
        if let Some(covering) = self.covering {
            let path = |edge: &str| json!([covering, edge]);
            let bbox = json!({
                "xmin": path("xmin"), "ymin": path("ymin"), "xmax": path("xmax"), "ymax": path("ymax")
            });
            column.insert("covering".into(), json!({ "bbox": bbox }));
        }
        Value::Object(column)
    }
}

/// The entry of a file.
pub(super) fn entry<'a>(primary: &str, columns: impl Iterator<Item = ColumnEntry<'a>>) -> String {
    let columns: Map<_, _> = columns.map(|column| (column.name.to_owned(), column.to_json())).collect();
    json!({ "version": "1.1.0", "primary_column": primary, "columns": columns }).to_string()
}
