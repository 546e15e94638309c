//! The spatial predicates as SQL functions: `st_within` and its like.
//!
//! SQL NULL gives NULL. A point with NaN, infinity or a coordinate beyond 1e100 is an empty geometry: it shares no
//! point with anything. A malformed geometry is an error of planning in a constant; in a row it is what the setting
//! `odp.on_invalid_geometry` says.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::geo::area::Area;
use crate::geo::area_cache::AreaCache;
use crate::geo::array::{GeometryArray, geometry_type};
use crate::geo::crossing_constants::{plan_call, unwrap_folded};
use crate::geo::crs;
use crate::geo::invalid_rows::evaluate_rows;
use crate::geo::kernel::{against_area, pairwise};
use crate::geo::predicate::PredicateKind;
use crate::options::{OdpOptions, OnInvalidGeometry};

/// One predicate; all of them share one cache of prepared areas.
#[derive(Debug)]
pub(crate) struct PredicateFunction {
    kind: PredicateKind,
    /// Its literals were unwrapped; any other constant is a column, and taken as written.
    is_planned: bool,
    aliases: Vec<String>,
    signature: Signature,
    cache: Arc<AreaCache>,
}

impl PredicateFunction {
    pub(crate) fn new(kind: PredicateKind, cache: Arc<AreaCache>) -> Self {
        // `contains` is also a string function of DataFusion: see `functions::contains`.
        let aliases = match kind {
            PredicateKind::Within => vec!["within".to_owned()],
            PredicateKind::Intersects => vec!["intersects".to_owned()],
            _ => vec![],
        };
        Self {
            kind,
            is_planned: false,
            aliases,
            signature: Signature::user_defined(Volatility::Immutable),
            cache,
        }
    }

    pub(crate) fn kind(&self) -> PredicateKind {
        self.kind
    }

    /// The prepared area of a constant argument; `None` for NULL.
    ///
    /// # Errors
    /// A plan error for a malformed geometry, and for a value that is no geometry.
    pub(crate) fn constant_area(&self, constant: &ScalarValue) -> Result<Option<Arc<Area>>> {
        self.cache.constant_area(constant)
    }

    fn invoke_pair(
        &self,
        left: &ScalarValue,
        right: &ScalarValue,
        setting: OnInvalidGeometry,
    ) -> Result<ColumnarValue> {
        let left = left.to_array()?;
        let field = Field::new("left", left.data_type().clone(), true);
        Ok(match self.invoke_constant(self.kind, (&left, &field), right, setting)? {
            ColumnarValue::Array(answer) => ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?),
            scalar @ ColumnarValue::Scalar(_) => scalar,
        })
    }

    fn invoke_constant(
        &self,
        kind: PredicateKind,
        (array, field): (&ArrayRef, &Field),
        constant: &ScalarValue,
        setting: OnInvalidGeometry,
    ) -> Result<ColumnarValue> {
        let Some(area) = constant_or_null(setting, || self.constant_area(constant))? else {
            return Ok(ColumnarValue::Scalar(ScalarValue::Boolean(None)));
        };
        let rows = GeometryArray::try_with_field(array, field)?;
        let answers = evaluate_rows(setting, &[rows], |rows, _| Ok(against_area(kind, &rows[0], &area)?))?;
        Ok(ColumnarValue::Array(Arc::new(answers)))
    }
}

impl PartialEq for PredicateFunction {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.is_planned) == (other.kind, other.is_planned)
    }
}

impl Eq for PredicateFunction {}

impl Hash for PredicateFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.kind, self.is_planned).hash(state);
    }
}

impl ScalarUDFImpl for PredicateFunction {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = arg_types else {
            return plan_err!("{} got {} arguments, expected 2 geometries", self.name(), arg_types.len());
        };
        match (geometry_type(left), geometry_type(right)) {
            (Some(left), Some(right)) => Ok(vec![left, right]),
            (None, _) => not_a_geometry(self.name(), 1, left),
            (_, None) => not_a_geometry(self.name(), 2, right),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    /// Reads constant arguments, so that a malformed one is an error of planning.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        crs::check(self.name(), args.arg_fields)?;
        for constant in args.scalar_arguments.iter().flatten() {
            if geometry_type(&constant.data_type()).as_ref() == Some(&constant.data_type()) {
                self.constant_area(constant)?;
            }
        }
        Ok(Arc::new(Field::new(self.name(), DataType::Boolean, true)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    /// Checks what depends on the session's settings, which are not known before, and unwraps literals.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        crs::check_edges_of(self.name(), &args, info)?;
        plan_call(args, self.is_planned, &self.cache, || {
            ScalarUDF::new_from_impl(Self {
                is_planned: true,
                ..Self::new(self.kind, Arc::clone(&self.cache))
            })
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        crs::check_edges(self.name(), &args.arg_fields, &args.config_options)?;
        let setting = OdpOptions::of(&args.config_options).on_invalid_geometry;
        let [left_field, right_field] = args.arg_fields.as_slice() else {
            return plan_err!("{} got {} arguments, expected 2", self.name(), args.arg_fields.len());
        };
        let arguments = if self.is_planned {
            args.args.as_slice().into()
        } else {
            unwrap_folded(&args.args, &self.cache)?
        };
        match arguments.as_ref() {
            [ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)] => {
                self.invoke_pair(left, right, setting)
            }
            [ColumnarValue::Array(array), ColumnarValue::Scalar(constant)] => {
                self.invoke_constant(self.kind, (array, left_field), constant, setting)
            }
            [ColumnarValue::Scalar(constant), ColumnarValue::Array(array)] => {
                self.invoke_constant(self.kind.flipped(), (array, right_field), constant, setting)
            }
            [ColumnarValue::Array(left), ColumnarValue::Array(right)] => {
                let left = GeometryArray::try_with_field(left, left_field)?;
                let right = GeometryArray::try_with_field(right, right_field)?;
                let answers = evaluate_rows(setting, &[left, right], |pair, _| {
                    Ok(pairwise(self.kind, &pair[0], &pair[1], &self.cache)?)
                })?;
                Ok(ColumnarValue::Array(Arc::new(answers)))
            }
            other => plan_err!("{} got {} arguments, expected 2", self.name(), other.len()),
        }
    }
}

/// The area of a constant while a query runs. Malformed constants of the query's text do not come so far, but
/// columns that are constant in a file do.
pub(super) fn constant_or_null(
    setting: OnInvalidGeometry,
    area: impl FnOnce() -> Result<Option<Arc<Area>>>,
) -> Result<Option<Arc<Area>>> {
    match area() {
        Err(_) if setting == OnInvalidGeometry::NoMatch => Ok(None),
        area => area,
    }
}

pub(super) fn not_a_geometry<T>(function: &str, argument: usize, found: &DataType) -> Result<T> {
    plan_err!(
        "{function}: argument {argument} is {found}, expected a geometry: WKT text, WKB binary or st_point(lon, lat)"
    )
}
