//! What a geometry column says of its coordinates: the coordinate reference system (CRS), and whether edges are
//! straight in it. Carried by the fields of Arrow schemas, as GeoArrow extension metadata.

use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::common::{Result, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable};
use serde_json::{Map, Value};

use crate::options::OdpOptions;

/// Key of a field's metadata: the name of its Arrow extension type.
pub(crate) const EXTENSION_NAME: &str = "ARROW:extension:name";

/// Key of a field's metadata: parameters of the extension type, JSON.
pub(crate) const EXTENSION_METADATA: &str = "ARROW:extension:metadata";

/// Longer extension metadata is not read.
const MAX_METADATA_BYTES: usize = 1 << 20;

/// Longitude and latitude on WGS 84, in this order, as GeoParquet has coordinates whatever its CRS says of axes.
const LON_LAT: &str = "OGC:CRS84";

/// Spellings of [`LON_LAT`]; those with ellipsoidal heights are the same in the plane.
const LON_LAT_SPELLINGS: [&str; 8] =
    [LON_LAT, "CRS84", "OGC:CRS84H", "EPSG:4326", "EPSG:4979", "WGS 84", "WGS84", "WGS 84 (CRS84)"];

/// A coordinate reference system by its name. Equal if both are the same system as far as is known.
#[derive(Debug, Clone)]
pub(crate) struct Crs {
    /// As the file has it: `EPSG:3857`, or a name.
    label: String,
    /// What is compared.
    key: String,
}

impl PartialEq for Crs {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Crs {
    /// The CRS of GeoParquet and Parquet where none is written.
    pub(crate) fn lon_lat() -> Self {
        Self { label: LON_LAT.to_owned(), key: LON_LAT.to_owned() }
    }

    /// From text (`authority:code`, URN, URL, WKT) or PROJJSON; `None` if it names none.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Self::from_text(text),
            Value::Object(object) => {
                let label = projjson_label(object)?;
                Self::from_text(&label)
            }
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.starts_with('{') {
            // Once: the text of an object is no object again.
            return match serde_json::from_str(text) {
                Ok(Value::Object(object)) => projjson_label(&object).map(Self::from_label),
                _ => None,
            };
        }
        let label = match text.contains('[') {
            true => wkt_label(text)?,
            false => text.to_owned(),
        };
        // The format's word for "not known".
        let is_unset = label.is_empty() || label.eq_ignore_ascii_case("srid:0");
        (!is_unset).then(|| Self::from_label(label))
    }

    fn from_label(label: String) -> Self {
        let label = short_name(&label).unwrap_or(label);
        let upper = label.to_uppercase();
        let key = match LON_LAT_SPELLINGS.contains(&upper.as_str()) {
            true => LON_LAT.to_owned(),
            false => upper,
        };
        Self { label, key }
    }

    /// The name to show.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }
}

/// `authority:code` of a PROJJSON object, else its name.
fn projjson_label(object: &Map<String, Value>) -> Option<String> {
    let id = object.get("id").or_else(|| object.get("ids")?.as_array()?.first());
    let from_id = id.and_then(|id| {
        let authority = id.get("authority")?.as_str()?;
        match id.get("code")? {
            Value::String(code) => Some(format!("{authority}:{code}")),
            Value::Number(code) => Some(format!("{authority}:{code}")),
            _ => None,
        }
    });
    // GeoJSON of before 2016 has its name one level down.
    let name = object.get("name").or_else(|| object.get("properties")?.get("name"));
    from_id.or_else(|| name?.as_str().map(String::from))
}

/// `authority:code` at the end of a CRS in WKT, else its name.
fn wkt_label(text: &str) -> Option<String> {
    let last_id = text.rfind("ID[\"").map(|at| at + 4).max(text.rfind("AUTHORITY[\"").map(|at| at + 11));
    if let Some(start) = last_id
        && text[start..].matches(']').count() == 2
        && let Some((authority, rest)) = text[start..].split_once('"')
    {
        let code = rest.trim_start_matches([',', ' ', '"']).split(['"', ']', ',']).next().unwrap_or_default();
        return Some(format!("{authority}:{code}"));
    }
    text.split('"').nth(1).map(String::from)
}

/// `authority:code` of a URN, a URL or an SRID.
fn short_name(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if let Some(code) = lower.strip_prefix("srid:") {
        return Some(format!("EPSG:{code}"));
    }
    let parts: Vec<&str> = match lower.strip_prefix("urn:ogc:def:crs:") {
        Some(rest) => text[text.len() - rest.len()..].split(':').collect(),
        None => {
            let (_, rest) = lower.split_once("opengis.net/def/crs/")?;
            text[text.len() - rest.len()..].split('/').collect()
        }
    };
    match parts.as_slice() {
        [authority, _version, code] => Some(format!("{authority}:{code}")),
        _ => None,
    }
}

