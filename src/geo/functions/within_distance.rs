//! `st_dwithin(a, b, degrees)`: whether two geometries are at most so far apart.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::OdpError;
use crate::geo::area::Area;
use crate::geo::area_cache::AreaCache;
use crate::geo::array::{GeometryArray, GeometryValue, geometry_type};
use crate::geo::crossing_constants::{plan_call, unwrap_folded};
use crate::geo::crs;
use crate::geo::distance::are_points_within_distance;
use crate::geo::functions::geometry_function::number_type;
use crate::geo::invalid_rows::evaluate_rows;
use crate::geo::predicate_function::{constant_or_null, not_a_geometry};
use crate::options::{OdpOptions, OnInvalidGeometry};

/// Distances are in degrees on the plane, longitudes as the predicates take them. NULL gives NULL, an empty
/// geometry false; a distance that is NaN or negative is an error.
#[derive(Debug)]
pub(crate) struct WithinDistanceFunction {
    /// As of the predicates.
    is_planned: bool,
    signature: Signature,
    cache: Arc<AreaCache>,
}

impl WithinDistanceFunction {
    pub(super) fn new(cache: Arc<AreaCache>) -> Self {
        Self { is_planned: false, signature: Signature::user_defined(Volatility::Immutable), cache }
    }

    /// The prepared area of a constant geometry; `None` for NULL.
    ///
    /// # Errors
    /// A plan error for a malformed geometry, and for a value that is no geometry.
    pub(crate) fn constant_area(&self, constant: &ScalarValue) -> Result<Option<Arc<Area>>> {
        self.cache.constant_area(constant)
    }

    fn invoke_constant(
        &self,
        rows: &GeometryArray,
        constant: &ScalarValue,
        distances: &ArrayRef,
        setting: OnInvalidGeometry,
    ) -> Result<BooleanArray> {
        let Some(area) = constant_or_null(setting, || self.constant_area(constant))? else {
            return Ok(BooleanArray::new_null(rows.len()));
        };
        evaluate_rows(setting, std::slice::from_ref(rows), |rows, first| {
            each_pair(distances, first, rows[0].len(), |row, distance| {
                let Some(value) = rows[0].value(row) else { return Ok(None) };
                is_near(value, &area, distance, row).map(Some)
            })
        })
    }
}

impl PartialEq for WithinDistanceFunction {
    fn eq(&self, other: &Self) -> bool {
        self.is_planned == other.is_planned
    }
}

impl Eq for WithinDistanceFunction {}

impl Hash for WithinDistanceFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name(), self.is_planned).hash(state);
    }
}

impl ScalarUDFImpl for WithinDistanceFunction {
    fn name(&self) -> &str {
        "st_dwithin"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right, distance] = arg_types else {
            return plan_err!(
                "st_dwithin got {} arguments, expected 2 geometries and a distance in degrees",
                arg_types.len()
            );
        };
        let distance = number_type(self.name(), 2, distance)?;
        match (geometry_type(left), geometry_type(right)) {
            (Some(left), Some(right)) => Ok(vec![left, right, distance]),
            (None, _) => not_a_geometry(self.name(), 1, left),
            (_, None) => not_a_geometry(self.name(), 2, right),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    /// Reads constant arguments, so that malformed ones are an error of planning.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        crs::check(self.name(), args.arg_fields)?;
        for (index, constant) in args.scalar_arguments.iter().enumerate() {
            let Some(constant) = constant else { continue };
            let is_geometry = geometry_type(&constant.data_type()).as_ref() == Some(&constant.data_type());
            if index < 2 && is_geometry {
                self.constant_area(constant)?;
            } else if index == 2
                && let Ok(ScalarValue::Float64(Some(distance))) = constant.cast_to(&DataType::Float64)
                && !is_distance(distance)
            {
                return plan_err!("st_dwithin: the distance is {distance}, expected 0 or more degrees");
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
            ScalarUDF::new_from_impl(Self { is_planned: true, ..Self::new(Arc::clone(&self.cache)) })
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        crs::check_edges(self.name(), &args.arg_fields, &args.config_options)?;
        let setting = OdpOptions::of(&args.config_options).on_invalid_geometry;
        let arguments = if self.is_planned {
            args.args.as_slice().into()
        } else {
            unwrap_folded(&args.args, &self.cache)?
        };
        let [left, right, distances] = arguments.as_ref() else {
            return plan_err!("st_dwithin got {} arguments, expected 3", args.args.len());
        };
        let all_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if all_constant { 1 } else { args.number_rows };
        let distances = distances.to_array(rows)?;
        let view = |array: &ArrayRef, place: usize| match args.arg_fields.get(place) {
            Some(field) => GeometryArray::try_with_field(array, field),
            None => GeometryArray::try_new(array),
        };
        let answers = match (left, right) {
            (left, ColumnarValue::Scalar(constant)) => {
                let rows = view(&left.to_array(rows)?, 0)?;
                self.invoke_constant(&rows, constant, &distances, setting)?
            }
            (ColumnarValue::Scalar(constant), ColumnarValue::Array(right)) => {
                self.invoke_constant(&view(right, 1)?, constant, &distances, setting)?
            }
            (ColumnarValue::Array(left), ColumnarValue::Array(right)) => {
                evaluate_rows(setting, &[view(left, 0)?, view(right, 1)?], |pair, first| {
                    pairwise(&pair[0], &pair[1], &distances, first)
                })?
            }
        };
        if all_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answers, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(answers)))
    }
}

