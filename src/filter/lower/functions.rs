//! Functions, and the operators that are spatial functions.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::{Expr, ReturnFieldArgs, ScalarUDF, cast, lit};
use datafusion::scalar::ScalarValue;

use crate::filter::language::ast::{BinaryOperator, NodeId};
use crate::filter::language::{Constant, FilterError, cut};
use crate::filter::lower::compare::Family;
use crate::filter::lower::{Lowering, Operand, Value, describe};
use crate::geo::{geometry_type, scalar_functions};

/// The crate's functions by name. The spatial ones of one filter share their prepared areas.
#[derive(Debug)]
pub(super) struct Functions(HashMap<String, Arc<ScalarUDF>>);

impl Default for Functions {
    fn default() -> Self {
        let named = |function: ScalarUDF| (function.name().to_owned(), Arc::new(function));
        Self(scalar_functions().into_iter().map(named).collect())
    }
}

impl Functions {
    fn find(&self, name: &str) -> Option<&Arc<ScalarUDF>> {
        self.0.get(name)
    }
}

impl Lowering<'_> {
    pub(super) fn spatial(
        &mut self,
        id: NodeId,
        operator: BinaryOperator,
        left: NodeId,
        right: NodeId,
    ) -> Result<Operand, FilterError> {
        let name = match operator {
            BinaryOperator::Within => "st_within",
            BinaryOperator::Contains => "st_contains",
            _ => "st_intersects",
        };
        let (a, a_field) = self.geometry(operator.symbol(), left)?;
        let (b, b_field) = self.geometry(operator.symbol(), right)?;
        let Some(function) = self.functions.find(name).map(Arc::clone) else {
            return Err(self.error(id, format!("there is no function {name}")));
        };
        // Reads constants, and compares coordinate reference systems.
        let constant = |expr: &Expr| match expr {
            Expr::Literal(value, _) => Some(value.clone()),
            _ => None,
        };
        let constants = [constant(&a), constant(&b)];
        let arguments = ReturnFieldArgs {
            arg_fields: &[a_field, b_field],
            scalar_arguments: &[constants[0].as_ref(), constants[1].as_ref()],
        };
        let place = match (&constants[0], &constants[1]) {
            (Some(_), None) => left,
            (None, Some(_)) => right,
            _ => id,
        };
        function.return_field_from_args(arguments).map_err(|error| self.error(place, cause(&error)))?;
        Ok(Operand::Value(Value::boolean(function.call(vec![a, b]))))
    }

    /// Every row passes the coarse test.
    pub(super) fn coarse(&mut self, id: NodeId, left: NodeId, right: NodeId) -> Result<Operand, FilterError> {
        self.geometry("~", left)?;
        self.geometry("~", right)?;
        self.warnings.push(format!(
            "`{}` is true for every row: `~` between operands is a coarse test, write `intersect` for an exact one",
            self.written(id)
        ));
        Ok(Operand::Constant(Constant::Boolean(true)))
    }

    /// An operand that holds geometries, for `wanted_by`, with the field that tells what kind.
    fn geometry(&mut self, wanted_by: &str, id: NodeId) -> Result<(Expr, FieldRef), FilterError> {
        let text = |text: Option<String>| {
            (lit(ScalarValue::Utf8(text)), Arc::new(Field::new("constant", DataType::Utf8, true)))
        };
        let found = match self.constant_or_value(id)? {
            Ok(Constant::Text(wkt)) => return Ok(text(Some(wkt.as_ref().to_owned()))),
            Ok(Constant::Null) => return Ok(text(None)),
            Ok(constant) => describe(&constant),
            Err(value) => match geometry_type(&value.data_type) {
                Some(_) => {
                    let field = value
                        .field
                        .unwrap_or_else(|| Arc::new(Field::new("value", value.data_type.clone(), true)));
                    return Ok((value.expr, field));
                }
                None => self.typed(id, &value.data_type),
            },
        };
        let reason = format!("`{wanted_by}` needs geometries (WKT text, WKB or GeoArrow): {found}");
        Err(self.error(id, reason))
    }

    pub(super) fn call(
        &mut self,
        id: NodeId,
        base: Option<NodeId>,
        name: &str,
        arguments: &[NodeId],
    ) -> Result<Operand, FilterError> {
        match (base, name, arguments) {
            (None, "subtract", [left, right]) => self.arithmetic(id, BinaryOperator::Subtract, *left, *right),
            (None, "invert", [inner]) => self.not(*inner),
            (None, "h3", _) => self.h3(id, arguments),
            (None, "subtract" | "invert" | "is_null", _) => {
                let expected = if name == "subtract" { 2 } else { 1 };
                let found = arguments.len();
                Err(self.error(id, format!("`{name}` has {found} arguments, expected {expected}")))
            }
            (None, ..) => {
                let known = "h3, is_null, add, add_checked, subtract, subtract_checked and invert";
                let reason = format!("there is no function `{}`; the functions are {known}", cut(name, 40));
                Err(self.error(id, reason))
            }
            (Some(_), ..) => {
                Err(self.error(id, format!("there is no function `{}` of a column", cut(name, 40))))
            }
        }
    }

    /// `h3(res)`, `h3(lat, lon, res)` or `h3(geometry, res)`.
    fn h3(&mut self, id: NodeId, arguments: &[NodeId]) -> Result<Operand, FilterError> {
        let Some(cell) = self.functions.find("h3_cell").map(Arc::clone) else {
            return Err(self.error(id, "`h3` needs this crate's feature `h3`, without which it was built"));
        };
        let (latitude, longitude, resolution) = match arguments {
            [resolution] => {
                let (latitude, longitude) = coordinate_columns(self.schema).ok_or_else(|| {
                    let reason = "`h3(resolution)` needs one column marked `geo` or `class` = `latitude` and one \
                                  marked `longitude` in their metadata; write h3(latitude, longitude, resolution)";
                    self.error(id, reason)
                })?;
                let named = [&latitude, &longitude].into_iter().flat_map(|column| column.column_refs());
                self.columns.extend(named.map(|column| column.name.clone()));
                (latitude, longitude, *resolution)
            }
            [geometry, resolution] => {
                let (geometry, _) = self.geometry("h3", *geometry)?;
                let centroid = self.apply(id, "st_centroid", vec![geometry])?;
                let latitude = self.apply(id, "st_y", vec![centroid.clone()])?;
                (latitude, self.apply(id, "st_x", vec![centroid])?, *resolution)
            }
            [latitude, longitude, resolution] => {
                (self.coordinate(*latitude)?, self.coordinate(*longitude)?, *resolution)
            }
            _ => {
                let reason = "expected h3(resolution), h3(geometry, resolution) or h3(latitude, longitude, resolution)";
                return Err(self.error(id, reason));
            }
        };
        let level = match self.constant_or_value(resolution)? {
            Ok(Constant::Number(number)) => number.as_integer().and_then(|level| i64::try_from(level).ok()),
            _ => None,
        };
        let level = level.filter(|level| (0..=15).contains(level)).ok_or_else(|| {
            let found = self.written(resolution);
            self.error(
                resolution,
                format!("the resolution of `h3` is a number from 0 to 15, found `{found}`"),
            )
        })?;
        let expr = cell.call(vec![latitude, longitude, lit(level)]);
        Ok(Operand::Value(Value { expr, data_type: DataType::Utf8, field: None }))
    }

    fn apply(&self, id: NodeId, name: &str, arguments: Vec<Expr>) -> Result<Expr, FilterError> {
        let function = self.functions.find(name);
        let function = function.ok_or_else(|| self.error(id, format!("there is no function {name}")))?;
        Ok(function.call(arguments))
    }

    /// A latitude or longitude.
    fn coordinate(&mut self, id: NodeId) -> Result<Expr, FilterError> {
        let found = match self.constant_or_value(id)? {
            Ok(Constant::Null) => return Ok(lit(ScalarValue::Float64(None))),
            Ok(Constant::Number(number)) => return Ok(lit(number.double)),
            Ok(constant) => describe(&constant),
            Err(value) if Family::of(&value.data_type) == Family::Number => {
                return Ok(cast(value.expr, DataType::Float64));
            }
            Err(value) => self.typed(id, &value.data_type),
        };
        Err(self.error(id, format!("`h3` needs numbers for latitude and longitude: {found}")))
    }
}

/// The columns whose metadata say that they are latitude and longitude; the older mark goes first.
fn coordinate_columns(schema: &Schema) -> Option<(Expr, Expr)> {
    let marked = |key: &str, role: &str| {
        let field = schema.fields().iter().find(|field| {
            field.metadata().get(key).is_some_and(|value| value == role)
                && Family::of(field.data_type()) == Family::Number
        })?;
        let column = datafusion::common::Column::from_name(field.name());
        Some(cast(Expr::Column(column), DataType::Float64))
    };
    ["geo", "class"].iter().find_map(|key| Some((marked(key, "latitude")?, marked(key, "longitude")?)))
}

/// The message at the bottom of an error.
fn cause(error: &DataFusionError) -> String {
    error.find_root().message().into_owned()
}
