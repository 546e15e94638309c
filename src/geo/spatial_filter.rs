//! What a scan can prune by: a spatial predicate between a column and a constant area.

use std::sync::Arc;

use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal, TryCastExpr, lit};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::scalar::ScalarValue;

use crate::geo::area::{Area, BoxRelation};
use crate::geo::bounding_box::BoundingBox;
use crate::geo::functions::{FunctionKind, GeometryFunction};
use crate::geo::predicate::PredicateKind;
use crate::geo::predicate_function::PredicateFunction;

/// `target kind area`, found in a filter.
#[derive(Debug, Clone)]
pub(crate) struct SpatialFilter {
    /// The geometry in each row.
    pub(crate) target: SpatialTarget,
    /// The constant.
    pub(crate) area: Arc<Area>,
    /// The predicate, with the row's geometry on its left.
    pub(crate) kind: PredicateKind,
}

/// Where the geometry of a row comes from.
#[derive(Debug, Clone)]
pub(crate) enum SpatialTarget {
    /// `st_point(lon, lat)`.
    LonLat {
        /// Longitude, Float64.
        lon: Arc<dyn PhysicalExpr>,
        /// Latitude, Float64.
        lat: Arc<dyn PhysicalExpr>,
    },
    /// A column of WKB, WKT or structs of x and y.
    Column {
        /// The column's name.
        name: String,
    },
}

impl SpatialFilter {
    /// Finds one of this crate's predicates between a column and a non-null constant, in either order.
    ///
    /// `None` for `st_disjoint`, whose rows lie outside the area, and for anything else.
    pub(crate) fn try_from_physical(expr: &Arc<dyn PhysicalExpr>) -> Option<Self> {
        let function = expr.downcast_ref::<ScalarFunctionExpr>()?;
        let predicate = function.fun().inner().downcast_ref::<PredicateFunction>()?;
        let [left, right] = function.args() else { return None };
        let (target, constant, kind) = match (constant_value(left), constant_value(right)) {
            (None, Some(constant)) => (left, constant, predicate.kind()),
            (Some(constant), None) => (right, constant, predicate.kind().flipped()),
            _ => return None,
        };
        if kind == PredicateKind::Disjoint {
            return None;
        }
        let area = predicate.constant_area(&constant).ok().flatten()?;
        // Empty geometries, which equal each other, lie in no extent.
        if kind == PredicateKind::Equals && area.bounding_box().is_none() {
            return None;
        }
        Some(Self { target: SpatialTarget::try_from_physical(target)?, area, kind })
    }

    /// Bounds on longitude and latitude that hold wherever the predicate is true.
    ///
    /// Empty for geometry columns, and for coordinates that are computed. Where data may write a longitude of
    /// the area in several ways, its bounds are one OR of ranges. An empty area gives `false`.
    pub(crate) fn box_conjuncts(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        let Some(bounds) = self.area.bounding_box() else { return vec![lit(false)] };
        let SpatialTarget::LonLat { lon, lat } = &self.target else { return vec![] };
        let mut conjuncts = vec![];
        if is_column(lat) {
            conjuncts.extend(range(lat, bounds.ymin, bounds.ymax));
        }
        if is_column(lon) {
            let ranges = self.area.longitude_ranges();
            match ranges.as_slice() {
                [(xmin, xmax)] => conjuncts.extend(range(lon, *xmin, *xmax)),
                _ => conjuncts.extend(
                    ranges
                        .iter()
                        .map(|(xmin, xmax)| {
                            let [low, high] = range(lon, *xmin, *xmax);
                            binary(low, Operator::And, high)
                        })
                        .reduce(|left, right| binary(left, Operator::Or, right)),
                ),
            }
        }
        conjuncts
    }

    /// What the predicate gives for all rows whose geometries lie in `extent`.
    ///
    /// `Outside`: true for none. `Inside`: true for all that are not null and not empty. Conservative.
    pub(crate) fn relate(&self, extent: &BoundingBox) -> BoxRelation {
        match self.area.relate_box(extent) {
            // To lie in the area's interior says nothing of holding it, or of meeting its boundary.
            BoxRelation::Inside if self.kind.of_extent(BoxRelation::Inside) != Some(true) => {
                BoxRelation::Boundary
            }
            relation => relation,
        }
    }
}

