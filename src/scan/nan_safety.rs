//! Keeps pruning honest about NaN, and about the sign of zero.
//!
//! Writers leave NaN out of a float column's bounds, and DataFusion sorts NaN above every number (a NaN with its sign
//! bit set below every number, as 0/0 gives on x86): a row group with bounds 0..1 may hold rows for which `x > 2`, or
//! `x < -2`, is true. A conjunct over floats may be used to prune only if the whole conjunction is false for either NaN
//! in each of its float columns: if the conjuncts give the column an upper and a lower bound (`x > 2 AND x < 9`), or
//! name its values. The others are hidden from pruning, and evaluated as ever. The bounds of a polygon are closed.
//!
//! `x = 0.0` is true for -0.0, whose bytes are others: a Bloom filter or a dictionary without the one may have the other.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, InListExpr, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, split_conjunction};

use crate::dataset::may_hold_nan;

/// A predicate that pruning does not look into: it keeps everything. Evaluates as the predicate itself.
#[derive(Debug, Clone, Eq)]
pub(crate) struct Unprunable {
    predicate: Arc<dyn PhysicalExpr>,
}

// Not derived: the derived ones do not compile for a trait object (rust-lang/rust#78808).
impl PartialEq for Unprunable {
    fn eq(&self, other: &Self) -> bool {
        self.predicate.eq(&other.predicate)
    }
}

impl Hash for Unprunable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.predicate.hash(state);
    }
}

impl Display for Unprunable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "unprunable({})", self.predicate)
    }
}

impl PhysicalExpr for Unprunable {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.predicate.evaluate(batch)
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.predicate.return_field(input_schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.predicate]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([predicate]) => Ok(Arc::new(Self { predicate })),
            Err(children) => internal_err!("unprunable predicate has one child, not {}", children.len()),
        }
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.predicate.fmt_sql(f)
    }
}

/// The conjuncts of `predicates`, those that pruning may not use wrapped in [`Unprunable`].
pub(crate) fn hide_unsafe(
    predicates: &[Arc<dyn PhysicalExpr>],
    schema: &Schema,
) -> Vec<Arc<dyn PhysicalExpr>> {
    let conjuncts: Vec<_> = predicates.iter().flat_map(|predicate| split_conjunction(predicate)).collect();
    let is_float = |column: &Column| {
        schema.fields().get(column.index()).is_none_or(|field| may_hold_nan(field.data_type()))
    };
    let mut rejected: Option<BTreeSet<(usize, NanSign)>> = None;
    conjuncts
        .iter()
        .map(|conjunct| {
            let mut floats =
                collect_columns(conjunct).into_iter().filter(|column| is_float(column)).peekable();
            if floats.peek().is_none() {
                return Arc::clone(conjunct);
            }
            let rejected =
                rejected.get_or_insert_with(|| conjuncts.iter().flat_map(|c| rejected_nan(c)).collect());
            let is_rejected = |at: usize| BOTH.iter().all(|sign| rejected.contains(&(at, *sign)));
            match floats.all(|column| is_rejected(column.index())) && !names_zero(conjunct) {
                true => Arc::clone(conjunct),
                false => Arc::new(Unprunable { predicate: Arc::clone(conjunct) }),
            }
        })
        .collect()
}

/// Whether a value is looked for that has two signs.
fn names_zero(predicate: &Arc<dyn PhysicalExpr>) -> bool {
    if let Some(binary) = predicate.downcast_ref::<BinaryExpr>() {
        return match binary.op() {
            Operator::And | Operator::Or => names_zero(binary.left()) || names_zero(binary.right()),
            Operator::Eq => is_zero(binary.left()) || is_zero(binary.right()),
            _ => false,
        };
    }
    predicate.downcast_ref::<InListExpr>().is_some_and(|list| list.list().iter().any(is_zero))
}

fn is_zero(expr: &Arc<dyn PhysicalExpr>) -> bool {
    match expr.downcast_ref::<Literal>().map(Literal::value) {
        Some(ScalarValue::Float64(Some(v))) => *v == 0.0,
        Some(ScalarValue::Float32(Some(v))) => *v == 0.0,
        Some(ScalarValue::Float16(Some(v))) => f32::from(*v) == 0.0,
        _ => false,
    }
}

/// The sign bit of a NaN: it decides whether NaN sorts below or above all numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum NanSign {
    Negative,
    Positive,
}

const BOTH: [NanSign; 2] = [NanSign::Negative, NanSign::Positive];

