//! What a file's footer and page index tell of where geometries lie.

use std::ops::Range;

use datafusion::arrow::datatypes::Schema;
use parquet::basic::{ConvertedType, LogicalType};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::columns::leaves_under;
use crate::discover::{BoundingLeaves, NullEdge, bounding_leaves, keeps_bounds};
use crate::geo::{BoundingBox, Extent, ExtentFacts, SpatialTarget};
use crate::scan::page_bounds::{cover, page_starts};

/// Names from the outside in, down to a leaf of the Parquet schema.
type LeafPath = [String];

/// What a file tells of a target, row group by row group and page by page.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileExtents {
    leaves: BoundingLeaves,
    /// The leaf of the geometries themselves, where they are not in several.
    own: Option<usize>,
}

/// Bounds of a leaf column in some rows; NaN where not known.
#[derive(Debug, Clone, Copy)]
struct LeafBounds {
    min: f64,
    max: f64,
    nulls: Option<u64>,
    rows: u64,
}

/// A page of a leaf column.
#[derive(Debug, Clone, Copy)]
struct LeafPage {
    first_row: u64,
    bounds: LeafBounds,
}

impl FileExtents {
    /// `None` if only reading tells. `file` and `table` are the Arrow schemas between which values are cast, `path` is
    /// for warnings.
    pub(super) fn find(
        footer: &ParquetMetaData,
        (file, table): (&Schema, &Schema),
        target: &SpatialTarget,
        path: &str,
    ) -> Option<Self> {
        let schema = footer.file_metadata().schema_descr();
        let (leaves, own) = match target {
            SpatialTarget::Point { lon, lat } => {
                if !keeps_bounds(file, table, lon) || !keeps_bounds(file, table, lat) {
                    return None;
                }
                let (x, y) = (number_leaf(schema, lon)?, number_leaf(schema, lat)?);
                let (null, may_wrap) = (NullEdge::NullGeometry, false);
                (BoundingLeaves { edges: [x, y, x, y], margin: None, null, may_wrap }, None)
            }
            SpatialTarget::Geometry { path: names } => match names.as_ref() {
                [name] if keeps_bounds(file, table, names) => {
                    let own = leaves_under(schema, names);
                    let own = if let [own] = own.as_slice() { Some(*own) } else { None };
                    (bounding_leaves(footer, name, path)?, own)
                }
                _ => return None,
            },
        };
        Some(Self { leaves, own })
    }

    fn all(&self) -> impl Iterator<Item = usize> {
        let mut leaves = self.leaves.edges.to_vec();
        leaves.extend(self.leaves.margin);
        leaves.sort_unstable();
        leaves.dedup();
        leaves.into_iter()
    }

    /// What the statistics of a row group tell.
    pub(super) fn row_group_facts(&self, footer: &ParquetMetaData, group: usize) -> ExtentFacts {
        self.facts(self.has_nulls(footer, group), |leaf| row_group_bounds(footer, group, leaf))
    }

    /// Whether a geometry of the row group may be NULL, as far as its own column tells.
    fn has_nulls(&self, footer: &ParquetMetaData, group: usize) -> bool {
        let statistics = self.own.and_then(|own| footer.row_group(group).column(own).statistics());
        statistics.and_then(|statistics| statistics.null_count_opt()) != Some(0)
    }

    /// What the page index tells of runs of rows of a row group, in order; `None` without a page index.
    pub(super) fn page_facts(
        &self,
        footer: &ParquetMetaData,
        group: usize,
    ) -> Option<Vec<(Range<u64>, ExtentFacts)>> {
        let mut pages: Vec<(usize, Vec<LeafPage>)> = vec![];
        for leaf in self.all() {
            pages.push((leaf, leaf_pages(footer, group, leaf)?));
        }
        let rows = u64::try_from(footer.row_group(group).num_rows()).ok()?;
        let mut starts: Vec<u64> =
            pages.iter().flat_map(|(_, pages)| pages.iter().map(|page| page.first_row)).collect();
        starts.sort_unstable();
        starts.dedup();
        let ends = starts.iter().skip(1).copied().chain([rows]);
        let runs = starts.iter().copied().zip(ends).filter(|(start, end)| start < end);
        let has_nulls = self.has_nulls(footer, group);
        let facts = |start: u64| {
            self.facts(has_nulls, |leaf| {
                let pages = pages.iter().find(|(of, _)| *of == leaf).map_or(&[][..], |(_, pages)| pages);
                let next = pages.partition_point(|page| page.first_row <= start);
                next.checked_sub(1).map(|at| pages[at].bounds)
            })
        };
        Some(runs.map(|(start, end)| (start..end, facts(start))).collect())
    }

    /// `has_nulls`: a geometry may be NULL, where the bounding leaves do not tell.
    fn facts(&self, has_nulls: bool, bounds: impl Fn(usize) -> Option<LeafBounds>) -> ExtentFacts {
        let [Some(west), Some(south), Some(east), Some(north)] = self.leaves.edges.map(&bounds) else {
            return ExtentFacts::UNKNOWN;
        };
        let edges = [west, south, east, north];
        let may_be_null = edges.iter().any(|edge| edge.nulls != Some(0));
        match self.leaves.null {
            NullEdge::NullGeometry if edges.iter().any(|edge| edge.nulls == Some(edge.rows)) => {
                return ExtentFacts::ALL_NULL;
            }
            NullEdge::NoBox if may_be_null => return ExtentFacts::UNKNOWN,
            _ => {}
        }
        let margin = match self.leaves.margin.map(&bounds) {
            None => 0.0,
            Some(Some(half)) if half.nulls == Some(0) && half.min >= -f64::from(f32::EPSILON) => {
                // Centre and half side are rounded when they are made.
                let largest =
                    edges.iter().flat_map(|edge| [edge.min, edge.max]).fold(0.0, |a: f64, b| a.max(b.abs()));
                half.max + 4.0 * f64::EPSILON * (half.max + largest)
            }
            Some(_) => f64::NAN,
        };
        let hides_wrap = self.leaves.may_wrap && west.max > east.min;
        let extent = match hides_wrap {
            true => None,
            false => BoundingBox::from_bounds(
                west.min - margin,
                south.min - margin,
                east.max + margin,
                north.max + margin,
            ),
        };
        ExtentFacts {
            extent: extent.map_or(Extent::Unknown, Extent::Within),
            may_be_null: may_be_null || (self.leaves.null != NullEdge::NullGeometry && has_nulls),
            may_be_empty: true,
            may_be_malformed: self.leaves.null != NullEdge::NullGeometry,
        }
    }
}