/// The parameters of a field's GeoArrow extension type.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ExtensionMetadata {
    /// Text or PROJJSON.
    pub(crate) crs: Option<Value>,
    /// How edges run if not straight: `spherical`, or a method on the ellipsoid.
    pub(crate) edges: Option<String>,
}

impl ExtensionMetadata {
    /// What the field carries; nothing for one that is not GeoArrow, or whose metadata is malformed.
    pub(crate) fn of(field: &Field) -> Self {
        let metadata = field.metadata();
        let is_geometry = metadata.get(EXTENSION_NAME).is_some_and(|name| is_geoarrow(name));
        let Some(text) = metadata.get(EXTENSION_METADATA).filter(|_| is_geometry) else {
            return Self::default();
        };
        if text.len() > MAX_METADATA_BYTES {
            return Self::default();
        }
        let parsed: Value = serde_json::from_str(text).unwrap_or_default();
        Self {
            crs: parsed.get("crs").filter(|crs| !crs.is_null()).cloned(),
            edges: parsed.get("edges").and_then(Value::as_str).and_then(curved_edges),
        }
    }

    /// As the value of [`EXTENSION_METADATA`].
    pub(crate) fn to_text(&self) -> String {
        let mut object = Map::new();
        if let Some(crs) = &self.crs {
            object.insert("crs".into(), crs.clone());
        }
        if let Some(edges) = &self.edges {
            object.insert("edges".into(), Value::String(edges.clone()));
        }
        Value::Object(object).to_string()
    }
}

/// Whether an Arrow extension type is one of GeoArrow's.
pub(crate) fn is_geoarrow(extension_name: &str) -> bool {
    extension_name.starts_with("geoarrow.") || extension_name == "ogc.wkb"
}

/// `edges` unless they are straight.
pub(crate) fn curved_edges(edges: &str) -> Option<String> {
    (!edges.eq_ignore_ascii_case("planar")).then(|| edges.to_ascii_lowercase())
}

/// Checks that the geometries of a predicate are in one CRS, as far as their fields say: a constant is in that of the
/// other argument.
///
/// # Errors
/// A plan error that names both.
pub(crate) fn check(function: &str, fields: &[FieldRef]) -> Result<()> {
    let mut known: Option<(&FieldRef, Crs)> = None;
    for field in fields {
        let Some(crs) = ExtensionMetadata::of(field).crs.as_ref().and_then(Crs::from_json) else { continue };
        match &known {
            Some((first, other)) if *other != crs => {
                return plan_err!(
                    "{function}: {:?} is in {} and {:?} in {}; both must be in one coordinate reference system",
                    first.name(),
                    other.label(),
                    field.name(),
                    crs.label()
                );
            }
            Some(_) => {}
            None => known = Some((field, crs)),
        }
    }
    Ok(())
}

/// Checks that edges are straight in degrees, or that the session takes them to be. Cheap where there are none that
/// are not.
///
/// # Errors
/// A plan error that says which setting allows it.
pub(crate) fn check_edges(function: &str, fields: &[FieldRef], config: &ConfigOptions) -> Result<()> {
    for field in fields {
        let metadata = field.metadata().get(EXTENSION_METADATA);
        if !metadata.is_some_and(|text| text.contains("edges")) {
            continue;
        }
        let Some(edges) = ExtensionMetadata::of(field).edges else { continue };
        if !OdpOptions::of(config).planar_geography {
            return plan_err!(
                "{function}: the edges of {:?} are {edges}, which is not supported; \
                 SET odp.planar_geography = true to treat edges as straight in degrees",
                field.name()
            );
        }
    }
    Ok(())
}

/// [`check_edges`] while a query is planned: an error even if no row is read.
///
/// # Errors
/// As there.
pub(crate) fn check_edges_of(function: &str, args: &[Expr], info: &SimplifyContext) -> Result<()> {
    let fields: Vec<FieldRef> =
        args.iter().filter_map(|arg| Some(arg.to_field(info.schema().as_ref()).ok()?.1)).collect();
    check_edges(function, &fields, info.config_options())
}

