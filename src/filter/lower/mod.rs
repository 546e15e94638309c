//! From a bound tree to an expression over the columns of a schema.

mod arithmetic;
mod columns;
mod compare;
mod functions;
mod logic;

use std::collections::BTreeSet;
use std::ops::Range;

use datafusion::arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::logical_expr::{Expr, lit, not};
use datafusion::scalar::ScalarValue;

use crate::filter::OdpFilter;
use crate::filter::language::ast::{BinaryOperator, Level, NodeId, NodeKind};
use crate::filter::language::{BoundFilter, Constant, FilterError, cut};

use columns::Path;
use logic::Chain;

/// What a node is made into.
#[derive(Debug)]
enum Operand {
    Constant(Constant),
    /// A name whose members may follow.
    Path(Path),
    Value(Value),
    /// Operands of one logic operator, before they are put together.
    Chain(Chain),
}

/// An expression and its type.
#[derive(Debug)]
struct Value {
    expr: Expr,
    data_type: DataType,
    /// Of a column or a member: tells of geometry.
    field: Option<FieldRef>,
}

impl Value {
    fn boolean(expr: Expr) -> Self {
        Self { expr, data_type: DataType::Boolean, field: None }
    }
}

struct Lowering<'a> {
    bound: &'a BoundFilter<'a>,
    text: &'a str,
    schema: &'a SchemaRef,
    /// One per node, until it is used.
    operands: Vec<Option<Operand>>,
    functions: functions::Functions,
    /// Every column that was found.
    columns: BTreeSet<String>,
    warnings: Vec<String>,
}

/// The expression of a filter, what it names, and what its writer may not have meant.
///
/// # Errors
/// A column that is not there, operands that do not go together, an unknown function.
pub(super) fn lower(
    bound: &BoundFilter<'_>,
    text: &str,
    schema: &SchemaRef,
) -> Result<OdpFilter, FilterError> {
    let nodes = bound.ast().nodes.len();
    let mut lowering = Lowering {
        bound,
        text,
        schema,
        operands: Vec::with_capacity(nodes),
        functions: functions::Functions::default(),
        columns: BTreeSet::new(),
        warnings: vec![],
    };
    for id in 0..nodes {
        let operand = lowering.node(id)?;
        lowering.operands.push(Some(operand));
    }
    let expr = lowering.boolean(bound.ast().root(), "a filter")?;
    let Lowering { columns, warnings, .. } = lowering;
    Ok(OdpFilter { expr: logic::limit_conjuncts(expr)?, columns, warnings })
}

