//! Where the geometries of each row group lie, from whatever the file has: the first source that knows is taken.
//!
//! One-sided: an extent may be too large, never too small; unsure is unknown.

use parquet::basic::{LogicalType, Type};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};

use super::geo_metadata::{Covering, GeoColumn};
use crate::discover::leaves::{FileLeaves, null_count, numeric_bounds, row_count};
use crate::geo::BoundingBox;

/// Where the geometries of a row group lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum GroupExtent {
    /// Anywhere.
    Unknown,
    /// There are none.
    Empty,
    Within(BoundingBox),
}

impl GroupExtent {
    /// That of several row groups together; `None` if unknown, and if there are no geometries at all.
    pub(crate) fn union(groups: &[Self]) -> Option<BoundingBox> {
        let mut union: Option<BoundingBox> = None;
        for group in groups {
            match group {
                Self::Unknown => return None,
                Self::Empty => {}
                Self::Within(extent) => union = Some(union.map_or(*extent, |known| known.union(extent))),
            }
        }
        union
    }
}

/// Pairs of names that points in structs have.
const COORDINATE_NAMES: [(&str, &str); 4] =
    [("x", "y"), ("lon", "lat"), ("lng", "lat"), ("longitude", "latitude")];

/// The extents of column `name` in all row groups of a file. `geo`: what the file's GeoParquet metadata says of it;
/// `path` is for warnings.
pub(super) fn row_group_extents(
    leaves: &FileLeaves<'_>,
    name: &str,
    geo: Option<&GeoColumn>,
    path: &str,
) -> Vec<GroupExtent> {
    let whole = leaves.find(&[name.to_owned()]);
    let covering = geo.and_then(|geo| CoveringLeaves::find(leaves, geo, path));
    let coordinates = CoordinateLeaves::find(leaves, name);
    let squares = SquareLeaves::find(leaves, name);
    let file = geo.and_then(|geo| geo.bbox).and_then(|bbox| with_margin(&bbox));
    let extent = |group: &RowGroupMetaData| {
        let rows = row_count(group);
        let is_empty =
            |leaf: usize| group.columns().get(leaf).and_then(|c| null_count(c, rows)) == Some(rows);
        let single = whole.or(coordinates.as_ref().and_then(|c| leaves.is_single(c.x).then_some(c.x)));
        if rows == 0 || single.is_some_and(is_empty) {
            return GroupExtent::Empty;
        }
        let nulls = whole.and_then(|leaf| null_count(group.columns().get(leaf)?, rows));
        covering
            .as_ref()
            .and_then(|covering| covering.extent(group, nulls))
            .or_else(|| geospatial_statistics(group.columns().get(whole?)?))
            .or_else(|| coordinates.as_ref()?.extent(group))
            .or_else(|| squares.as_ref()?.extent(group, nulls))
            .or(file)
            .map_or(GroupExtent::Unknown, GroupExtent::Within)
    };
    leaves.row_groups().iter().map(extent).collect()
}

/// The box of a Parquet `GEOMETRY` or `GEOGRAPHY` column; one across the antimeridian is unknown.
fn geospatial_statistics(column: &ColumnChunkMetaData) -> Option<BoundingBox> {
    let logical_type = column.column_descr().logical_type_ref();
    if !matches!(logical_type, Some(LogicalType::Geometry(_) | LogicalType::Geography(_))) {
        return None;
    }
    let bbox = column.geo_statistics()?.bounding_box()?;
    BoundingBox::from_bounds(bbox.get_xmin(), bbox.get_ymin(), bbox.get_xmax(), bbox.get_ymax())
}

/// The leaves of a GeoParquet 1.1 covering.
#[derive(Debug)]
pub(super) struct CoveringLeaves {
    /// West, south, east, north.
    pub(super) edges: [usize; 4],
    /// No geometry's box crosses the antimeridian.
    pub(super) is_unwrapped: bool,
    /// The file's box.
    file: Option<BoundingBox>,
}