/// The leaf column at `path`, if it holds plain numbers, at most one a row.
fn number_leaf(schema: &SchemaDescriptor, path: &LeafPath) -> Option<usize> {
    use parquet::basic::Type::{DOUBLE, FLOAT, INT32, INT64};
    let leaf = schema.columns().iter().position(|column| column.path().parts() == path)?;
    let column = schema.column(leaf);
    let is_plain = match column.physical_type() {
        FLOAT | DOUBLE => true,
        INT32 | INT64 => is_signed_integer(&column),
        _ => false,
    };
    (is_plain && column.max_rep_level() == 0).then_some(leaf)
}

fn is_signed_integer(column: &ColumnDescriptor) -> bool {
    match column.logical_type_ref() {
        None => matches!(
            column.converted_type(),
            ConvertedType::NONE
                | ConvertedType::INT_8
                | ConvertedType::INT_16
                | ConvertedType::INT_32
                | ConvertedType::INT_64
        ),
        Some(LogicalType::Integer(integer)) => integer.is_signed,
        Some(_) => false,
    }
}

fn row_group_bounds(footer: &ParquetMetaData, group: usize, leaf: usize) -> Option<LeafBounds> {
    let group = footer.row_group(group);
    let statistics = group.column(leaf).statistics()?;
    let (min, max) = match statistics {
        Statistics::Double(s) => (s.min_opt().copied(), s.max_opt().copied()),
        Statistics::Float(s) => (s.min_opt().map(|v| below(*v)), s.max_opt().map(|v| above(*v))),
        Statistics::Int32(s) => (s.min_opt().copied().map(f64::from), s.max_opt().copied().map(f64::from)),
        Statistics::Int64(s) => (s.min_opt().map(|v| *v as f64), s.max_opt().map(|v| *v as f64)),
        _ => return None,
    };
    Some(LeafBounds {
        min: min.unwrap_or(f64::NAN),
        max: max.unwrap_or(f64::NAN),
        nulls: statistics.null_count_opt(),
        rows: u64::try_from(group.num_rows()).ok()?,
    })
}

fn leaf_pages(footer: &ParquetMetaData, group: usize, leaf: usize) -> Option<Vec<LeafPage>> {
    let index = footer.column_index()?.get(group)?.get(leaf)?;
    let starts = page_starts(footer, group, leaf);
    let rows = u64::try_from(footer.row_group(group).num_rows()).ok()?;
    let bounds = page_bounds(index)?;
    if !cover(&starts, rows) || bounds.len() != starts.len() {
        return None;
    }
    let ends = starts.iter().skip(1).copied().chain([rows]);
    let pages = starts.iter().zip(ends).zip(bounds).map(|((&first_row, end), (min, max, nulls))| LeafPage {
        first_row,
        bounds: LeafBounds { min, max, nulls, rows: end - first_row },
    });
    Some(pages.collect())
}

/// Least and greatest value, and NULLs, of each page.
fn page_bounds(index: &ColumnIndexMetaData) -> Option<Vec<(f64, f64, Option<u64>)>> {
    type Bounds = Vec<(Option<f64>, Option<f64>)>;
    let bounds: Bounds = match index {
        ColumnIndexMetaData::DOUBLE(index) => index
            .min_values_iter()
            .map(|v| v.copied())
            .zip(index.max_values_iter().map(|v| v.copied()))
            .collect(),
        ColumnIndexMetaData::FLOAT(index) => index
            .min_values_iter()
            .map(|v| v.map(|v| below(*v)))
            .zip(index.max_values_iter().map(|v| v.map(|v| above(*v))))
            .collect(),
        ColumnIndexMetaData::INT32(index) => index
            .min_values_iter()
            .map(|v| v.copied().map(f64::from))
            .zip(index.max_values_iter().map(|v| v.copied().map(f64::from)))
            .collect(),
        ColumnIndexMetaData::INT64(index) => index
            .min_values_iter()
            .map(|v| v.map(|v| *v as f64))
            .zip(index.max_values_iter().map(|v| v.map(|v| *v as f64)))
            .collect(),
        _ => return None,
    };
    let page = |(i, (min, max)): (usize, (Option<f64>, Option<f64>))| {
        let nulls = index.null_count(i).and_then(|nulls| u64::try_from(nulls).ok());
        (min.unwrap_or(f64::NAN), max.unwrap_or(f64::NAN), nulls)
    };
    Some(bounds.into_iter().enumerate().map(page).collect())
}

/// The number before a float of 32 bits: writers of boxes round either way.
fn below(bound: f32) -> f64 {
    f64::from(bound.next_down())
}

fn above(bound: f32) -> f64 {
    f64::from(bound.next_up())
}
