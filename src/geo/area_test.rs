//! A predicate with its constant prepared: what a scan evaluates in place of the SQL function.
//!
//! DataFusion hands a function its constants anew for each record batch. An area of a million vertices is 36 MB of
//! text: to copy it, and to find its prepared form by it, takes longer than to test the rows.

use std::fmt::{self, Display, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::geo::area::Area;
use crate::geo::array::GeometryArray;
use crate::geo::crs;
use crate::geo::invalid_rows::evaluate_rows;
use crate::geo::kernel::against_area;
use crate::geo::predicate::PredicateKind;
use crate::geo::predicate_function::PredicateFunction;
use crate::geo::spatial_filter::constant_value;
use crate::options::{OdpOptions, OnInvalidGeometry};

/// `row kind area` with a prepared area.
#[derive(Debug, Clone)]
struct AreaTest {
    row: Arc<dyn PhysicalExpr>,
    field: FieldRef,
    kind: PredicateKind,
    area: Arc<Area>,
    setting: OnInvalidGeometry,
}

/// `expr` with every predicate between rows and a non-null constant in its prepared form.
///
/// # Errors
/// If the arguments of a predicate do not fit `schema`, or have edges that are not straight.
pub(crate) fn prepare_constants(
    expr: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>> {
    let prepared = expr.transform_up(|expr| {
        Ok(match AreaTest::try_from_function(&expr, schema)? {
            Some(test) => Transformed::yes(Arc::new(test)),
            None => Transformed::no(expr),
        })
    })?;
    Ok(prepared.data)
}

impl AreaTest {
    fn try_from_function(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Option<Self>> {
        let Some(function) = expr.downcast_ref::<ScalarFunctionExpr>() else { return Ok(None) };
        let Some(predicate) = function.fun().inner().downcast_ref::<PredicateFunction>() else {
            return Ok(None);
        };
        let [left, right] = function.args() else { return Ok(None) };
        let (row, constant, kind) = match (constant_value(left), constant_value(right)) {
            (None, Some(constant)) => (left, constant, predicate.kind()),
            (Some(constant), None) => (right, constant, predicate.kind().flipped()),
            _ => return Ok(None),
        };
        let Some(area) = predicate.constant_area(&constant)? else { return Ok(None) };
        let field = row.return_field(schema)?;
        let config = function.config_options();
        crs::check_edges(function.name(), std::slice::from_ref(&field), config)?;
        let setting = OdpOptions::of(config).on_invalid_geometry;
        Ok(Some(Self { row: Arc::clone(row), field, kind, area, setting }))
    }
}

impl PartialEq for AreaTest {
    fn eq(&self, other: &Self) -> bool {
        self.row.eq(&other.row)
            && self.kind == other.kind
            && self.setting == other.setting
            && Arc::ptr_eq(&self.area, &other.area)
    }
}

impl Eq for AreaTest {}

impl Hash for AreaTest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.row.hash(state);
        self.kind.hash(state);
    }
}

impl Display for AreaTest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}, area)", self.kind.name(), self.row)
    }
}

impl PhysicalExpr for AreaTest {
    fn return_field(&self, _input_schema: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.kind.name(), DataType::Boolean, true)))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = self.row.evaluate(batch)?.into_array(batch.num_rows())?;
        let rows = GeometryArray::try_with_field(&rows, &self.field)?;
        let answers = evaluate_rows(self.setting, &[rows], |rows, _| {
            Ok(against_area(self.kind, &rows[0], &self.area)?)
        })?;
        Ok(ColumnarValue::Array(Arc::new(answers)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.row]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([row]) => Ok(Arc::new(Self { row, ..Self::clone(&self) })),
            Err(children) => internal_err!("an area test has one child, not {}", children.len()),
        }
    }

    fn fmt_sql(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