/// `field` with the CRS and edges of the geometry that it is made from; for functions that return WKB.
pub(crate) fn with_crs_of(field: Field, source: &Field) -> Field {
    let known = ExtensionMetadata::of(source);
    if known == ExtensionMetadata::default() {
        return field;
    }
    let mut metadata = field.metadata().clone();
    metadata.insert(EXTENSION_NAME.into(), "geoarrow.wkb".into());
    metadata.insert(EXTENSION_METADATA.into(), known.to_text());
    field.with_metadata(metadata)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use datafusion::arrow::datatypes::DataType;

    use super::*;

    fn field(name: &str, metadata: &str) -> FieldRef {
        let metadata = HashMap::from([
            (EXTENSION_NAME.to_owned(), "geoarrow.wkb".to_owned()),
            (EXTENSION_METADATA.to_owned(), metadata.to_owned()),
        ]);
        Arc::new(Field::new(name, DataType::Binary, true).with_metadata(metadata))
    }

    #[test]
    fn spellings_of_one_system_are_equal() {
        let lon_lat = Crs::lon_lat();
        for text in [
            r#""EPSG:4326""#,
            r#""ogc:crs84""#,
            r#""urn:ogc:def:crs:OGC:1.3:CRS84""#,
            r#""urn:ogc:def:crs:EPSG::4326""#,
            r#""http://www.opengis.net/def/crs/OGC/1.3/CRS84""#,
            r#""https://www.opengis.net/def/crs/EPSG/0/4326""#,
            r#""srid:4326""#,
            r#"{"name": "whatever", "id": {"authority": "EPSG", "code": 4326}}"#,
            r#"{"type": "GeographicCRS", "name": "WGS 84 (CRS84)"}"#,
            r#"{"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}"#,
            r#""{\"name\": \"x\", \"id\": {\"authority\": \"OGC\", \"code\": \"CRS84\"}}""#,
            r#""GEOGCRS[\"WGS 84\", DATUM[\"x\", ID[\"EPSG\", 6326]], ID[\"EPSG\", 4326]]""#,
            r#""GEOGCS[\"WGS 84\",AUTHORITY[\"EPSG\",\"4326\"]]""#,
            r#""GEOGCRS[\"WGS 84\", DATUM[\"x\", ID[\"EPSG\", 6326]], CS[ellipsoidal, 2]]""#,
        ] {
            let crs =
                Crs::from_json(&serde_json::from_str(text).unwrap()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(crs, lon_lat, "{text}");
        }
        let mercator = Crs::from_json(&Value::from("urn:ogc:def:crs:EPSG::3857")).unwrap();
        assert_eq!(mercator.label(), "EPSG:3857");
        assert_ne!(mercator, lon_lat);
        assert_eq!(Crs::from_json(&Value::from("SRID:3857")), Some(mercator));
        for text in [r#""srid:0""#, r#""""#, "null", "5", "{}", "[]", r#""{\"a\": \"{}\"}""#, r#""[[[""#] {
            assert_eq!(Crs::from_json(&serde_json::from_str(text).unwrap()), None, "{text}");
        }
    }

    #[test]
    fn two_systems_in_one_predicate_are_an_error_that_names_both() {
        let (a, b) = (field("a", r#"{"crs": "EPSG:4326"}"#), field("b", r#"{"crs": "EPSG:3857"}"#));
        let (c, d) = (field("c", r#"{"crs": "OGC:CRS84"}"#), field("d", "not JSON"));
        let constant = Arc::new(Field::new("lit", DataType::Utf8, true));
        for fields in [[&a, &c], [&a, &d], [&b, &constant], [&a, &constant]] {
            check("st_within", &fields.map(Arc::clone)).unwrap();
        }
        let message = check("st_within", &[a, b]).unwrap_err().to_string();
        for part in ["st_within", "\"a\"", "EPSG:4326", "\"b\"", "EPSG:3857"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn curved_edges_are_refused_unless_the_session_takes_them_for_straight() {
        let mut config = ConfigOptions::default();
        config.extensions.insert(OdpOptions::default());
        let sphere = field("g", r#"{"edges": "spherical"}"#);
        let plane = field("g", r#"{"edges": "planar"}"#);
        check_edges("st_within", &[plane], &config).unwrap();
        let message = check_edges("st_within", &[Arc::clone(&sphere)], &config).unwrap_err().to_string();
        assert!(message.contains("spherical") && message.contains("SET odp.planar_geography"), "{message}");
        config.set("odp.planar_geography", "true").unwrap();
        check_edges("st_within", &[Arc::clone(&sphere)], &config).unwrap();

        let kept = with_crs_of(Field::new("wkb", DataType::Binary, true), &sphere);
        assert_eq!(ExtensionMetadata::of(&kept).edges.as_deref(), Some("spherical"));
    }
}
