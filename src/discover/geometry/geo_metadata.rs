//! The `geo` entry of a GeoParquet footer: which columns hold geometries, in which system, and where.
//!
//! What breaks the specification is ignored with a warning: it is never needed to read the file.

use parquet::file::metadata::ParquetMetaData;
use serde_json::Value;

use super::duplicate_keys;
use crate::geo::BoundingBox;
use crate::geo::made_geometry::CRS_NAME;

/// A larger entry is not read.
const MAX_BYTES: usize = 16 << 20;

/// What the entry says of one column.
#[derive(Debug, Clone, Default)]
pub(super) struct GeoColumn {
    pub(super) name: String,
    pub(super) encoding: Option<String>,
    pub(super) geometry_types: Vec<String>,
    pub(super) crs: GeoCrs,
    pub(super) edges: Option<String>,
    /// Where all geometries of the file lie, as written. Not one that crosses the antimeridian.
    pub(super) bbox: Option<BoundingBox>,
    pub(super) covering: Option<Covering>,
}

/// A coordinate reference system as GeoParquet writes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum GeoCrs {
    /// No entry: longitude and latitude.
    #[default]
    LonLat,
    /// `null`.
    Unknown,
    Written(Value),
}

/// The leaf columns that hold each geometry's box, as paths of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Covering {
    pub(super) xmin: Vec<String>,
    pub(super) ymin: Vec<String>,
    pub(super) xmax: Vec<String>,
    pub(super) ymax: Vec<String>,
}

/// The geometry columns that the `geo` entry names; `path` is for warnings.
pub(super) fn read(footer: &ParquetMetaData, path: &str) -> Vec<GeoColumn> {
    let entries = footer.file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let mut texts = entries.iter().filter(|entry| entry.key == "geo").filter_map(|e| e.value.as_deref());
    let Some(text) = texts.next() else { return Vec::new() };
    let columns = match texts.any(|other| other != text) {
        true => Err("there are several".to_owned()),
        false => parse(text),
    };
    columns
        .map(|columns| columns.iter().map(|(name, column)| GeoColumn::read(name, column, path)).collect())
        .unwrap_or_else(|reason| {
            log::warn!("{path}: geo metadata is ignored: {reason}");
            Vec::new()
        })
}

fn parse(text: &str) -> Result<serde_json::Map<String, Value>, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it has {} bytes, expected at most {MAX_BYTES}", text.len()));
    }
    let mut geo: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if let Some(key) = duplicate_keys::find(text) {
        return Err(format!("key {key:?} is there twice"));
    }
    match geo.get_mut("columns").map(Value::take) {
        Some(Value::Object(columns)) => Ok(columns),
        _ => Err("it has no object \"columns\"".to_owned()),
    }
}

impl GeoColumn {
    fn read(name: &str, column: &Value, path: &str) -> Self {
        let ignored = |what: &str| log::warn!("{path}: {what} of geometry column {name:?} is ignored");
        let text = |key: &str| match column.get(key) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                ignored(key);
                None
            }
            None => None,
        };
        let types = column.get("geometry_types").or_else(|| column.get("geometry_type"));
        let geometry_types = match types {
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).map(String::from).collect(),
            Some(Value::String(one)) => vec![one.clone()],
            _ => Vec::new(),
        };
        let crs = match column.get("crs") {
            None => GeoCrs::LonLat,
            Some(crs @ (Value::Object(_) | Value::String(_))) => GeoCrs::Written(crs.clone()),
            Some(Value::Null) => match column.get(CRS_NAME) {
                Some(name @ Value::String(_)) => GeoCrs::Written(name.clone()),
                _ => GeoCrs::Unknown,
            },
            Some(_) => {
                ignored("crs");
                GeoCrs::Unknown
            }
        };
        let bbox = column.get("bbox").and_then(|edges| {
            let bbox = read_box(edges);
            if bbox.is_none() {
                log::debug!("{path}: bbox of geometry column {name:?} says nothing");
            }
            bbox
        });
        let covering = column.get("covering").and_then(|covering| {
            let covering = read_covering(covering);
            if covering.is_none() {
                ignored("covering");
            }
            covering
        });
        let (encoding, edges) = (text("encoding"), text("edges"));
        Self { name: name.to_owned(), encoding, geometry_types, crs, edges, bbox, covering }
    }

    /// Whether all geometries are single points: the box of none crosses the antimeridian.
    pub(super) fn has_only_points(&self) -> bool {
        let is_point = |kind: &String| kind.split(' ').next() == Some("Point");
        !self.geometry_types.is_empty() && self.geometry_types.iter().all(is_point)
    }
}