impl CoveringLeaves {
    pub(super) fn find(leaves: &FileLeaves<'_>, geo: &GeoColumn, path: &str) -> Option<Self> {
        let Covering { xmin, ymin, xmax, ymax } = geo.covering.as_ref()?;
        let leaf = |edge: &Vec<String>| {
            let found = leaves.find(edge).filter(|leaf| leaves.is_single(*leaf) && leaves.is_float(*leaf));
            if found.is_none() {
                log::warn!("{path}: the covering of {:?} is ignored: no floats at {edge:?}", geo.name);
            }
            found
        };
        let edges = [leaf(xmin)?, leaf(ymin)?, leaf(xmax)?, leaf(ymax)?];
        // A box that crosses the antimeridian reaches from one end of the circle to the other in the file's own box.
        // Beyond a full turn are no degrees.
        let reaches_round = |bbox: BoundingBox| {
            bbox.xmin <= -180.0 && bbox.xmax >= 180.0 && bbox.xmin >= -360.0 && bbox.xmax <= 360.0
        };
        let is_unwrapped = geo.has_only_points() || geo.bbox.is_some_and(|bbox| !reaches_round(bbox));
        Some(Self { edges, is_unwrapped, file: geo.bbox.and_then(|bbox| with_margin(&bbox)) })
    }

    /// `nulls`: those of the geometry. Where more boxes are missing than geometries, some geometry has none.
    fn extent(&self, group: &RowGroupMetaData, nulls: Option<u64>) -> Option<BoundingBox> {
        let rows = row_count(group);
        let bounds = |leaf: usize| {
            let column = group.columns().get(leaf)?;
            is_complete(column, rows, nulls).then(|| outward_bounds(column)).flatten()
        };
        let [(west, last_west), (south, _), (first_east, east), (_, north)] =
            [bounds(self.edges[0])?, bounds(self.edges[1])?, bounds(self.edges[2])?, bounds(self.edges[3])?];
        // A box across the antimeridian has its west edge east of its east edge. Where the boxes of the row group may
        // hide one, their longitudes say nothing.
        if !self.is_unwrapped && last_west > first_east {
            let file = self.file?;
            return BoundingBox::from_bounds(file.xmin, south, file.xmax, north);
        }
        BoundingBox::from_bounds(west, south, east, north)
    }
}

/// Leaves with the coordinates of a GeoArrow column, at any depth of lists.
#[derive(Debug)]
pub(super) struct CoordinateLeaves {
    pub(super) x: usize,
    pub(super) y: usize,
}

impl CoordinateLeaves {
    /// `None` if there is not exactly one pair, or one right below the column.
    pub(super) fn find(leaves: &FileLeaves<'_>, name: &str) -> Option<Self> {
        let mut pairs: Vec<(usize, Self)> = Vec::new();
        let inside = |path: &[String]| path.len() > 1 && path[0] == name;
        for (x, path) in leaves.paths().filter(|(_, path)| inside(path)) {
            let Some((last, parent)) = path.split_last() else { continue };
            for (_, y_name) in COORDINATE_NAMES.iter().filter(|(x_name, _)| last.eq_ignore_ascii_case(x_name))
            {
                let is_partner = |path: &[String]| {
                    path.split_last()
                        .is_some_and(|(last, other)| other == parent && last.eq_ignore_ascii_case(y_name))
                };
                let partners = leaves.paths().filter(|(_, path)| is_partner(path));
                pairs.extend(partners.map(|(y, _)| (parent.len(), Self { x, y })));
            }
        }
        if pairs.len() > 1 {
            pairs.retain(|(depth, _)| *depth == 1);
        }
        let is_unique = pairs.len() == 1;
        let (_, pair) = pairs.pop().filter(|_| is_unique)?;
        // A box, whatever else is in it.
        let parent =
            leaves.paths().find(|(leaf, _)| *leaf == pair.x).map(|(_, path)| &path[..path.len() - 1])?;
        let is_edge = |path: &[String]| {
            path.split_last()
                .is_some_and(|(last, other)| other == parent && last.eq_ignore_ascii_case("xmin"))
        };
        if leaves.paths().any(|(_, path)| is_edge(path)) {
            return None;
        }
        (leaves.is_float(pair.x) && leaves.is_float(pair.y)).then_some(pair)
    }

    fn extent(&self, group: &RowGroupMetaData) -> Option<BoundingBox> {
        let (xmin, xmax) = numeric_bounds(group.columns().get(self.x)?)?;
        let (ymin, ymax) = numeric_bounds(group.columns().get(self.y)?)?;
        BoundingBox::from_bounds(xmin, ymin, xmax, ymax)
    }
}

