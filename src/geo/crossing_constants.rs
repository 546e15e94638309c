//! Constants across the antimeridian, unwrapped while a query is planned.
//!
//! Only the text of a query says which geometries are constants. While it runs, a column that holds one value in a file
//! looks like a constant too, and must mean there what it means in all other files: so nothing is unwrapped then.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::common::metadata::FieldMetadata;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::ExprSimplifyResult;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarUDF};

use crate::geo::area::antimeridian::unwrap_crossings;
use crate::geo::area_cache::AreaCache;
use crate::geo::array::geometry_type;
use crate::geo::crs::EXTENSION_NAME;
use crate::geo::wkb::to_wkb;

/// A call as the optimizer leaves it: with its literals unwrapped, of the function that `planned` makes, which takes all
/// constants as written. A call of constants alone stays: it is unwrapped when it is folded.
///
/// # Errors
/// A plan error for a malformed literal.
pub(super) fn plan_call(
    mut args: Vec<Expr>,
    is_planned: bool,
    cache: &AreaCache,
    planned: impl FnOnce() -> ScalarUDF,
) -> Result<ExprSimplifyResult> {
    let is_folded = !args.iter().any(Expr::any_column_refs);
    if is_folded || !unwrap_literals(&mut args, cache)? && is_planned {
        return Ok(ExprSimplifyResult::Original(args));
    }
    let call = ScalarFunction::new_udf(Arc::new(planned()), args);
    Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)))
}

/// Puts the unwrapped geometry, as WKB, in place of each literal that crosses the antimeridian; whether there is one.
/// Other literals stay as they are written, and so do those that were unwrapped before.
///
/// # Errors
/// A plan error for a malformed literal.
fn unwrap_literals(args: &mut [Expr], cache: &AreaCache) -> Result<bool> {
    let mut is_changed = false;
    for argument in args {
        let Expr::Literal(constant, metadata) = argument else { continue };
        let Some(unwrapped) = unwrap_constant(constant, cache)? else { continue };
        *argument = Expr::Literal(unwrapped, metadata.as_ref().map(as_wkb));
        is_changed = true;
    }
    Ok(is_changed)
}

/// [`unwrap_literals`] for arguments that are folded to a constant before they can be planned. If one is not a constant,
/// all stay as they are.
///
/// # Errors
/// As there.
pub(super) fn unwrap_folded<'a>(
    args: &'a [ColumnarValue],
    cache: &AreaCache,
) -> Result<Cow<'a, [ColumnarValue]>> {
    let mut unwrapped = Cow::Borrowed(args);
    if args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_))) {
        for (index, argument) in args.iter().enumerate() {
            if let ColumnarValue::Scalar(constant) = argument
                && let Some(constant) = unwrap_constant(constant, cache)?
            {
                unwrapped.to_mut()[index] = ColumnarValue::Scalar(constant);
            }
        }
    }
    Ok(unwrapped)
}

/// Whether a literal of this value would stay as it is; `false` also for a malformed one.
pub(super) fn stays(constant: &ScalarValue) -> bool {
    unwrap_constant(constant, &AreaCache::default()).is_ok_and(|unwrapped| unwrapped.is_none())
}

/// `None` for what stays as it is: NULL, what is no geometry, and a geometry that does not cross.
fn unwrap_constant(constant: &ScalarValue, cache: &AreaCache) -> Result<Option<ScalarValue>> {
    let data_type = constant.data_type();
    if geometry_type(&data_type) != Some(data_type) {
        return Ok(None);
    }
    let Some(area) = cache.constant_area(constant)? else { return Ok(None) };
    // Only an edge of more than half a turn crosses.
    if !area.bounding_box().is_some_and(|bounds| bounds.xmax - bounds.xmin > 180.0) {
        return Ok(None);
    }
    let unwrapped = unwrap_crossings(area.geometry().clone());
    if unwrapped == *area.geometry() {
        return Ok(None);
    }
    Ok(Some(ScalarValue::Binary(Some(to_wkb(&unwrapped)?))))
}

/// The metadata of a literal that is WKB from now on.
fn as_wkb(metadata: &FieldMetadata) -> FieldMetadata {
    let mut inner = metadata.inner().clone();
    if let Some(name) = inner.get_mut(EXTENSION_NAME) {
        "geoarrow.wkb".clone_into(name);
    }
    FieldMetadata::from(inner)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::geo::array::GeometryValue;

    fn unwrapped(constant: &ScalarValue) -> Option<ScalarValue> {
        unwrap_constant(constant, &AreaCache::default()).unwrap()
    }

    #[test]
    fn only_crossing_geometries_change() {
        let crossing = unwrapped(&"LINESTRING(170 0,-170 0)".into()).unwrap();
        let ScalarValue::Binary(Some(wkb)) = crossing else { panic!("{crossing:?}") };
        let expected = GeometryValue::Wkt("LINESTRING(170 0,190 0)").parse();
        assert_eq!(GeometryValue::Wkb(&wkb).parse(), expected);
        for text in ["POINT(1 2)", "LINESTRING(-90 0,90 0)", "LINESTRING(170 0,190 0)", "POLYGON EMPTY"] {
            assert_eq!(unwrapped(&text.into()), None, "{text}");
        }
        assert_eq!(unwrapped(&ScalarValue::Utf8(None)), None);
        assert_eq!(unwrapped(&1.5.into()), None);
    }

    #[test]
    fn what_was_unwrapped_stays() {
        let mut random = StdRng::seed_from_u64(61);
        let longitudes = [-180, -175, -90, -1, 0, 1, 90, 175, 180];
        let mut changed = 0;
        for _ in 0..3_000 {
            let mut ring = || {
                let mut points: Vec<_> = (0..random.random_range(3..6))
                    .map(|_| {
                        let x = longitudes[random.random_range(0..longitudes.len())];
                        format!("{x} {}", random.random_range(-9..9))
                    })
                    .collect();
                points.push(points[0].clone());
                format!("({})", points.join(","))
            };
            let parts = [(); 3].map(|()| ring());
            let [a, b, c] = &parts;
            let box_of_world = "(-180 -90,180 -90,180 90,-180 90,-180 -90)";
            for text in [
                format!("MULTIPOLYGON(({a},{b}),({c}))"),
                format!("MULTIPOLYGON(({box_of_world},{a}),({b}))"),
                format!("GEOMETRYCOLLECTION(POLYGON({a}),LINESTRING{b},POINT(-179 1))"),
            ] {
                if let Some(once) = unwrapped(&text.as_str().into()) {
                    changed += 1;
                    assert_eq!(unwrapped(&once), None, "{text}");
                }
            }
        }
        assert!(changed > 1_000, "{changed}");
    }
}
