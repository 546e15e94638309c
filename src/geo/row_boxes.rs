//! The box of each geometry in an array, and what all of them have in common: what a writer says of its rows.

use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};

use crate::geo::array::{GeometryArray, GeometryValue};
use crate::geo::bounding_box::BoundingBox;
use crate::geo::geometry_error::GeometryError;
use crate::geo::geometry_types::GeometryTypes;
use crate::geo::is_usable;

/// The boxes of geometries, one per row.
#[derive(Debug)]
pub(crate) struct RowBoxes {
    /// xmin, ymin, xmax, ymax; for points the first two are the last two.
    pub(crate) edges: [ScalarBuffer<f64>; 4],
    /// Rows without a box: null, empty and malformed geometries.
    pub(crate) nulls: Option<NullBuffer>,
    /// Of all rows.
    pub(crate) bounds: Option<BoundingBox>,
    /// Of all rows, empty ones included.
    pub(crate) types: GeometryTypes,
    /// The first row that is malformed, and what is wrong with it: then nothing is sure of all rows.
    pub(crate) fault: Option<(usize, GeometryError)>,
}

impl RowBoxes {
    /// Reads all rows, without an allocation for any of them. `types`: what the type of the array alone says.
    pub(crate) fn of(rows: &GeometryArray, types: Option<GeometryTypes>) -> Self {
        if let GeometryArray::Points { x, y, nulls } = rows {
            let types = types.unwrap_or(GeometryTypes::POINTS);
            return Self::of_points(x.values().clone(), y.values().clone(), nulls.clone(), types);
        }
        let mut x = vec![0.0; rows.len()];
        let mut y = vec![0.0; rows.len()];
        if rows.read_plain_points(0, &mut x, &mut y) {
            return Self::of_points(x.into(), y.into(), None, GeometryTypes::POINTS);
        }
        Self::of_any(rows, types)
    }

    /// Those of points; one with NaN is empty.
    pub(crate) fn of_points(
        x: ScalarBuffer<f64>,
        y: ScalarBuffer<f64>,
        nulls: Option<NullBuffer>,
        types: GeometryTypes,
    ) -> Self {
        let has_rows = x.len() > nulls.as_ref().map_or(0, NullBuffer::null_count);
        let types = if has_rows { types } else { GeometryTypes::default() };
        let mut bounds = Bounds::new();
        let mut all_usable = true;
        match &nulls {
            None => {
                for (x, y) in x.iter().zip(y.iter()) {
                    all_usable &= is_usable(*x) & is_usable(*y);
                    bounds.hold(*x, *y, *x, *y);
                }
            }
            Some(nulls) => {
                for row in nulls.valid_indices() {
                    all_usable &= is_usable(x[row]) & is_usable(y[row]);
                    bounds.hold(x[row], y[row], x[row], y[row]);
                }
            }
        }
        let edges = [x, y];
        let [x, y] = &edges;
        let (mut known, mut fault) = (nulls, None);
        if !all_usable {
            let is_valid = |row: usize| known.as_ref().is_none_or(|nulls| nulls.is_valid(row));
            let has_box = |row: usize| is_valid(row) && is_usable(x[row]) && is_usable(y[row]);
            let is_malformed =
                |row: &usize| is_valid(*row) && !has_box(*row) && !x[*row].is_nan() && !y[*row].is_nan();
            fault = (0..x.len()).find(is_malformed).map(|row| {
                let reason = format!("found {} {}, expected finite numbers up to 1e100", x[row], y[row]);
                (row, GeometryError::new(0, reason))
            });
            let boxes = BooleanBuffer::collect_bool(x.len(), has_box);
            bounds = Bounds::new();
            boxes.set_indices().for_each(|row| bounds.hold(x[row], y[row], x[row], y[row]));
            known = Some(NullBuffer::new(boxes));
        }
        let [x, y] = edges;
        let edges = [x.clone(), y.clone(), x, y];
        Self { edges, nulls: known, bounds: bounds.finish(), types, fault }
    }

    fn of_any(rows: &GeometryArray, known: Option<GeometryTypes>) -> Self {
        let count = rows.len();
        let mut edges = [0; 4].map(|_| Vec::with_capacity(count));
        let (mut types, mut fault) = (GeometryTypes::default(), None);
        let mut bounds = Bounds::new();
        let read = |row: usize| {
            let found = rows.value(row).and_then(|value| {
                let outline = match value.outline() {
                    Ok(outline) => outline,
                    Err(error) => {
                        fault.get_or_insert((row, error));
                        return None;
                    }
                };
                types = types.union(match (known, value) {
                    (Some(known), _) => known,
                    (None, GeometryValue::Wkb(bytes)) => GeometryTypes::of_wkb(bytes),
                    // Of others it is not asked; without a name the list is empty, which says nothing.
                    (None, _) => GeometryTypes::of_number(7, false, true),
                });
                outline.bounding_box()
            });
            let BoundingBox { xmin, ymin, xmax, ymax } = found.unwrap_or(BoundingBox::of_point(0.0, 0.0));
            edges.iter_mut().zip([xmin, ymin, xmax, ymax]).for_each(|(edges, edge)| edges.push(edge));
            if found.is_some() {
                bounds.hold(xmin, ymin, xmax, ymax);
            }
            found.is_some()
        };
        let boxes = BooleanBuffer::collect_bool(count, read);
        let nulls = Some(NullBuffer::new(boxes)).filter(|nulls| nulls.null_count() > 0);
        Self { edges: edges.map(ScalarBuffer::from), nulls, bounds: bounds.finish(), types, fault }
    }
}

