//! `+ - * / %` of numbers.

use datafusion::arrow::datatypes::DataType;
use datafusion::functions::core::nullif;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, cast, lit};
use datafusion::logical_expr_common::type_coercion::binary::BinaryTypeCoercer;
use datafusion::scalar::ScalarValue;

use crate::filter::language::ast::{BinaryOperator, NodeId};
use crate::filter::language::{Constant, FilterError, Number};
use crate::filter::lower::compare::{Family, value_type};
use crate::filter::lower::{Lowering, Operand, Value, describe};

/// One side of an operator, known to be a number or NULL.
enum Side {
    Null,
    Constant(Number),
    Value(Value),
}

impl Lowering<'_> {
    pub(super) fn arithmetic(
        &mut self,
        id: NodeId,
        operator: BinaryOperator,
        left: NodeId,
        right: NodeId,
    ) -> Result<Operand, FilterError> {
        let left = self.number(operator, left)?;
        let right = self.number(operator, right)?;
        let (left, right) = match (left, right) {
            (Side::Null, _) | (_, Side::Null) => return Ok(Operand::Constant(Constant::Null)),
            (Side::Constant(left), Side::Constant(right)) => {
                let result = fold(operator, &left, &right).map_err(|reason| self.error(id, reason))?;
                return Ok(Operand::Constant(result.map_or(Constant::Null, Constant::Number)));
            }
            sides => sides,
        };
        let in_doubles = operator == BinaryOperator::Divide || is_double(&left) || is_double(&right);
        let (left, left_type) = typed(left, in_doubles);
        let (mut right, right_type) = typed(right, in_doubles);
        let operator = match operator {
            BinaryOperator::Add => Operator::Plus,
            BinaryOperator::Subtract => Operator::Minus,
            BinaryOperator::Multiply => Operator::Multiply,
            BinaryOperator::Divide => Operator::Divide,
            _ => {
                let zero = ScalarValue::new_zero(&right_type);
                let zero = zero.map_err(|error| self.error(id, error.message().into_owned()))?;
                if right_type.is_floating() {
                    // Adding 0.0 makes 0.0 of -0.0.
                    right = right + lit(zero.clone());
                }
                right = nullif().call(vec![right, lit(zero)]);
                Operator::Modulo
            }
        };
        let data_type = BinaryTypeCoercer::new(&left_type, &operator, &right_type).get_result_type();
        let data_type = data_type.map_err(|error| self.error(id, error.message().into_owned()))?;
        let expr = Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)));
        Ok(Operand::Value(Value { expr, data_type, field: None }))
    }

    fn number(&mut self, operator: BinaryOperator, id: NodeId) -> Result<Side, FilterError> {
        let found = match self.constant_or_value(id)? {
            Ok(Constant::Null) => return Ok(Side::Null),
            Ok(Constant::Number(number)) => return Ok(Side::Constant(number)),
            Ok(other) => describe(&other),
            Err(value) if Family::of(&value.data_type) == Family::Number => return Ok(Side::Value(value)),
            Err(value) => self.typed(id, &value.data_type),
        };
        Err(self.error(id, format!("`{}` needs numbers: {found}", operator.symbol())))
    }
}

/// Whether a side makes the result a double: floating point, and constants with a fraction.
fn is_double(side: &Side) -> bool {
    match side {
        Side::Value(value) => value_type(&value.data_type).is_floating(),
        Side::Constant(number) => !number.is_whole(),
        Side::Null => false,
    }
}

/// A side as a double, or as a decimal in which sums and products of 64-bit integers are exact.
fn typed(side: Side, in_doubles: bool) -> (Expr, DataType) {
    let wide = DataType::Decimal128(20, 0);
    match side {
        Side::Null => (lit(ScalarValue::Float64(None)), DataType::Float64),
        Side::Constant(number) => match number.as_integer().filter(|_| !in_doubles) {
            Some(integer) => {
                let digits = integer.unsigned_abs().checked_ilog10().unwrap_or(0) + 1;
                let digits = u8::try_from(digits).unwrap_or(38).min(38);
                (lit(ScalarValue::Decimal128(Some(integer), digits, 0)), DataType::Decimal128(digits, 0))
            }
            None => (lit(number.double), DataType::Float64),
        },
        Side::Value(value) if in_doubles => {
            let is_cast = value.data_type == DataType::Float64;
            let expr = if is_cast { value.expr } else { cast(value.expr, DataType::Float64) };
            (expr, DataType::Float64)
        }
        Side::Value(value) => match value_type(&value.data_type) {
            narrow if narrow.is_integer() && narrow.primitive_width().is_some_and(|width| width < 8) => {
                let narrow = DataType::Decimal128(10, 0);
                (cast(value.expr, narrow.clone()), narrow)
            }
            integer if integer.is_integer() => (cast(value.expr, wide.clone()), wide),
            decimal => {
                let decimal = decimal.clone();
                let is_plain = value.data_type == decimal;
                (if is_plain { value.expr } else { cast(value.expr, decimal.clone()) }, decimal)
            }
        },
    }
}

/// The result for two constants; `None` is NULL.
fn fold(operator: BinaryOperator, left: &Number, right: &Number) -> Result<Option<Number>, String> {
    let is_zero = right.double == 0.0;
    if let (Some(a), Some(b)) = (left.as_integer(), right.as_integer()) {
        let exact = match operator {
            BinaryOperator::Add => a.checked_add(b),
            BinaryOperator::Subtract => a.checked_sub(b),
            BinaryOperator::Multiply => a.checked_mul(b),
            BinaryOperator::Modulo if is_zero => return Ok(None),
            BinaryOperator::Modulo => a.checked_rem(b),
            _ => None,
        };
        if let Some(exact) = exact {
            return Ok(Some(Number::from_integer(exact)));
        }
    }
    let (a, b) = (left.double, right.double);
    let double = match operator {
        BinaryOperator::Add => a + b,
        BinaryOperator::Subtract => a - b,
        BinaryOperator::Multiply => a * b,
        BinaryOperator::Divide => a / b,
        _ if is_zero => return Ok(None),
        _ => a % b,
    };
    Number::from_double(double).map(Some)
}
