//! The spatial predicates as SQL functions: `st_within` and its like.
//!
//! SQL NULL gives NULL. A point with NaN or infinity is an empty geometry: it shares no point with anything.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::geo::area::Area;
use crate::geo::area_cache::AreaCache;
use crate::geo::array::{GeometryArray, GeometryValue, geometry_type};
use crate::geo::kernel::{against_area, pairwise};
use crate::geo::predicate::PredicateKind;

/// One predicate; all of them share one cache of prepared areas.
#[derive(Debug)]
pub(crate) struct PredicateFunction {
    kind: PredicateKind,
    aliases: Vec<String>,
    signature: Signature,
    cache: Arc<AreaCache>,
}

impl PredicateFunction {
    pub(crate) fn new(kind: PredicateKind, cache: Arc<AreaCache>) -> Self {
        // `contains` is a string function of DataFusion, so it stays that.
        let aliases = match kind {
            PredicateKind::Within => vec!["within".to_owned()],
            PredicateKind::Intersects => vec!["intersects".to_owned()],
            _ => vec![],
        };
        Self { kind, aliases, signature: Signature::user_defined(Volatility::Immutable), cache }
    }

    pub(crate) fn kind(&self) -> PredicateKind {
        self.kind
    }

    /// The prepared area of a constant argument; `None` for NULL.
    ///
    /// # Errors
    /// A plan error for a malformed geometry, and for a value that is no geometry.
    pub(crate) fn constant_area(&self, constant: &ScalarValue) -> Result<Option<Arc<Area>>> {
        if let Some(value) = GeometryValue::of_scalar(constant) {
            return Ok(value.map(|value| self.cache.area(value)).transpose()?);
        }
        let array = GeometryArray::try_new(&constant.to_array()?)?;
        Ok(array.value(0).map(|value| self.cache.area(value)).transpose()?)
    }

    fn invoke_pair(&self, left: &ScalarValue, right: &ScalarValue) -> Result<ColumnarValue> {
        let (Some(_), Some(area)) = (self.constant_area(left)?, self.constant_area(right)?) else {
            return Ok(ColumnarValue::Scalar(ScalarValue::Boolean(None)));
        };
        let array = GeometryArray::try_new(&left.to_array()?)?;
        let answer = against_area(self.kind, &array, &area)?;
        Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(answer.value(0)))))
    }

    fn invoke_constant(
        &self,
        kind: PredicateKind,
        rows: &GeometryArray,
        constant: &ScalarValue,
    ) -> Result<ColumnarValue> {
        let Some(area) = self.constant_area(constant)? else {
            return Ok(ColumnarValue::Scalar(ScalarValue::Boolean(None)));
        };
        let answers = against_area(kind, rows, &area)?;
        Ok(ColumnarValue::Array(Arc::new(answers)))
    }
}

impl PartialEq for PredicateFunction {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for PredicateFunction {}

impl Hash for PredicateFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
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

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let view = |array: &ArrayRef, argument: usize| match args.arg_fields.get(argument) {
            Some(field) => GeometryArray::try_with_field(array, field),
            None => GeometryArray::try_new(array),
        };
        match args.args.as_slice() {
            [ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)] => self.invoke_pair(left, right),
            [ColumnarValue::Array(array), ColumnarValue::Scalar(constant)] => {
                self.invoke_constant(self.kind, &view(array, 0)?, constant)
            }
            [ColumnarValue::Scalar(constant), ColumnarValue::Array(array)] => {
                self.invoke_constant(self.kind.flipped(), &view(array, 1)?, constant)
            }
            [ColumnarValue::Array(left), ColumnarValue::Array(right)] => {
                let (left, right) = (view(left, 0)?, view(right, 1)?);
                Ok(ColumnarValue::Array(Arc::new(pairwise(self.kind, &left, &right, &self.cache)?)))
            }
            other => plan_err!("{} got {} arguments, expected 2", self.name(), other.len()),
        }
    }
}

pub(super) fn not_a_geometry<T>(function: &str, argument: usize, found: &DataType) -> Result<T> {
    plan_err!(
        "{function}: argument {argument} is {found}, expected a geometry: WKT text, WKB binary or st_point(lon, lat)"
    )
}