/// `[xmin, ymin, (zmin,) xmax, ymax (, zmax)]`; `None` for anything else, and for a box across the antimeridian.
fn read_box(edges: &Value) -> Option<BoundingBox> {
    let edges: Vec<f64> = edges.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
    match edges.as_slice() {
        [xmin, ymin, xmax, ymax] | [xmin, ymin, _, xmax, ymax, _] => {
            BoundingBox::from_bounds(*xmin, *ymin, *xmax, *ymax)
        }
        _ => None,
    }
}

fn read_covering(covering: &Value) -> Option<Covering> {
    let bbox = covering.get("bbox")?;
    let leaf = |edge: &str| -> Option<Vec<String>> {
        bbox.get(edge)?.as_array()?.iter().map(|part| part.as_str().map(String::from)).collect()
    };
    Some(Covering { xmin: leaf("xmin")?, ymin: leaf("ymin")?, xmax: leaf("xmax")?, ymax: leaf("ymax")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_have_four_or_six_numbers_in_order() {
        let expected = BoundingBox { xmin: -1.0, ymin: 2.0, xmax: 3.0, ymax: 4.5 };
        for (json, is_read) in [
            ("[-1, 2, 3, 4.5]", true),
            ("[-1, 2, -100, 3, 4.5, 100]", true),
            ("[3, 2, -1, 4.5]", false),
            ("[-1, 4.5, 3, 2]", false),
            ("[-1, 2, 3]", false),
            ("[-1, 2, 3, 4.5, 5]", false),
            ("[-1, 2, 3, \"4.5\"]", false),
            ("[-1, 2, 3, null]", false),
            ("{}", false),
        ] {
            let read = read_box(&serde_json::from_str(json).unwrap());
            assert_eq!(read, is_read.then_some(expected), "{json}");
        }
    }

    #[test]
    fn malformed_entries_are_refused_with_a_reason() {
        let deep = "[".repeat(10_000);
        let long = " ".repeat(MAX_BYTES + 1);
        for (text, reason) in [
            ("", "EOF"),
            ("[]", "no object"),
            (r#"{"columns": []}"#, "no object"),
            (r#"{"columns": {"g": {"bbox": [0, 0, 1e999, 1]}}}"#, "out of range"),
            (r#"{"columns": {"g": {"bbox": [0, 0, NaN, 1]}}}"#, "expected"),
            (r#"{"columns": {"g": {}, "g": {}}}"#, "twice"),
            (&deep, "recursion"),
            (&long, "bytes"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn values_of_wrong_types_leave_the_others() {
        let column: Value = serde_json::from_str(
            r#"{"encoding": 5, "crs": 7, "edges": [], "geometry_types": {"a": 1}, "covering": {"bbox": 3},
                "bbox": [1, 2, 3, 4]}"#,
        )
        .unwrap();
        let read = GeoColumn::read("g", &column, "a.parquet");
        assert_eq!((read.encoding, read.edges, read.crs), (None, None, GeoCrs::Unknown));
        assert!(read.covering.is_none() && read.geometry_types.is_empty() && read.bbox.is_some());
        let text = Value::from("not an object");
        assert!(GeoColumn::read("g", &text, "a.parquet").bbox.is_none());
    }
}