/// The box of what was seen so far.
struct Bounds(BoundingBox);

impl Bounds {
    fn new() -> Self {
        let (least, most) = (f64::INFINITY, f64::NEG_INFINITY);
        Self(BoundingBox { xmin: least, ymin: least, xmax: most, ymax: most })
    }

    #[inline]
    fn hold(&mut self, xmin: f64, ymin: f64, xmax: f64, ymax: f64) {
        self.0.xmin = self.0.xmin.min(xmin);
        self.0.ymin = self.0.ymin.min(ymin);
        self.0.xmax = self.0.xmax.max(xmax);
        self.0.ymax = self.0.ymax.max(ymax);
    }

    fn finish(self) -> Option<BoundingBox> {
        let BoundingBox { xmin, ymin, xmax, ymax } = self.0;
        BoundingBox::from_bounds(xmin, ymin, xmax, ymax)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, BinaryArray};

    use super::*;
    use crate::geo::wkb::to_wkb;
    use crate::geo::wkt::parse_wkt;

    fn boxes(texts: &[Option<&str>]) -> RowBoxes {
        let wkb = texts.iter().map(|text| {
            text.map(|text| parse_wkt(text).map_or_else(|_| vec![1, 9], |found| to_wkb(&found).unwrap()))
        });
        let array: ArrayRef = Arc::new(wkb.collect::<BinaryArray>());
        RowBoxes::of(&GeometryArray::try_new(&array).unwrap(), None)
    }

    fn edges(boxes: &RowBoxes, row: usize) -> Option<[f64; 4]> {
        let is_there = boxes.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        is_there.then(|| boxes.edges.each_ref().map(|edges| edges[row]))
    }

    #[test]
    fn points_share_their_edges() {
        let found = boxes(&[Some("POINT(1 2)"), Some("POINT(-3 4)")]);
        assert_eq!(edges(&found, 1), Some([-3.0, 4.0, -3.0, 4.0]));
        assert!(found.edges[0].ptr_eq(&found.edges[2]));
        assert_eq!(found.bounds, BoundingBox::from_bounds(-3.0, 2.0, 1.0, 4.0));
        assert_eq!(found.types.names(), ["Point"]);
        assert!(found.nulls.is_none() && found.fault.is_none());
    }

    #[test]
    fn rows_without_a_box_are_null_and_malformed_ones_are_told() {
        let rows = [Some("LINESTRING(0 0,1 5)"), None, Some("POLYGON EMPTY"), Some("POINT(7 7)")];
        let found = boxes(&rows);
        let expected = [Some([0.0, 0.0, 1.0, 5.0]), None, None, Some([7.0; 4])];
        assert_eq!([0, 1, 2, 3].map(|row| edges(&found, row)), expected);
        assert_eq!(found.types.names(), ["Point", "LineString", "Polygon"]);
        assert!(found.fault.is_none());
        let found = boxes(&[Some("POINT(1 2)"), Some("nonsense"), None]);
        assert_eq!(found.fault.as_ref().map(|(row, _)| *row), Some(1));
        assert_eq!(edges(&found, 1), None);
        let nothing = boxes(&[None, None]);
        assert_eq!((nothing.bounds, nothing.types), (None, GeometryTypes::default()));
    }

    #[test]
    fn points_with_nan_are_empty_and_those_out_of_range_malformed() {
        let of = |x: &[f64]| {
            let x = x.to_vec();
            RowBoxes::of_points(x.clone().into(), x.into(), None, GeometryTypes::POINTS)
        };
        let empty = of(&[1.0, f64::NAN, 3.0]);
        assert_eq!(empty.bounds, BoundingBox::from_bounds(1.0, 1.0, 3.0, 3.0));
        assert!(empty.fault.is_none() && edges(&empty, 1).is_none() && edges(&empty, 2).is_some());
        for bad in [f64::INFINITY, 1e101] {
            let found = of(&[1.0, bad]);
            assert_eq!(found.fault.as_ref().map(|(row, _)| *row), Some(1));
            assert_eq!(found.bounds, BoundingBox::from_bounds(1.0, 1.0, 1.0, 1.0));
        }
    }
}