impl SpatialTarget {
    fn try_from_physical(expr: &Arc<dyn PhysicalExpr>) -> Option<Self> {
        if let Some(column) = expr.downcast_ref::<Column>() {
            return Some(Self::Column { name: column.name().to_owned() });
        }
        if let Some(inner) = cast_argument(expr) {
            return Self::try_from_physical(inner);
        }
        let function = expr.downcast_ref::<ScalarFunctionExpr>()?;
        let kind = function.fun().inner().downcast_ref::<GeometryFunction>()?.kind();
        match (kind, function.args()) {
            (FunctionKind::Point, [lon, lat]) => {
                Some(Self::LonLat { lon: Arc::clone(lon), lat: Arc::clone(lat) })
            }
            (FunctionKind::FromText | FunctionKind::FromWkb | FunctionKind::AsText, [inner]) => {
                Self::try_from_physical(inner)
            }
            _ => None,
        }
    }
}

/// The geometry of a constant expression, as a value that a predicate takes.
fn constant_value(expr: &Arc<dyn PhysicalExpr>) -> Option<ScalarValue> {
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return Some(literal.value().clone());
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return constant_value(cast.expr())?.cast_to(cast.cast_type()).ok();
    }
    let function = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let kind = function.fun().inner().downcast_ref::<GeometryFunction>()?.kind();
    match (kind, function.args()) {
        (FunctionKind::FromText | FunctionKind::FromWkb, [inner]) => constant_value(inner),
        _ => None,
    }
}

fn cast_argument(expr: &Arc<dyn PhysicalExpr>) -> Option<&Arc<dyn PhysicalExpr>> {
    match (expr.downcast_ref::<CastExpr>(), expr.downcast_ref::<TryCastExpr>()) {
        (Some(cast), _) => Some(cast.expr()),
        (None, Some(cast)) => Some(cast.expr()),
        (None, None) => None,
    }
}

/// Whether the expression is a column, possibly cast.
fn is_column(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.is::<Column>() || cast_argument(expr).is_some_and(is_column)
}

fn range(value: &Arc<dyn PhysicalExpr>, low: f64, high: f64) -> [Arc<dyn PhysicalExpr>; 2] {
    // Arrow orders -0 before 0, so a bound of zero is written as the zero that lets both through.
    let low = if low == 0.0 { -0.0 } else { low };
    let high = if high == 0.0 { 0.0 } else { high };
    [
        binary(Arc::clone(value), Operator::GtEq, lit(low)),
        binary(Arc::clone(value), Operator::LtEq, lit(high)),
    ]
}

