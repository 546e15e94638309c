//! What a scan can prune by: spatial predicates between columns and constant areas, under AND, OR and NOT.

use std::sync::Arc;

use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal, NotExpr};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::scalar::ScalarValue;

use crate::geo::area::{Area, BoxRelation};
use crate::geo::array::GeometryArray;
use crate::geo::bounding_box::BoundingBox;
use crate::geo::extent::{Extent, ExtentFacts, Outcomes};
use crate::geo::functions::{FunctionKind, GeometryFunction, WithinDistanceFunction};
use crate::geo::kernel::against_area;
use crate::geo::predicate::PredicateKind;
use crate::geo::predicate_function::PredicateFunction;

/// A column, or a field of a struct column: names from the outside in.
pub(crate) type FieldPath = Arc<[String]>;

/// A filter with a spatial predicate in it.
#[derive(Debug, Clone)]
pub(crate) struct SpatialConjunct {
    /// The whole filter.
    pub(crate) expr: Arc<dyn PhysicalExpr>,
    /// Its spatial predicates, with a known target.
    pub(crate) predicates: Vec<SpatialPredicate>,
    logic: Logic,
}

/// How the predicates of a filter go together.
#[derive(Debug, Clone)]
enum Logic {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    /// The predicate at this position.
    Predicate(usize),
    /// Something else.
    Opaque,
}

/// `target kind area`, found in a filter.
#[derive(Debug, Clone)]
pub(crate) struct SpatialPredicate {
    /// The geometry in each row.
    pub(crate) target: SpatialTarget,
    /// The constant.
    area: Arc<Area>,
    question: Question,
}

/// What is asked of a row's geometry and the area.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Question {
    /// A predicate with the row's geometry on its left.
    Relation(PredicateKind),
    /// Whether they are at most so many degrees apart.
    Near(f64),
}

/// Where the geometry of a row comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SpatialTarget {
    /// `st_point(lon, lat)` of two columns.
    Point {
        /// Longitude.
        lon: FieldPath,
        /// Latitude.
        lat: FieldPath,
    },
    /// A column of geometries.
    Geometry {
        /// The column.
        path: FieldPath,
    },
}

impl SpatialConjunct {
    /// `None` for a filter without a spatial predicate between a column and a non-null constant.
    pub(crate) fn try_from_physical(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Self> {
        let mut predicates = vec![];
        let logic = Logic::from_physical(expr, schema, &mut predicates);
        (!predicates.is_empty()).then(|| Self { expr: Arc::clone(expr), predicates, logic })
    }

    /// The values that the filter may have in rows of which `facts_of` tells, for the target of each predicate.
    pub(crate) fn outcomes(&self, facts_of: impl Fn(&SpatialTarget) -> ExtentFacts) -> Outcomes {
        let known: Vec<Outcomes> = self
            .predicates
            .iter()
            .map(|predicate| predicate.outcomes(&facts_of(&predicate.target)))
            .collect();
        self.logic.outcomes(&known)
    }

    /// Whether coordinates are enough to know which points match: it is made of predicates alone, none by distance.
    pub(crate) fn is_of_relations(&self) -> bool {
        let is_relation = |predicate: &SpatialPredicate| matches!(predicate.question, Question::Relation(_));
        !self.logic.has_opaque() && self.predicates.iter().all(is_relation)
    }

    /// Which of `points`, of which none is NULL, match, where all predicates are about them.
    ///
    /// # Errors
    /// If [`Self::is_of_relations`] is not so.
    pub(crate) fn matching_points(&self, points: &GeometryArray) -> Result<BooleanBuffer> {
        let known = self.predicates.iter().map(|predicate| match predicate.question {
            Question::Relation(kind) => Ok(against_area(kind, points, &predicate.area)?.values().clone()),
            Question::Near(_) => internal_err!("a distance is not known of coordinates"),
        });
        self.logic.matching(points.len(), &known.collect::<Result<Vec<_>>>()?)
    }
}

impl Logic {
    fn from_physical(
        expr: &Arc<dyn PhysicalExpr>,
        schema: &Schema,
        predicates: &mut Vec<SpatialPredicate>,
    ) -> Self {
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>()
            && let operator @ (Operator::And | Operator::Or) = binary.op()
        {
            let mut parts = vec![];
            flatten(expr, *operator, &mut parts);
            let parts = parts.into_iter().map(|part| Self::from_physical(part, schema, predicates)).collect();
            return if *operator == Operator::And { Self::And(parts) } else { Self::Or(parts) };
        }
        if let Some(not) = expr.downcast_ref::<NotExpr>() {
            return Self::Not(Box::new(Self::from_physical(not.arg(), schema, predicates)));
        }
        match SpatialPredicate::try_from_physical(expr, schema) {
            Some(predicate) => {
                predicates.push(predicate);
                Self::Predicate(predicates.len() - 1)
            }
            None => Self::Opaque,
        }
    }

