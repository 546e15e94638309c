//! Longitude and latitude in columns of their own, found by what fields say or are called.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Float64Type};

use super::snapshot::DatasetSnapshot;
use crate::geo::BoundingBox;

/// Names of longitude and latitude, compared without case: Darwin Core, GBIF and OBIS; CF and IMOS; common ones.
const NAMES: [(&str, &str); 5] = [
    ("decimalLongitude", "decimalLatitude"),
    ("longitude", "latitude"),
    ("lon", "lat"),
    ("lng", "lat"),
    ("long", "lat"),
];

/// Structs nested deeper than this are not looked into.
const MAX_DEPTH: usize = 32;

/// The extent of each batch where it is known: of a declared geometry column, else of plain coordinate columns.
pub(crate) fn batch_extents(snapshot: &DatasetSnapshot) -> Vec<Option<BoundingBox>> {
    let mut extents = coordinate_extents(snapshot);
    for column in snapshot.geometry_columns().iter().rev().filter(|column| column.is_declared) {
        for (extent, known) in extents.iter_mut().zip(&column.extents) {
            *extent = known.or(*extent);
        }
    }
    extents
}

/// The extent of each batch by its longitude and latitude columns, top-level or inside a struct; `None` where unknown.
///
/// Columns whose field metadata says `class` = `longitude` and `latitude` come first, then those with known names,
/// top-level ones before those in structs.
fn coordinate_extents(snapshot: &DatasetSnapshot) -> Vec<Option<BoundingBox>> {
    let unknown = || vec![None; snapshot.num_batches()];
    let schema = snapshot.schema();
    let Some((lon, lat)) = find(schema.fields()) else { return unknown() };
    match (bounds(snapshot, &lon), bounds(snapshot, &lat)) {
        (Some(x), Some(y)) => x
            .into_iter()
            .zip(y)
            .map(|((xmin, xmax), (ymin, ymax))| BoundingBox::from_bounds(xmin, ymin, xmax, ymax))
            .collect(),
        _ => unknown(),
    }
}

/// The paths of longitude and latitude.
fn find(fields: &Fields) -> Option<(Vec<String>, Vec<String>)> {
    let mut numbers = numbers_of(fields);
    numbers.sort_by_key(|(path, _)| path.len() > 1);
    let has_class = |class: &str| {
        let says = |field: &Field| {
            ["class", "geo"].iter().any(|key| field.metadata().get(*key).is_some_and(|c| c == class))
        };
        numbers.iter().find(|(_, field)| says(field)).map(|(path, _)| path.clone())
    };
    if let (Some(lon), Some(lat)) = (has_class("longitude"), has_class("latitude")) {
        return Some((lon, lat));
    }
    let nested = [false, true];
    nested.iter().flat_map(|nested| NAMES.iter().map(move |names| (*nested, names))).find_map(
        |(nested, names)| {
            let named =
                |path: &[String], name: &str| path.last().is_some_and(|last| last.eq_ignore_ascii_case(name));
            numbers.iter().filter(|(path, _)| (path.len() > 1) == nested && named(path, names.0)).find_map(
                |(lon, _)| {
                    let is_partner = |path: &[String]| {
                        path.len() == lon.len()
                            && path[..path.len() - 1] == lon[..lon.len() - 1]
                            && named(path, names.1)
                    };
                    let (lat, _) = numbers.iter().find(|(path, _)| is_partner(path))?;
                    Some((lon.clone(), lat.clone()))
                },
            )
        },
    )
}

/// The numbers among `fields`, and those in structs, by their paths.
fn numbers_of(fields: &Fields) -> Vec<(Vec<String>, &Field)> {
    fn collect<'a>(fields: &'a Fields, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, &'a Field)>) {
        if path.len() >= MAX_DEPTH {
            return;
        }
        for field in fields {
            path.push(field.name().clone());
            match field.data_type() {
                DataType::Struct(children) => collect(children, path, found),
                data_type if data_type.is_numeric() => found.push((path.clone(), field)),
                _ => {}
            }
            path.pop();
        }
    }
    let mut found = Vec::new();
    collect(fields, &mut Vec::new(), &mut found);
    found
}

/// The bounds of a column in each batch; NaN where unknown.
fn bounds(snapshot: &DatasetSnapshot, path: &[String]) -> Option<Vec<(f64, f64)>> {
    let [name] = path else {
        let leaf = snapshot.leaf_bounds(path)?;
        return Some(leaf.min.iter().copied().zip(leaf.max.iter().copied()).collect());
    };
    let column = snapshot.bounds().columns.get(snapshot.schema().index_of(name).ok()?)?;
    let (min, max) = (as_floats(&column.min)?, as_floats(&column.max)?);
    Some(min.into_iter().zip(max).collect())
}

fn as_floats(array: &ArrayRef) -> Option<Vec<f64>> {
    let floats = cast(array, &DataType::Float64).ok()?;
    let floats = floats.as_primitive::<Float64Type>();
    Some((0..floats.len()).map(|i| if floats.is_null(i) { f64::NAN } else { floats.value(i) }).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn number(name: &str) -> Field {
        Field::new(name, DataType::Float64, true)
    }

    fn group(name: &str, fields: Vec<Field>) -> Field {
        Field::new(name, DataType::Struct(fields.into()), true)
    }

    fn classed(name: &str, key: &str, class: &str) -> Field {
        number(name).with_metadata(HashMap::from([(key.to_owned(), class.to_owned())]))
    }

    fn found(fields: Vec<Field>) -> Option<(String, String)> {
        find(&fields.into()).map(|(lon, lat)| (lon.join("."), lat.join(".")))
    }

    #[test]
    fn coordinates_are_found_by_class_then_by_name_then_in_structs() {
        let pair = |lon: &str, lat: &str| Some((lon.to_owned(), lat.to_owned()));
        for (lon, lat) in [
            ("decimalLongitude", "decimalLatitude"),
            ("LONGITUDE", "LATITUDE"),
            ("lon", "lat"),
            ("decimallongitude", "decimallatitude"),
        ] {
            assert_eq!(found(vec![number(lat), number("depth"), number(lon)]), pair(lon, lat));
        }
        let interpreted =
            || group("interpreted", vec![number("decimalLongitude"), number("decimalLatitude")]);
        assert_eq!(
            found(vec![group("other", vec![number("lat")]), interpreted()]),
            pair("interpreted.decimalLongitude", "interpreted.decimalLatitude")
        );
        assert_eq!(found(vec![interpreted(), number("lon"), number("lat")]), pair("lon", "lat"));
        assert_eq!(
            found(vec![
                number("lon"),
                number("lat"),
                classed("a", "class", "latitude"),
                classed("b", "class", "longitude")
            ]),
            pair("b", "a")
        );
        assert_eq!(found(vec![number("x"), number("y")]), None);
        assert_eq!(found(vec![number("lon"), group("s", vec![number("lat")])]), None, "not one point");
        assert_eq!(found(vec![Field::new("lon", DataType::Utf8, true), number("lat")]), None);
    }
}