fn binary(
    left: Arc<dyn PhysicalExpr>,
    operator: Operator,
    right: Arc<dyn PhysicalExpr>,
) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(left, operator, right))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, AsArray, Float32Array, Float64Array, RecordBatch};
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::common::ToDFSchema;
    use datafusion::prelude::SessionContext;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::geo::functions::scalar_functions;

    const SQUARE: &str = "'POLYGON((1 2, 10 2, 10 9, 1 9, 1 2))'";

    fn physical(sql: &str) -> Arc<dyn PhysicalExpr> {
        let ctx = SessionContext::new();
        for function in scalar_functions() {
            ctx.register_udf(function);
        }
        let fields = vec![
            Field::new("lon", DataType::Float64, true),
            Field::new("lat", DataType::Float32, true),
            Field::new("wkb", DataType::Binary, true),
            Field::new("text", DataType::Utf8View, true),
        ];
        let schema = Schema::new(fields).to_dfschema().unwrap();
        let expr = ctx.parse_sql_expr(sql, &schema).unwrap();
        ctx.create_physical_expr(expr, &schema).unwrap()
    }

    fn find(sql: &str) -> Option<SpatialFilter> {
        SpatialFilter::try_from_physical(&physical(sql))
    }

    fn conjuncts(sql: &str) -> Vec<String> {
        find(sql).unwrap().box_conjuncts().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn predicates_are_found_in_either_order_and_through_wrappers() {
        for (sql, kind) in [
            (format!("st_within(wkb, {SQUARE})"), PredicateKind::Within),
            (format!("within(st_geomfromwkb(wkb), st_geomfromtext({SQUARE}))"), PredicateKind::Within),
            (format!("st_contains({SQUARE}, wkb)"), PredicateKind::Within),
            (format!("st_contains(wkb, {SQUARE})"), PredicateKind::Contains),
            (format!("st_covers({SQUARE}, CAST(wkb AS BYTEA))"), PredicateKind::CoveredBy),
        ] {
            let filter = find(&sql).unwrap_or_else(|| panic!("{sql}"));
            assert_eq!(filter.kind, kind, "{sql}");
            let SpatialTarget::Column { name } = &filter.target else { panic!("{sql}") };
            assert_eq!(name, "wkb");
            assert!(filter.box_conjuncts().is_empty());
        }
        let filter =
            find(&format!("st_intersects({SQUARE}, st_geomfromtext(CAST(text AS VARCHAR)))")).unwrap();
        assert!(matches!(filter.target, SpatialTarget::Column { .. }));
        assert!(matches!(
            find(&format!("st_within(st_point(lon, lat), {SQUARE})")).unwrap().target,
            SpatialTarget::LonLat { .. }
        ));
    }

    #[test]
    fn anything_else_is_not_found() {
        for sql in [
            format!("st_disjoint(wkb, {SQUARE})"),
            "st_within(wkb, text)".to_owned(),
            format!("st_within('POINT(1 2)', {SQUARE})"),
            format!("NOT st_within(wkb, {SQUARE})"),
            "st_within(wkb, NULL)".to_owned(),
            "lon > 3".to_owned(),
        ] {
            assert!(find(&sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn conjuncts_bound_both_columns() {
        assert_eq!(
            conjuncts(&format!("st_within(st_point(lon, lat), {SQUARE})")),
            ["CAST(lat@1 AS Float64) >= 2", "CAST(lat@1 AS Float64) <= 9", "lon@0 >= 1", "lon@0 <= 10"]
        );
        // Where longitudes may be written in two ways, both are kept.
        let wrapped = conjuncts("st_within(st_point(lon, lat), 'POLYGON((170 0,190 0,190 5,170 5,170 0))')");
        assert_eq!(wrapped.len(), 3);
        assert!(wrapped[0].ends_with(">= -0") && wrapped[2].contains(" OR "), "{wrapped:?}");
        // A computed longitude has no bounds.
        assert_eq!(conjuncts(&format!("st_within(st_point(lon + 1, lat), {SQUARE})")).len(), 2);
        assert_eq!(conjuncts("st_within(st_point(lon, lat), 'POLYGON EMPTY')"), ["false"]);
    }

    #[test]
    fn conjuncts_hold_wherever_the_predicate_does() {
        let mut random = StdRng::seed_from_u64(17);
        let mut matches = 0;
        for case in 0..60 {
            let low = [0.0, -180.0, 170.0, -10.0, random.random_range(-200.0..300.0)][case % 5];
            let high = low + [20.0, 360.0, 10.0, 0.5, random.random_range(0.1..200.0)][case / 5 % 5];
            let sql = format!(
                "st_intersects(st_point(lon, lat), 'POLYGON(({low} 0,{high} 0,{high} 9,{low} 9,{low} 0))')"
            );
            let edges = [low, high, 0.0, -0.0, 180.0, -180.0, 360.0, f64::NAN, f64::INFINITY];
            let lon: Vec<_> = (0..500)
                .map(|row| match row % 3 {
                    0 => edges[random.random_range(0..9)] + [0.0, 360.0, -360.0][random.random_range(0..3)],
                    1 => edges[random.random_range(0..9)],
                    _ => random.random_range(-400.0..400.0),
                })
                .collect();
            let lat = (0..500).map(|row| [0.0, -0.0, 9.0, 5.0, -1.0][row % 5]).collect::<Vec<f32>>();
            let batch = RecordBatch::try_from_iter([
                ("lon", Arc::new(Float64Array::from(lon.clone())) as ArrayRef),
                ("lat", Arc::new(Float32Array::from(lat))),
            ])
            .unwrap();
            let evaluate = |expr: &Arc<dyn PhysicalExpr>| {
                let array = expr.evaluate(&batch).unwrap().into_array(500).unwrap();
                array.as_boolean().clone()
            };
            let predicate = evaluate(&physical(&sql));
            for conjunct in find(&sql).unwrap().box_conjuncts() {
                let kept = evaluate(&conjunct);
                for (row, x) in lon.iter().enumerate().filter(|(row, _)| predicate.value(*row)) {
                    matches += 1;
                    assert!(kept.value(row), "{sql} at {x}: {conjunct}");
                }
            }
        }
        assert!(matches > 5_000, "{matches}");
    }

    #[test]
    fn relation_of_an_extent_depends_on_the_predicate() {
        let inside = BoundingBox { xmin: 3.0, ymin: 3.0, xmax: 4.0, ymax: 4.0 };
        let outside = inside.shifted(20.0);
        for (predicate, expected) in
            [("st_within", BoxRelation::Inside), ("st_contains", BoxRelation::Boundary)]
        {
            let filter = find(&format!("{predicate}(wkb, {SQUARE})")).unwrap();
            assert_eq!(filter.relate(&inside), expected);
            assert_eq!(filter.relate(&outside), BoxRelation::Outside);
        }
    }
}