    fn outcomes(&self, known: &[Outcomes]) -> Outcomes {
        match self {
            Self::And(parts) => {
                parts.iter().map(|part| part.outcomes(known)).fold(Outcomes::TRUE, Outcomes::and)
            }
            Self::Or(parts) => {
                parts.iter().map(|part| part.outcomes(known)).fold(Outcomes::FALSE, Outcomes::or)
            }
            Self::Not(part) => !part.outcomes(known),
            Self::Predicate(index) => known[*index],
            Self::Opaque => Outcomes::ANY,
        }
    }

    fn has_opaque(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::has_opaque),
            Self::Not(part) => part.has_opaque(),
            Self::Predicate(_) => false,
            Self::Opaque => true,
        }
    }

    /// The rows for which it holds, if the predicates hold for `known` ones, and are not NULL.
    fn matching(&self, rows: usize, known: &[BooleanBuffer]) -> Result<BooleanBuffer> {
        let parts = |parts: &[Self], all: bool| {
            let start = if all { BooleanBuffer::new_set(rows) } else { BooleanBuffer::new_unset(rows) };
            parts.iter().try_fold(start, |found, part| {
                let of_part = part.matching(rows, known)?;
                Ok(if all { &found & &of_part } else { &found | &of_part })
            })
        };
        match self {
            Self::And(of_and) => parts(of_and, true),
            Self::Or(of_or) => parts(of_or, false),
            Self::Not(part) => Ok(!&part.matching(rows, known)?),
            Self::Predicate(index) => Ok(known[*index].clone()),
            Self::Opaque => internal_err!("a part of a spatial filter is not known of coordinates"),
        }
    }
}

/// The operands of a chain of one operator, in order. Chains lean to the left; that side takes no stack.
fn flatten<'a>(
    mut expr: &'a Arc<dyn PhysicalExpr>,
    operator: Operator,
    parts: &mut Vec<&'a Arc<dyn PhysicalExpr>>,
) {
    let mut right_sides = vec![];
    while let Some(binary) = expr.downcast_ref::<BinaryExpr>().filter(|binary| *binary.op() == operator) {
        right_sides.push(binary.right());
        expr = binary.left();
    }
    parts.push(expr);
    parts.extend(right_sides.into_iter().rev());
}

