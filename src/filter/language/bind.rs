//! From names of variables to their values, and from literals to theirs.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::MAX_BOUND_BYTES;
use super::ast::{Ast, NodeId, NodeKind};
use super::error::{FilterError, cut};
use super::number::Number;
use super::time::{FilterDate, FilterTime, FilterTimestamp};
use super::variables::{FilterValue, FilterVariables};

/// A constant of a filter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constant {
    Null,
    Boolean(bool),
    Number(Number),
    /// Shared by all places that name the variable.
    Text(Arc<str>),
    Timestamp(FilterTimestamp),
    Date(FilterDate),
    Time(FilterTime),
}

/// A filter whose leaves are columns and constants.
#[derive(Debug, Clone)]
pub(crate) struct BoundFilter<'a> {
    ast: &'a Ast,
    /// One per node of the tree; `Some` for its literals and variables.
    constants: Vec<Option<Constant>>,
}

impl BoundFilter<'_> {
    pub(crate) fn ast(&self) -> &Ast {
        self.ast
    }

    pub(crate) fn constant(&self, id: NodeId) -> Option<&Constant> {
        self.constants.get(id)?.as_ref()
    }

    pub(crate) fn span(&self, id: NodeId) -> Range<usize> {
        self.ast.nodes[id].span.clone()
    }
}

/// Gives every variable its value.
///
/// # Errors
/// A variable without a value, a text with broken escapes, a number out of range.
pub(crate) fn bind<'a>(ast: &'a Ast, variables: &FilterVariables) -> Result<BoundFilter<'a>, FilterError> {
    let mut constants = Vec::with_capacity(ast.nodes.len());
    let mut known: HashMap<&NodeKind, Constant> = HashMap::new();
    let mut bytes = 0usize;
    for node in &ast.nodes {
        let at = |reason: String| FilterError::new(node.span.clone(), reason);
        let constant = match &node.kind {
            NodeKind::Boolean(value) => Constant::Boolean(*value),
            NodeKind::Null => Constant::Null,
            NodeKind::Number(text) => Constant::Number(Number::parse(text).map_err(at)?),
            NodeKind::Text(text) => Constant::Text(text.as_str().into()),
            NodeKind::BadText(_, reason) => return Err(at(reason.clone())),
            variable @ (NodeKind::Named(_) | NodeKind::Positional(_)) => match known.get(variable) {
                Some(constant) => constant.clone(),
                None => {
                    let constant = value_of(variable, variables).map_err(at)?;
                    known.insert(variable, constant.clone());
                    constant
                }
            },
            _ => {
                constants.push(None);
                continue;
            }
        };
        // A plan holds a copy for each use.
        if let Constant::Text(text) = &constant {
            bytes = bytes.saturating_add(text.len());
            if bytes > MAX_BOUND_BYTES {
                return Err(at(format!("the texts of the filter come to more than {MAX_BOUND_BYTES} bytes")));
            }
        }
        constants.push(Some(constant));
    }
    Ok(BoundFilter { ast, constants })
}

fn value_of(variable: &NodeKind, variables: &FilterVariables) -> Result<Constant, String> {
    let (shown, value) = match variable {
        NodeKind::Positional(index) => {
            let value = variables.positional.get(*index);
            let value = value.ok_or_else(|| {
                let given = variables.positional.len();
                let only_named = given == 0 && !variables.named.is_empty();
                let hint = if only_named { "; the variables given have names" } else { "" };
                format!("`?` number {} has no value: {given} positional variables are given{hint}", index + 1)
            })?;
            (format!("`?` number {}", index + 1), value)
        }
        NodeKind::Named(name) => {
            let shown = format!("`${}`", cut(name, 40));
            let value = variables.named.get(name).ok_or_else(|| {
                let given: Vec<String> =
                    variables.named.keys().take(8).map(|name| format!("${}", cut(name, 40))).collect();
                match (given.is_empty(), variables.positional.len()) {
                    (false, _) => format!("{shown} has no value; given are {}", given.join(", ")),
                    (true, 0) => format!("{shown} has no value: no variables are given"),
                    (true, _) => format!("{shown} has no value: the variables given have no names"),
                }
            })?;
            (shown, value)
        }
        _ => return Err("found no variable".to_owned()),
    };
    Ok(match value {
        FilterValue::Null => {
            return Err(format!("{shown} is null; nothing equals null, write `is null` to test for it"));
        }
        FilterValue::Boolean(value) => Constant::Boolean(*value),
        FilterValue::Integer(value) => Constant::Number(Number::from_integer((*value).into())),
        FilterValue::Unsigned(value) => Constant::Number(Number::from_integer((*value).into())),
        FilterValue::Float(value) => {
            let number = Number::from_double(*value).map_err(|reason| format!("{shown}: {reason}"))?;
            Constant::Number(number)
        }
        FilterValue::Text(text) => Constant::Text(text.as_str().into()),
        FilterValue::Timestamp(value) => Constant::Timestamp(*value),
        FilterValue::Date(value) => Constant::Date(*value),
        FilterValue::Time(value) => Constant::Time(*value),
    })
}