/// The columns that cannot be such a NaN in a row for which `predicate` is true.
fn rejected_nan(predicate: &Arc<dyn PhysicalExpr>) -> BTreeSet<(usize, NanSign)> {
    use NanSign::{Negative, Positive};
    let of = |column: Option<usize>, signs: &[NanSign]| -> BTreeSet<(usize, NanSign)> {
        column.into_iter().flat_map(|column| signs.iter().map(move |sign| (column, *sign))).collect()
    };
    if let Some(binary) = predicate.downcast_ref::<BinaryExpr>() {
        let (left, right) = (binary.left(), binary.right());
        return match binary.op() {
            Operator::And => &rejected_nan(left) | &rejected_nan(right),
            Operator::Or => &rejected_nan(left) & &rejected_nan(right),
            Operator::Lt | Operator::LtEq if is_number(right) => of(plain_column(left), &[Positive]),
            Operator::Lt | Operator::LtEq if is_number(left) => of(plain_column(right), &[Negative]),
            Operator::Gt | Operator::GtEq if is_number(right) => of(plain_column(left), &[Negative]),
            Operator::Gt | Operator::GtEq if is_number(left) => of(plain_column(right), &[Positive]),
            Operator::Eq if is_number(right) => of(plain_column(left), &BOTH),
            Operator::Eq if is_number(left) => of(plain_column(right), &BOTH),
            _ => BTreeSet::new(),
        };
    }
    match predicate.downcast_ref::<InListExpr>() {
        Some(list) if !list.negated() && list.list().iter().all(is_number) => {
            of(plain_column(list.expr()), &BOTH)
        }
        _ => BTreeSet::new(),
    }
}

/// A column, possibly cast to a wider float.
fn plain_column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    match expr.downcast_ref::<CastExpr>() {
        Some(cast) if cast.cast_type().is_floating() => plain_column(cast.expr()),
        Some(_) => None,
        None => expr.downcast_ref::<Column>().map(Column::index),
    }
}

fn is_number(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let Some(literal) = expr.downcast_ref::<Literal>() else { return false };
    match literal.value() {
        ScalarValue::Float64(Some(v)) => !v.is_nan(),
        ScalarValue::Float32(Some(v)) => !v.is_nan(),
        ScalarValue::Float16(Some(v)) => !v.is_nan(),
        other => !other.is_null(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{DataType, Field};
    use datafusion::common::DFSchema;
    use datafusion::execution::context::ExecutionProps;
    use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
    use datafusion::physical_expr::create_physical_expr;
    use datafusion::prelude::{Expr, col, in_list, lit};

    fn hidden(filters: &[Expr]) -> Vec<bool> {
        let schema = Schema::new(vec![
            Field::new("x", DataType::Float64, true),
            Field::new("y", DataType::Float32, true),
            Field::new("n", DataType::Int64, true),
        ]);
        let df_schema = DFSchema::try_from(schema.clone()).unwrap();
        let physical: Vec<_> = filters
            .iter()
            .map(|f| {
                create_physical_expr(
                    f,
                    &df_schema,
                    &ExecutionProps::new(),
                    &PhysicalPlanningContext::default(),
                )
                .unwrap()
            })
            .collect();
        hide_unsafe(&physical, &schema).iter().map(|e| e.downcast_ref::<Unprunable>().is_some()).collect()
    }

    #[test]
    fn half_open_ranges_are_hidden_and_closed_ranges_are_not() {
        let (x, y, n) = (col("x"), col("y"), col("n"));
        assert_eq!(hidden(&[x.clone().gt(lit(2.0))]), [true]);
        assert_eq!(hidden(&[x.clone().gt(lit(2.0)), x.clone().lt_eq(lit(9.0))]), [false, false]);
        assert_eq!(hidden(&[x.clone().gt(lit(2.0)).and(x.clone().lt(lit(9.0)))]), [false, false]);
        assert_eq!(hidden(&[x.clone().gt(lit(2.0)), y.clone().lt(lit(9.0f32))]), [true, true]);
        assert_eq!(hidden(&[x.clone().not_eq(lit(2.0))]), [true]);
        assert_eq!(hidden(&[x.clone().lt(lit(f64::NAN))]), [true]);
        assert_eq!(hidden(&[x.clone().eq(lit(2.0))]), [false]);
        assert_eq!(hidden(&[in_list(x.clone(), vec![lit(2.0), lit(3.0)], false)]), [false]);
        assert_eq!(hidden(&[n.clone().gt(lit(2i64))]), [false]);
        assert_eq!(
            hidden(&[x.clone().lt(lit(1.0)).or(x.clone().eq(lit(5.0)))]),
            [true],
            "a negative NaN is below 1"
        );
        assert_eq!(hidden(&[x.clone().eq(lit(1.0)).or(x.clone().eq(lit(5.0)))]), [false]);
        assert_eq!(hidden(&[x.clone().lt(lit(1.0)).or(n.gt(lit(5i64)))]), [true]);
    }

    #[test]
    fn zero_of_two_signs_is_hidden_where_its_bytes_are_looked_for() {
        let (x, n) = (col("x"), col("n"));
        assert_eq!(hidden(&[x.clone().eq(lit(0.0))]), [true]);
        assert_eq!(
            hidden(&[lit(-0.0).eq(x.clone()), x.clone().lt(lit(1.0)), x.clone().gt(lit(-1.0))]),
            [true, false, false]
        );
        assert_eq!(hidden(&[in_list(x.clone(), vec![lit(1.0), lit(0.0)], false)]), [true]);
        assert_eq!(hidden(&[x.clone().eq(lit(0.0)).or(x.clone().eq(lit(5.0)))]), [true]);
        assert_eq!(hidden(&[x.clone().gt_eq(lit(0.0)), x.lt_eq(lit(0.0))]), [false, false]);
        assert_eq!(hidden(&[n.eq(lit(0i64))]), [false]);
    }
}