impl SpatialPredicate {
    /// Finds one of this crate's predicates between a column and a non-null constant, in either order.
    fn try_from_physical(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Self> {
        let function = expr.downcast_ref::<ScalarFunctionExpr>()?;
        let implementation = function.fun().inner();
        if let Some(near) = implementation.downcast_ref::<WithinDistanceFunction>() {
            let [left, right, distance] = function.args() else { return None };
            let ScalarValue::Float64(Some(distance)) = constant_value(distance)? else { return None };
            let (target, constant) = match (constant_value(left), constant_value(right)) {
                (None, Some(constant)) => (left, constant),
                (Some(constant), None) => (right, constant),
                _ => return None,
            };
            let area = near.constant_area(&constant).ok().flatten()?;
            let question = Question::Near(distance);
            return Some(Self { target: SpatialTarget::try_from_physical(target, schema)?, area, question });
        }
        let predicate = implementation.downcast_ref::<PredicateFunction>()?;
        let [left, right] = function.args() else { return None };
        let (target, constant, kind) = match (constant_value(left), constant_value(right)) {
            (None, Some(constant)) => (left, constant, predicate.kind()),
            (Some(constant), None) => (right, constant, predicate.kind().flipped()),
            _ => return None,
        };
        let area = predicate.constant_area(&constant).ok().flatten()?;
        let question = Question::Relation(kind);
        Some(Self { target: SpatialTarget::try_from_physical(target, schema)?, area, question })
    }

    /// What the predicate can give in rows of which `facts` tells. Conservative.
    fn outcomes(&self, facts: &ExtentFacts) -> Outcomes {
        let of_points = match &facts.extent {
            Extent::Unknown => Outcomes::TRUE | Outcomes::FALSE,
            Extent::Nowhere => Outcomes::NONE,
            Extent::Within(extent) => match self.answer_within(extent) {
                Some(answer) => Outcomes::only(answer),
                None => Outcomes::TRUE | Outcomes::FALSE,
            },
        };
        let of_empty =
            if facts.may_be_empty { Outcomes::only(self.answer_when_empty()) } else { Outcomes::NONE };
        let is_null = facts.may_be_null || facts.may_be_malformed;
        let of_null = if is_null { Outcomes::NULL } else { Outcomes::NONE };
        of_points | of_empty | of_null
    }

    /// The answer for all geometries that are not empty and lie in `extent`, if it is the same.
    fn answer_within(&self, extent: &BoundingBox) -> Option<bool> {
        match self.question {
            Question::Relation(kind) => kind.of_extent(self.area.relate_box(extent)),
            Question::Near(distance) => match self.area.relate_box_at_distance(extent, distance) {
                BoxRelation::Outside => Some(false),
                BoxRelation::Inside => Some(true),
                BoxRelation::Boundary => None,
            },
        }
    }

    fn answer_when_empty(&self) -> bool {
        match self.question {
            Question::Relation(kind) if self.area.bounding_box().is_none() => kind.when_both_empty(),
            Question::Relation(kind) => kind.when_apart(),
            Question::Near(_) => false,
        }
    }
}

impl SpatialTarget {
    fn try_from_physical(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Self> {
        if let Some(path) = field_path(expr, schema) {
            return Some(Self::Geometry { path });
        }
        if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            // A cast between text and binary makes another geometry of the same bytes, or none.
            let from = cast.expr().data_type(schema).ok()?;
            return keeps_geometry(&from, cast.cast_type())
                .then(|| Self::try_from_physical(cast.expr(), schema))
                .flatten();
        }
        let function = expr.downcast_ref::<ScalarFunctionExpr>()?;
        let kind = function.fun().inner().downcast_ref::<GeometryFunction>()?.kind();
        match (kind, function.args()) {
            (FunctionKind::Point, [lon, lat]) => {
                Some(Self::Point { lon: coordinate_path(lon, schema)?, lat: coordinate_path(lat, schema)? })
            }
            (FunctionKind::FromText | FunctionKind::FromWkb | FunctionKind::AsText, [inner]) => {
                Self::try_from_physical(inner, schema)
            }
            _ => None,
        }
    }
}

/// Whether a cast only changes the layout of text or binary, or nothing.
fn keeps_geometry(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Dictionary(_, from), to) => keeps_geometry(from, to),
        (from, to) => {
            from == to || (from.is_string() && to.is_string()) || (from.is_binary() && to.is_binary())
        }
    }
}

