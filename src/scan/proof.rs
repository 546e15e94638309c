//! Whether all rows of batches, or of pages, match a filter, by the bounds of columns.
//!
//! One-sided: what cannot be proven may be so all the same.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, Scalar};
use datafusion::arrow::compute::kernels::cmp::{eq, gt, gt_eq, lt, lt_eq};
use datafusion::arrow::compute::{and, or};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
};

use super::nan_safety::Unprunable;
use crate::dataset::ColumnBounds;

/// AND and OR within each other that are looked into; filters may have thousands of terms.
const DEEPEST: usize = 64;

/// Sets of rows, with the bounds of their columns.
pub(super) trait Containers {
    /// Rows of each; `None` if unknown.
    fn rows(&self) -> Vec<Option<u64>>;

    /// The bounds of a column in each; `None` if they are not known of any.
    ///
    /// # Errors
    /// If they cannot be made out.
    fn column(&self, column: &Column) -> Result<Option<ColumnBounds>>;

    /// Whether each value of a column can be read as what the table says that it is.
    fn is_readable(&self, column: &Column) -> bool;
}

/// For each container whether every row is proven to match; `None` if `predicate` is of no kind that can be.
///
/// Only comparisons of a column with a constant, and what AND and OR make of them: these are NULL for a NULL alone.
///
/// # Errors
/// If bounds do not fit the predicate.
pub(super) fn all_match(
    containers: &impl Containers,
    predicate: &Arc<dyn PhysicalExpr>,
) -> Result<Option<BooleanArray>> {
    proven(containers, predicate, DEEPEST)
}

fn proven(
    containers: &impl Containers,
    predicate: &Arc<dyn PhysicalExpr>,
    depth: usize,
) -> Result<Option<BooleanArray>> {
    let Some(depth) = depth.checked_sub(1) else { return Ok(None) };
    if let Some(binary) = predicate.downcast_ref::<BinaryExpr>() {
        let both = || -> Result<_> {
            Ok((proven(containers, binary.left(), depth)?, proven(containers, binary.right(), depth)?))
        };
        return match binary.op() {
            Operator::And => match both()? {
                (Some(left), Some(right)) => Ok(Some(and(&left, &right)?)),
                _ => Ok(None),
            },
            Operator::Or => match both()? {
                (Some(left), Some(right)) => Ok(Some(or(&left, &right)?)),
                // Rows of which one side is true are not to hide an error of the other.
                (Some(left), None) if cannot_fail(containers, binary.right(), depth) => Ok(Some(left)),
                (None, Some(right)) if cannot_fail(containers, binary.left(), depth) => Ok(Some(right)),
                _ => Ok(None),
            },
            op => match (column(binary.left()), constant(binary.right())) {
                (Some(column), Some(value)) => compared(containers, column, *op, value),
                _ => match (constant(binary.left()), column(binary.right()), op.swap()) {
                    (Some(value), Some(column), Some(op)) => compared(containers, column, op, value),
                    _ => Ok(None),
                },
            },
        };
    }
    if let Some(test) = predicate.downcast_ref::<IsNotNullExpr>() {
        let Some(column) = column(test.arg()) else { return Ok(None) };
        return Ok(containers.column(column)?.map(|bounds| has_no_nulls(&bounds)));
    }
    if let Some(test) = predicate.downcast_ref::<IsNullExpr>() {
        let Some(column) = column(test.arg()) else { return Ok(None) };
        let Some(bounds) = containers.column(column)? else { return Ok(None) };
        let rows = containers.rows();
        let are_all = bounds.null_counts.iter().zip(rows).map(|(n, rows)| Some(n.is_some() && n == rows));
        return Ok(Some(are_all.collect()));
    }
    if let Some(list) = predicate.downcast_ref::<InListExpr>()
        && !list.negated()
        && list.list().iter().all(|item| constant(item).is_some())
        && let Some(column) = column(list.expr())
    {
        let Some(bounds) = containers.column(column)? else { return Ok(None) };
        let data_type = bounds.min.data_type();
        if !is_totally_ordered(data_type) {
            return Ok(None);
        }
        let is_of_type = |value: &&ScalarValue| !value.is_null() && value.data_type() == *data_type;
        let values: HashSet<&ScalarValue> =
            list.list().iter().filter_map(constant).filter(is_of_type).collect();
        // A container of one value is the only kind that is in the list as a whole.
        let is_one_value = and(&is_true(&eq(&bounds.min, &bounds.max)?), &has_no_nulls(&bounds))?;
        let is_listed = |i: usize| {
            is_one_value.value(i)
                && ScalarValue::try_from_array(&bounds.min, i).is_ok_and(|value| values.contains(&value))
        };
        return Ok(Some((0..bounds.min.len()).map(|i| Some(is_listed(i))).collect()));
    }
    Ok(None)
}

fn compared(
    containers: &impl Containers,
    column: &Column,
    op: Operator,
    value: &ScalarValue,
) -> Result<Option<BooleanArray>> {
    let Some(bounds) = containers.column(column)? else { return Ok(None) };
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

/// Whether `expr` has a value for whatever a row holds: it compares columns and constants, and nothing else.
fn cannot_fail(containers: &impl Containers, expr: &Arc<dyn PhysicalExpr>, depth: usize) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    if let Some(column) = column(expr) {
        return containers.is_readable(column);
    }
    let is_known = match expr.downcast_ref::<BinaryExpr>() {
        Some(binary) => {
            use Operator::{And, Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq, Or};
            matches!(
                binary.op(),
                And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom
            )
        }
        None => {
            expr.is::<Literal>()
                || expr.is::<NotExpr>()
                || expr.is::<IsNullExpr>()
                || expr.is::<IsNotNullExpr>()
                || expr.is::<InListExpr>()
                || expr.is::<Unprunable>()
        }
    };
    is_known && expr.children().into_iter().all(|child| cannot_fail(containers, child, depth))
}

fn column(expr: &Arc<dyn PhysicalExpr>) -> Option<&Column> {
    expr.downcast_ref::<Column>()
}

fn constant(expr: &Arc<dyn PhysicalExpr>) -> Option<&ScalarValue> {
    expr.downcast_ref::<Literal>().map(Literal::value)
}
