//! How sure it is, before a batch is read, that its rows match a filter.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, Scalar, UInt64Array};
use datafusion::arrow::compute::kernels::cmp::{eq, gt, gt_eq, lt, lt_eq};
use datafusion::arrow::compute::{and, or};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal,
};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};

use super::spatial::BatchFacts;
use crate::dataset::{ColumnBounds, DatasetSnapshot};
use crate::geo::{Extent, ExtentFacts, SpatialConjunct, SpatialTarget};

/// What metadata says of the rows of a batch that was not skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certainty {
    /// Every row matches, by partition values or the bounds of columns.
    All,
    /// Every row matches, and it takes the extent of the geometries to know.
    Inside,
    /// The batch lies at the edge of an area.
    Boundary,
    /// Bounds leave it open.
    Possible,
    /// Nothing is known of a column that the filter reads.
    Unknown,
}

/// The certainty of each of the batches at `indices`, which were not skipped. `predicates` are all filters that are not
/// decided by partition values; `is_finite`: coordinates hold no NaN, and geometries are neither empty nor malformed.
///
/// One-sided: `All` and `Inside` are proven.
///
/// # Errors
/// If bounds do not fit the snapshot's schema.
pub(crate) fn certainty_of(
    snapshot: &DatasetSnapshot,
    predicates: &[Arc<dyn PhysicalExpr>],
    indices: &[usize],
    is_finite: bool,
) -> Result<Vec<Certainty>> {
    let schema = snapshot.schema();
    let mut certainty = vec![Certainty::All; indices.len()];
    let bounds = KeptBounds::new(snapshot, indices);
    for predicate in predicates.iter().flat_map(|predicate| split_conjunction(predicate)) {
        if let Some(conjunct) = SpatialConjunct::try_from_physical(predicate, &schema) {
            let facts: Vec<(&SpatialTarget, BatchFacts<'_>)> = conjunct
                .predicates
                .iter()
                .map(|predicate| (&predicate.target, BatchFacts::new(snapshot, &predicate.target, is_finite)))
                .collect();
            for (&i, certainty) in indices.iter().zip(&mut certainty) {
                *certainty = certainty.and(spatial(&conjunct, &facts, i));
            }
            continue;
        }
        let proven = bounds.proven(predicate, DEEPEST)?;
        let known = bounds.known(predicate);
        for (i, certainty) in certainty.iter_mut().enumerate() {
            let of_predicate = match proven.as_ref().is_some_and(|proven| proven.value(i)) {
                true => Certainty::All,
                false if known.value(i) => Certainty::Possible,
                false => Certainty::Unknown,
            };
            *certainty = certainty.and(of_predicate);
        }
    }
    Ok(certainty)
}

/// Of each of the batches at `indices` whether all rows match `predicate`, by the bounds of columns; `None` if it is of no kind
/// that can be proven.
///
/// # Errors
/// If bounds do not fit the snapshot's schema.
pub(super) fn proven_batches(
    snapshot: &DatasetSnapshot,
    predicate: &Arc<dyn PhysicalExpr>,
    indices: &[usize],
) -> Result<Option<BooleanArray>> {
    KeptBounds::new(snapshot, indices).proven(predicate, DEEPEST)
}

impl Certainty {
    pub(crate) fn all_match(self) -> bool {
        matches!(self, Self::All | Self::Inside)
    }

    /// Of two filters that both must match: what leaves more open.
    fn and(self, other: Self) -> Self {
        let rank = |certainty| match certainty {
            Self::All => 0,
            Self::Inside => 1,
            Self::Boundary => 2,
            Self::Possible => 3,
            Self::Unknown => 4,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

fn spatial(
    conjunct: &SpatialConjunct,
    facts: &[(&SpatialTarget, BatchFacts<'_>)],
    batch: usize,
) -> Certainty {
    let known: Vec<(&SpatialTarget, ExtentFacts)> =
        facts.iter().map(|(target, facts)| (*target, facts.of(batch))).collect();
    let outcomes = conjunct.outcomes(|target| {
        known.iter().find(|(known, _)| *known == target).map_or(ExtentFacts::UNKNOWN, |(_, facts)| *facts)
    });
    match outcomes.all_match() {
        true => Certainty::Inside,
        false if known.iter().any(|(_, facts)| matches!(facts.extent, Extent::Unknown)) => Certainty::Unknown,
        false => Certainty::Boundary,
    }
}

/// AND and OR within each other that are looked into; filters may have thousands of terms.
const DEEPEST: usize = 64;

/// The bounds of some batches of a snapshot.
struct KeptBounds<'a> {
    snapshot: &'a DatasetSnapshot,
    indices: UInt64Array,
}

impl<'a> KeptBounds<'a> {
    fn new(snapshot: &'a DatasetSnapshot, indices: &[usize]) -> Self {
        Self { snapshot, indices: indices.iter().map(|&i| Some(i as u64)).collect() }
    }

    fn column(&self, column: &Column) -> Result<Option<ColumnBounds>> {
        match self.snapshot.bounds().columns.get(column.index()) {
            Some(bounds) => Ok(Some(bounds.take(&self.indices)?)),
            None => Ok(None),
        }
    }

    /// For each batch whether bounds or a count of NULLs are known of every column that `predicate` reads.
    fn known(&self, predicate: &Arc<dyn PhysicalExpr>) -> BooleanArray {
        let columns: Vec<ColumnBounds> = collect_columns(predicate)
            .iter()
            .filter_map(|column| self.column(column).ok().flatten())
            .collect();
        (0..self.indices.len())
            .map(|i| {
                let is_known = |bounds: &ColumnBounds| {
                    (bounds.min.is_valid(i) && bounds.max.is_valid(i))
                        || (bounds.null_counts.is_valid(i) && bounds.null_counts.value(i) > 0)
                };
                Some(columns.iter().all(is_known))
            })
            .collect()
    }

    /// For each batch whether every row is proven to match; `None` if `predicate` is of no kind that can be.
    ///
    /// Only comparisons of a column with a constant, and what AND and OR make of them: these are NULL for a NULL alone.
    fn proven(&self, predicate: &Arc<dyn PhysicalExpr>, depth: usize) -> Result<Option<BooleanArray>> {
        let Some(depth) = depth.checked_sub(1) else { return Ok(None) };
        if let Some(binary) = predicate.downcast_ref::<BinaryExpr>() {
            return match binary.op() {
                Operator::And => {
                    match (self.proven(binary.left(), depth)?, self.proven(binary.right(), depth)?) {
                        (Some(left), Some(right)) => Ok(Some(and(&left, &right)?)),
                        _ => Ok(None),
                    }
                }
                Operator::Or => {
                    match (self.proven(binary.left(), depth)?, self.proven(binary.right(), depth)?) {
                        (Some(left), Some(right)) => Ok(Some(or(&left, &right)?)),
                        (one, other) => Ok(one.or(other)),
                    }
                }
                op => match (column(binary.left()), constant(binary.right())) {
                    (Some(column), Some(value)) => self.compared(column, *op, value),
                    _ => match (constant(binary.left()), column(binary.right()), op.swap()) {
                        (Some(value), Some(column), Some(op)) => self.compared(column, op, value),
                        _ => Ok(None),
                    },
                },
            };
        }
        if let Some(test) = predicate.downcast_ref::<IsNotNullExpr>() {
            let Some(column) = column(test.arg()) else { return Ok(None) };
            return Ok(self.column(column)?.map(|bounds| has_no_nulls(&bounds)));
        }
        if let Some(test) = predicate.downcast_ref::<IsNullExpr>() {
            let Some(column) = column(test.arg()) else { return Ok(None) };
            let Some(bounds) = self.column(column)? else { return Ok(None) };
            let batches = self.snapshot.batches();
            let rows =
                self.indices.values().iter().map(|&i| batches.get(usize::try_from(i).ok()?).map(|b| b.rows));
            return Ok(Some(
                bounds.null_counts.iter().zip(rows).map(|(n, rows)| Some(n.is_some() && n == rows)).collect(),
            ));
        }
        if let Some(list) = predicate.downcast_ref::<InListExpr>()
            && !list.negated()
            && let Some(column) = column(list.expr())
        {
            let Some(bounds) = self.column(column)? else { return Ok(None) };
            let data_type = bounds.min.data_type();
            if !is_totally_ordered(data_type) {
                return Ok(None);
            }
            let is_of_type = |value: &&ScalarValue| !value.is_null() && value.data_type() == *data_type;
            let values: HashSet<&ScalarValue> =
                list.list().iter().filter_map(constant).filter(is_of_type).collect();
            // A batch of one value is the only kind that is in the list as a whole.
            let is_one_value = and(&is_true(&eq(&bounds.min, &bounds.max)?), &has_no_nulls(&bounds))?;
            let is_listed = |i: usize| {
                is_one_value.value(i)
                    && ScalarValue::try_from_array(&bounds.min, i).is_ok_and(|value| values.contains(&value))
            };
            return Ok(Some((0..self.indices.len()).map(|i| Some(is_listed(i))).collect()));
        }
        Ok(None)
    }

    fn compared(&self, column: &Column, op: Operator, value: &ScalarValue) -> Result<Option<BooleanArray>> {
        let Some(bounds) = self.column(column)? else { return Ok(None) };
        let data_type = bounds.min.data_type();
        if value.is_null() || *data_type != value.data_type() || !is_totally_ordered(data_type) {
            return Ok(None);
        }
        let value = Scalar::new(value.to_array()?);
        let (min, max): (&ArrayRef, &ArrayRef) = (&bounds.min, &bounds.max);
        let holds = match op {
            Operator::Gt => gt(min, &value)?,
            Operator::GtEq => gt_eq(min, &value)?,
            Operator::Lt => lt(max, &value)?,
            Operator::LtEq => lt_eq(max, &value)?,
            Operator::Eq => and(&eq(min, &value)?, &eq(max, &value)?)?,
            Operator::NotEq => or(&is_true(&gt(min, &value)?), &is_true(&lt(max, &value)?))?,
            _ => return Ok(None),
        };
        Ok(Some(and(&is_true(&holds), &has_no_nulls(&bounds))?))
    }
}

fn is_true(values: &BooleanArray) -> BooleanArray {
    values.iter().map(|value| Some(value == Some(true))).collect()
}

fn has_no_nulls(bounds: &ColumnBounds) -> BooleanArray {
    bounds.null_counts.iter().map(|nulls| Some(nulls == Some(0))).collect()
}

/// Whether every value of the type lies between its bounds: a float may be NaN, which is in no bounds.
fn is_totally_ordered(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Date32
                | DataType::Date64
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Timestamp(..)
                | DataType::Decimal32(..)
                | DataType::Decimal64(..)
                | DataType::Decimal128(..)
                | DataType::Decimal256(..)
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
        )
}

fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<&Column> {
    expr.downcast_ref::<Column>()
}

fn constant(expr: &Arc<dyn PhysicalExpr>) -> Option<&ScalarValue> {
    expr.downcast_ref::<Literal>().map(Literal::value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_more_open_wins() {
        use Certainty::*;
        assert_eq!(All.and(Inside), Inside);
        assert_eq!(Inside.and(Possible), Possible);
        assert_eq!(Unknown.and(Boundary), Unknown);
        assert!(All.and(Inside).all_match() && !Boundary.all_match());
    }
}