/// A column of numbers, possibly cast to Float64: that keeps their order.
fn coordinate_path(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<FieldPath> {
    match expr.downcast_ref::<CastExpr>() {
        Some(cast) if *cast.cast_type() == DataType::Float64 => coordinate_path(cast.expr(), schema),
        Some(_) => None,
        None => field_path(expr, schema).filter(|_| expr.data_type(schema).is_ok_and(|t| t.is_numeric())),
    }
}

/// A column, or a field of a struct column by DataFusion's `get_field`. That function reads maps, too: not such a field.
pub(crate) fn field_path(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<FieldPath> {
    fn collect(expr: &Arc<dyn PhysicalExpr>, path: &mut Vec<String>) -> Option<()> {
        if let Some(column) = expr.downcast_ref::<Column>() {
            path.push(column.name().to_owned());
            return Some(());
        }
        let function = expr.downcast_ref::<ScalarFunctionExpr>()?;
        if function.fun().name() != "get_field" {
            return None;
        }
        let (base, names) = function.args().split_first()?;
        collect(base, path)?;
        for name in names {
            path.push(name.downcast_ref::<Literal>()?.value().try_as_str()??.to_owned());
        }
        Some(())
    }
    let mut path = vec![];
    collect(expr, &mut path)?;
    let (column, fields) = path.split_first()?;
    let mut data_type = schema.field_with_name(column).ok()?.data_type();
    for name in fields {
        let DataType::Struct(inner) = data_type else { return None };
        data_type = inner.find(name)?.1.data_type();
    }
    Some(path.into())
}

/// The geometry of a constant expression, as a value that a predicate takes.
pub(crate) fn constant_value(expr: &Arc<dyn PhysicalExpr>) -> Option<ScalarValue> {
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

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{Field, Fields};
    use datafusion::common::ToDFSchema;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::geo::functions::scalar_functions;

    const SQUARE: &str = "'POLYGON((1 2, 10 2, 10 9, 1 9, 1 2))'";

    fn find(sql: &str) -> Option<SpatialConjunct> {
        let ctx = SessionContext::new();
        for function in scalar_functions() {
            ctx.register_udf(function);
        }
        let place = Fields::from(vec![
            Field::new("lon", DataType::Float64, true),
            Field::new("lat", DataType::Float64, true),
        ]);
        let fields = vec![
            Field::new("lon", DataType::Float64, true),
            Field::new("lat", DataType::Float32, true),
            Field::new("wkb", DataType::Binary, true),
            Field::new("text", DataType::Utf8View, true),
            Field::new("place", DataType::Struct(place), true),
            Field::new_map(
                "tags",
                "entries",
                Field::new("keys", DataType::Utf8, false),
                Field::new("values", DataType::Utf8, true),
                false,
                true,
            ),
        ];
        let arrow = Schema::new(fields);
        let schema = arrow.clone().to_dfschema().unwrap();
        let expr = ctx.parse_sql_expr(sql, &schema).unwrap();
        SpatialConjunct::try_from_physical(&ctx.create_physical_expr(expr, &schema).unwrap(), &arrow)
    }

    fn path(names: &[&str]) -> FieldPath {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn predicates_are_found_in_either_order_and_through_wrappers() {
        for (sql, kind) in [
            (format!("st_within(wkb, {SQUARE})"), PredicateKind::Within),
            (format!("within(st_geomfromwkb(wkb), st_geomfromtext({SQUARE}))"), PredicateKind::Within),
            (format!("st_contains({SQUARE}, wkb)"), PredicateKind::Within),
            (format!("st_contains(wkb, {SQUARE})"), PredicateKind::Contains),
            (format!("st_covers({SQUARE}, CAST(wkb AS BYTEA))"), PredicateKind::CoveredBy),
            (format!("st_disjoint(wkb, {SQUARE})"), PredicateKind::Disjoint),
        ] {
            let found = find(&sql).unwrap_or_else(|| panic!("{sql}"));
            assert_eq!(found.predicates[0].question, Question::Relation(kind), "{sql}");
            assert_eq!(found.predicates[0].target, SpatialTarget::Geometry { path: path(&["wkb"]) });
        }
        for (sql, target) in [
            (
                format!("st_intersects({SQUARE}, st_geomfromtext(CAST(text AS VARCHAR)))"),
                SpatialTarget::Geometry { path: path(&["text"]) },
            ),
            (
                format!("st_within(st_point(lon, lat), {SQUARE})"),
                SpatialTarget::Point { lon: path(&["lon"]), lat: path(&["lat"]) },
            ),
            (
                format!("st_within(st_point(place.lon, place['lat']), {SQUARE})"),
                SpatialTarget::Point { lon: path(&["place", "lon"]), lat: path(&["place", "lat"]) },
            ),
            (format!("st_within(place, {SQUARE})"), SpatialTarget::Geometry { path: path(&["place"]) }),
        ] {
            assert_eq!(find(&sql).unwrap().predicates[0].target, target, "{sql}");
        }
        let mixed = find(&format!("lon > 3 OR NOT (st_within(wkb, {SQUARE}) AND st_within(text, {SQUARE}))"));
        assert_eq!(mixed.unwrap().predicates.len(), 2);
    }

    #[test]
    fn anything_else_is_not_found() {
        for sql in [
            "st_within(wkb, text)".to_owned(),
            format!("st_within('POINT(1 2)', {SQUARE})"),
            "st_within(wkb, NULL)".to_owned(),
            "lon > 3".to_owned(),
            format!("st_within(st_point(lon + 1, lat), {SQUARE})"),
            format!("st_within(st_point(CAST(lon AS INT), lat), {SQUARE})"),
            format!("st_within(CAST(text AS BYTEA), {SQUARE})"),
            format!("st_within(TRY_CAST(wkb AS VARCHAR), {SQUARE})"),
            format!("st_within(tags['footprint'], {SQUARE})"),
        ] {
            assert!(find(&sql).is_none(), "{sql}");
        }
    }

    #[test]
    fn outcomes_follow_predicate_and_logic() {
        let inside = BoundingBox { xmin: 3.0, ymin: 3.0, xmax: 4.0, ymax: 4.0 };
        let facts = |extent: BoundingBox| ExtentFacts {
            extent: Extent::Within(extent),
            may_be_null: false,
            may_be_empty: false,
            may_be_malformed: false,
        };
        let (inside, outside) = (facts(inside), facts(inside.shifted(20.0)));
        let (yes, no, either) = (Outcomes::TRUE, Outcomes::FALSE, Outcomes::TRUE | Outcomes::FALSE);
        for (sql, when_inside, when_outside) in [
            ("st_within(wkb, $)", yes, no),
            ("NOT st_within(wkb, $)", no, yes),
            ("st_contains(wkb, $)", no, no),
            ("st_disjoint(wkb, $)", no, yes),
            ("st_within(wkb, $) AND lon > 2", Outcomes::ANY, no),
            ("st_within(wkb, $) OR lon > 2", yes, Outcomes::ANY),
            ("NOT (st_within(wkb, $) OR lon > 2)", no, Outcomes::ANY),
            ("st_within(wkb, $) AND NOT st_intersects(wkb, $)", no, no),
            ("st_dwithin($, wkb, 0.5)", yes, no),
            ("st_dwithin(wkb, $, 100)", yes, yes),
        ] {
            let conjunct = find(&sql.replace('$', SQUARE)).unwrap();
            assert_eq!(conjunct.outcomes(|_| inside), when_inside, "{sql}");
            assert_eq!(conjunct.outcomes(|_| outside), when_outside, "{sql}");
            assert_eq!(conjunct.outcomes(|_| ExtentFacts::NO_ROWS), Outcomes::NONE, "{sql}");
        }
        let within = find(&format!("st_within(wkb, {SQUARE})")).unwrap();
        let with_empty = ExtentFacts { may_be_empty: true, ..inside };
        assert_eq!(within.outcomes(|_| with_empty), either);
        let malformed = ExtentFacts { may_be_malformed: true, ..outside };
        let disjoint = find(&format!("st_disjoint(wkb, {SQUARE})")).unwrap();
        assert!(
            disjoint.outcomes(|_| malformed).may_match() && !disjoint.outcomes(|_| malformed).all_match()
        );
        let with_null = ExtentFacts { may_be_null: true, ..inside };
        assert_eq!(within.outcomes(|_| with_null), Outcomes::TRUE | Outcomes::NULL);
        assert!(!within.outcomes(|_| ExtentFacts::ALL_NULL).may_match());
    }

    #[test]
    fn long_chains_take_no_stack() {
        let terms: Vec<_> = (0..300).map(|_| format!("st_within(wkb, {SQUARE})")).collect();
        assert_eq!(find(&terms.join(" OR ")).unwrap().predicates.len(), 300);
    }
}