impl Lowering<'_> {
    fn node(&mut self, id: NodeId) -> Result<Operand, FilterError> {
        if let Some(constant) = self.bound.constant(id) {
            return Ok(Operand::Constant(constant.clone()));
        }
        let bound = self.bound;
        match bound.ast().kind(id) {
            NodeKind::Field(name) => Ok(Operand::Path(Path::new(name))),
            NodeKind::Member(base, name) => self.member(*base, name),
            NodeKind::Not(inner) => self.not(*inner),
            NodeKind::IsNull(inner) => self.is_null(*inner),
            NodeKind::Binary(operator, left, right) => self.binary(id, *operator, *left, *right),
            NodeKind::Call { base, name, arguments } => self.call(id, *base, name, arguments),
            _ => Err(self.error(id, "has no value")),
        }
    }

    fn not(&mut self, inner: NodeId) -> Result<Operand, FilterError> {
        if let Some(Operand::Constant(Constant::Boolean(value))) = self.operands[inner] {
            return Ok(Operand::Constant(Constant::Boolean(!value)));
        }
        let inner = self.boolean(inner, "`not`, which binds tighter than any other operator,")?;
        Ok(Operand::Value(Value::boolean(not(inner))))
    }

    fn is_null(&mut self, inner: NodeId) -> Result<Operand, FilterError> {
        let expr = match self.take(inner)? {
            Operand::Constant(constant) => {
                return Ok(Operand::Constant(Constant::Boolean(constant == Constant::Null)));
            }
            Operand::Path(path) => self.resolve(&path, inner)?.expr,
            Operand::Value(value) => value.expr,
            Operand::Chain(chain) => chain.into_expr(),
        };
        Ok(Operand::Value(Value::boolean(expr.is_null())))
    }

    fn binary(
        &mut self,
        id: NodeId,
        operator: BinaryOperator,
        left: NodeId,
        right: NodeId,
    ) -> Result<Operand, FilterError> {
        match operator {
            BinaryOperator::And | BinaryOperator::Or => self.logic(operator, left, right),
            BinaryOperator::Within | BinaryOperator::Contains | BinaryOperator::Intersects => {
                self.spatial(id, operator, left, right)
            }
            BinaryOperator::Coarse => self.coarse(id, left, right),
            BinaryOperator::NotCoarse => {
                Err(self.error(id, "`!~` has no meaning; write `!=`, or `not (a intersect b)`"))
            }
            _ if operator.level() >= Level::Sum => self.arithmetic(id, operator, left, right),
            _ => self.comparison(id, operator, left, right),
        }
    }

    /// The operand of a node, which is used once.
    fn take(&mut self, id: NodeId) -> Result<Operand, FilterError> {
        self.operands[id].take().ok_or_else(|| self.error(id, "was read already"))
    }

    /// A node as a constant, or as a value of a type.
    fn constant_or_value(&mut self, id: NodeId) -> Result<Result<Constant, Value>, FilterError> {
        Ok(match self.take(id)? {
            Operand::Constant(constant) => Ok(constant),
            Operand::Path(path) => Err(self.resolve(&path, id)?),
            Operand::Value(value) => Err(value),
            Operand::Chain(chain) => Err(Value::boolean(chain.into_expr())),
        })
    }

    /// A node that is true, false or NULL, for `wanted_by`.
    fn boolean(&mut self, id: NodeId, wanted_by: &str) -> Result<Expr, FilterError> {
        let found = match self.constant_or_value(id)? {
            Ok(Constant::Boolean(value)) => return Ok(lit(value)),
            Ok(Constant::Null) => return Ok(lit(ScalarValue::Boolean(None))),
            Ok(constant) => describe(&constant),
            Err(value) if value.data_type == DataType::Boolean => return Ok(value.expr),
            Err(value) => self.typed(id, &value.data_type),
        };
        let hint = if wanted_by.starts_with("`not`") { "; put what it negates into parentheses" } else { "" };
        Err(self.error(id, format!("{wanted_by} needs true or false: {found}{hint}")))
    }

    fn span(&self, id: NodeId) -> Range<usize> {
        self.bound.span(id)
    }

    /// What is written at a node, cut.
    fn written(&self, id: NodeId) -> String {
        cut(&self.text[self.span(id)], 40)
    }

    /// "column depth is Float64".
    fn typed(&self, id: NodeId, data_type: &DataType) -> String {
        let is_column = matches!(self.bound.ast().kind(id), NodeKind::Field(_) | NodeKind::Member(..));
        format!("{}`{}` is {data_type}", if is_column { "column " } else { "" }, self.written(id))
    }

    fn error(&self, id: NodeId, reason: impl Into<String>) -> FilterError {
        FilterError::new(self.span(id), reason)
    }
}

/// A constant in a message. Variables may hold long texts.
fn describe(constant: &Constant) -> String {
    match constant {
        Constant::Null => "null".to_owned(),
        Constant::Boolean(value) => value.to_string(),
        Constant::Number(number) => match number.as_integer() {
            Some(integer) => format!("the number {integer}"),
            None => format!("the number {:?}", number.double),
        },
        Constant::Text(text) => format!("the text {:?}", cut(text, 40)),
        Constant::Timestamp(time) => format!("the time {time}"),
        Constant::Date(date) => format!("the date {date}"),
        Constant::Time(time) => format!("the time of day {time}"),
    }
}