/// Columns `g.x`, `g.y` and `g.q` beside column `g`: the centre of each geometry's box, and half of its longer side.
#[derive(Debug)]
pub(super) struct SquareLeaves {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) q: usize,
}

impl SquareLeaves {
    pub(super) fn find(leaves: &FileLeaves<'_>, name: &str) -> Option<Self> {
        let leaf = |suffix: &str| {
            leaves
                .find(&[format!("{name}.{suffix}")])
                .filter(|leaf| leaves.is_single(*leaf) && leaves.is_float(*leaf))
        };
        Some(Self { x: leaf("x")?, y: leaf("y")?, q: leaf("q")? })
    }

    fn extent(&self, group: &RowGroupMetaData, nulls: Option<u64>) -> Option<BoundingBox> {
        let rows = row_count(group);
        let bounds = |leaf: usize| {
            let column = group.columns().get(leaf)?;
            is_complete(column, rows, nulls).then(|| outward_bounds(column)).flatten()
        };
        let ((xmin, xmax), (ymin, ymax)) = (bounds(self.x)?, bounds(self.y)?);
        let (least, half) = bounds(self.q)?;
        if least < -f64::from(f32::EPSILON) {
            return None;
        }
        // Centre and half side are rounded when they are made.
        let half =
            half + 4.0 * f64::EPSILON * (half + xmin.abs().max(xmax.abs()).max(ymin.abs()).max(ymax.abs()));
        BoundingBox::from_bounds(xmin - half, ymin - half, xmax + half, ymax + half)
    }
}

/// Whether a helper column has a value in every row that has a geometry; `nulls`: rows without one, if known.
fn is_complete(column: &ColumnChunkMetaData, rows: u64, nulls: Option<u64>) -> bool {
    null_count(column, rows).is_some_and(|missing| missing <= nulls.unwrap_or(0))
}

/// Bounds of a helper column. Those of 32 bits may be rounded the wrong way by a writer.
fn outward_bounds(column: &ColumnChunkMetaData) -> Option<(f64, f64)> {
    let (min, max) = numeric_bounds(column)?;
    match column.column_type() {
        Type::FLOAT => Some((below(min), above(max))),
        _ => Some((min, max)),
    }
}

/// The file's box, with a margin for numbers that a writer has had in 32 bits, or printed with few digits.
fn with_margin(bbox: &BoundingBox) -> Option<BoundingBox> {
    BoundingBox::from_bounds(below(bbox.xmin), below(bbox.ymin), above(bbox.xmax), above(bbox.ymax))
}

/// A number below `bound` by a unit of 32-bit precision.
fn below(bound: f64) -> f64 {
    f64::from(nearest(bound).next_down())
}

fn above(bound: f64) -> f64 {
    f64::from(nearest(bound).next_up())
}

#[expect(clippy::cast_possible_truncation, reason = "the nearest float, infinite beyond the range")]
fn nearest(bound: f64) -> f32 {
    bound as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bbox(xmin: f64, xmax: f64) -> BoundingBox {
        BoundingBox { xmin, ymin: 0.0, xmax, ymax: 1.0 }
    }

    #[test]
    fn one_unknown_row_group_makes_the_union_unknown_and_empty_ones_do_not() {
        let within = |xmin, xmax| GroupExtent::Within(bbox(xmin, xmax));
        let known = [within(0.0, 1.0), GroupExtent::Empty, within(-5.0, -4.0)];
        assert_eq!(GroupExtent::union(&known), Some(bbox(-5.0, 1.0)));
        assert_eq!(GroupExtent::union(&[within(0.0, 1.0), GroupExtent::Unknown]), None);
        assert_eq!(GroupExtent::union(&[GroupExtent::Empty]), None);
    }

    #[test]
    fn margins_hold_numbers_of_32_bits() {
        for number in [0.0, -0.0, 12.391399, -180.0, 179.99999999, 1e30, -4.2e-20] {
            assert!(below(number) < number && number < above(number), "{number}");
            let rounded = f64::from(nearest(number));
            assert!(below(rounded) <= number && number <= above(rounded), "{number}");
        }
        assert!(with_margin(&bbox(0.0, 1e300)).is_none());
    }
}
