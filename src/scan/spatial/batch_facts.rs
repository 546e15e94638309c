//! What the snapshot tells of the geometries in each batch.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};

use crate::dataset::DatasetSnapshot;
use crate::geo::{BoundingBox, Extent, ExtentFacts, FieldPath, SpatialTarget};

/// Facts about one target, batch by batch.
pub(crate) struct BatchFacts<'a> {
    snapshot: &'a DatasetSnapshot,
    target: &'a SpatialTarget,
    source: Source<'a>,
    /// Coordinates hold no NaN, and geometries are neither empty nor malformed.
    is_finite: bool,
    is_learnt: bool,
}

enum Source<'a> {
    Points(Box<[CoordinateBounds; 2]>),
    Extents(&'a [Option<BoundingBox>]),
    Unknown,
}

/// Bounds of a column of numbers in each batch.
struct CoordinateBounds {
    min: Float64Array,
    max: Float64Array,
    nulls: Vec<Option<u64>>,
}

impl<'a> BatchFacts<'a> {
    pub(crate) fn new(snapshot: &'a DatasetSnapshot, target: &'a SpatialTarget, is_finite: bool) -> Self {
        let source = match target {
            SpatialTarget::Point { lon, lat } => {
                match (coordinate_bounds(snapshot, lon), coordinate_bounds(snapshot, lat)) {
                    (Some(x), Some(y)) => Source::Points(Box::new([x, y])),
                    _ => Source::Unknown,
                }
            }
            SpatialTarget::Geometry { path } => match path.as_ref() {
                [name] => snapshot
                    .geometry_columns()
                    .iter()
                    .find(|column| column.name == *name)
                    .map_or(Source::Unknown, |column| Source::Extents(&column.extents)),
                _ => Source::Unknown,
            },
        };
        Self { snapshot, target, source, is_finite, is_learnt: snapshot.learnt().knows(target) }
    }

    /// What is known of the geometries of one batch.
    pub(crate) fn of(&self, batch: usize) -> ExtentFacts {
        match self.learnt(batch) {
            Some(facts) => facts,
            None => self.declared(batch),
        }
    }

    fn learnt(&self, batch: usize) -> Option<ExtentFacts> {
        if !self.is_learnt {
            return None;
        }
        let batch = &self.snapshot.batches()[batch];
        let file = self.snapshot.file_of(batch);
        let mut facts = ExtentFacts::NO_ROWS;
        for group in batch.row_groups.clone() {
            let rows = match batch.is_whole {
                true => 0..file.row_groups[group].rows,
                false => batch.skipped_rows..batch.skipped_rows + batch.rows,
            };
            let known = self.snapshot.learnt().facts(self.target, (batch.file_index, group), rows)?;
            facts = facts.union(known);
        }
        Some(facts)
    }

    fn declared(&self, batch: usize) -> ExtentFacts {
        let may_be = !self.is_finite;
        let unknown = ExtentFacts { may_be_empty: may_be, may_be_malformed: may_be, ..ExtentFacts::UNKNOWN };
        match &self.source {
            Source::Points(bounds) => {
                let [x, y] = bounds.as_ref();
                let rows = self.snapshot.batches()[batch].rows;
                let nulls = (x.nulls[batch], y.nulls[batch]);
                if nulls.0 == Some(rows) || nulls.1 == Some(rows) {
                    return ExtentFacts::ALL_NULL;
                }
                let bound = |bounds: &Float64Array| bounds.is_valid(batch).then(|| bounds.value(batch));
                let edges = (bound(&x.min), bound(&y.min), bound(&x.max), bound(&y.max));
                let (Some(west), Some(south), Some(east), Some(north)) = edges else { return unknown };
                ExtentFacts {
                    extent: BoundingBox::from_bounds(west, south, east, north)
                        .map_or(Extent::Unknown, Extent::Within),
                    may_be_null: nulls != (Some(0), Some(0)),
                    may_be_malformed: false,
                    ..unknown
                }
            }
            Source::Extents(extents) => match self.column_nulls(batch) {
                Some(nulls) if nulls == self.snapshot.batches()[batch].rows => ExtentFacts::ALL_NULL,
                nulls => ExtentFacts {
                    extent: extents[batch].map_or(Extent::Unknown, Extent::Within),
                    may_be_null: nulls != Some(0),
                    ..unknown
                },
            },
            Source::Unknown => unknown,
        }
    }

    /// NULLs of the geometry column in a batch.
    fn column_nulls(&self, batch: usize) -> Option<u64> {
        let SpatialTarget::Geometry { path } = self.target else { return None };
        let index = self.snapshot.table_schema().table_schema().index_of(path.first()?).ok()?;
        let nulls = &self.snapshot.bounds().columns.get(index)?.null_counts;
        nulls.is_valid(batch).then(|| nulls.value(batch))
    }
}

fn coordinate_bounds(snapshot: &DatasetSnapshot, path: &FieldPath) -> Option<CoordinateBounds> {
    let [name] = path.as_ref() else {
        let bounds = snapshot.leaf_bounds(path)?;
        let known = |bounds: &[f64]| bounds.iter().map(|b| Some(*b).filter(|b| !b.is_nan())).collect();
        return Some(CoordinateBounds {
            min: known(&bounds.min),
            max: known(&bounds.max),
            nulls: bounds.null_counts.clone(),
        });
    };
    let index = snapshot.table_schema().table_schema().index_of(name).ok()?;
    let bounds = snapshot.bounds().columns.get(index)?;
    if !bounds.min.data_type().is_numeric() {
        return None;
    }
    let numbers = |array: &ArrayRef| -> Option<Float64Array> {
        Some(cast(array, &DataType::Float64).ok()?.as_primitive::<Float64Type>().clone())
    };
    Some(CoordinateBounds {
        min: numbers(&bounds.min)?,
        max: numbers(&bounds.max)?,
        nulls: bounds.null_counts.iter().collect(),
    })
}