fn is_distance(distance: f64) -> bool {
    distance >= 0.0
}

/// `answer` for each of the `count` rows from `first` on, counted from there, and its distance; null where that is.
fn each_pair(
    distances: &ArrayRef,
    first: usize,
    count: usize,
    mut answer: impl FnMut(usize, f64) -> Result<Option<bool>>,
) -> Result<BooleanArray> {
    let distances = distances.as_primitive::<Float64Type>().slice(first, count);
    let answer_row = |(row, distance): (usize, Option<f64>)| match distance {
        None => Ok(None),
        Some(distance) if is_distance(distance) => answer(row, distance),
        Some(distance) => Err(OdpError::InvalidData {
            location: format!("distance in row {} of the record batch", first + row),
            source: format!("found {distance}, expected 0 or more degrees").into(),
        }
        .into()),
    };
    distances.iter().enumerate().map(answer_row).collect()
}

fn is_near(value: GeometryValue<'_>, area: &Area, distance: f64, row: usize) -> Result<bool> {
    if let Some((x, y)) = value.as_plain_point() {
        return Ok(area.is_point_within_distance(x, y, distance));
    }
    let answer = value.parse().and_then(|geometry| area.is_within_distance(&geometry, distance));
    Ok(answer.map_err(|error| error.in_row(row))?)
}

/// Two columns: prepares whichever side repeats, and neither of two points.
fn pairwise(
    left: &GeometryArray,
    right: &GeometryArray,
    distances: &ArrayRef,
    first: usize,
) -> Result<BooleanArray> {
    let mut prepared: Option<(bool, GeometryValue<'_>, Area)> = None;
    let mut last_left: Option<GeometryValue<'_>> = None;
    each_pair(distances, first, left.len(), |row, distance| {
        let (Some(a), Some(b)) = (left.value(row), right.value(row)) else { return Ok(None) };
        if let (Some(from), Some(to)) = (a.as_plain_point(), b.as_plain_point()) {
            return Ok(Some(are_points_within_distance(from, to, distance)));
        }
        let prepare = |value: GeometryValue<'_>| {
            value.parse().and_then(Area::try_new).map_err(|error| error.in_row(row))
        };
        let (on_left, value, area) = match prepared.take() {
            Some((on_left, value, area)) if value.same(if on_left { &a } else { &b }) => {
                (on_left, value, area)
            }
            _ if last_left.is_some_and(|last| last.same(&a)) => (true, a, prepare(a)?),
            _ => (false, b, prepare(b)?),
        };
        let answer = is_near(if on_left { b } else { a }, &area, distance, row)?;
        prepared = Some((on_left, value, area));
        last_left = Some(a);
        Ok(Some(answer))
    })
}
