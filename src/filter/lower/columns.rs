//! Names of columns, and of members of struct columns.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::Column;
use datafusion::functions::core::get_field;
use datafusion::logical_expr::{Expr, lit};

use crate::filter::language::ast::NodeId;
use crate::filter::language::{FilterError, cut};
use crate::filter::lower::{Lowering, Operand, Value};

/// Names with dots between them, before it is known which of the dots belong to a column's name.
#[derive(Debug)]
pub(super) struct Path {
    names: Vec<String>,
}

impl Path {
    pub(super) fn new(name: &str) -> Self {
        Self { names: vec![name.to_owned()] }
    }
}

impl Lowering<'_> {
    pub(super) fn member(&mut self, base: NodeId, name: &str) -> Result<Operand, FilterError> {
        match self.take(base)? {
            Operand::Path(mut path) => {
                path.names.push(name.to_owned());
                Ok(Operand::Path(path))
            }
            Operand::Value(value) => self.member_of(value, name, base).map(Operand::Value),
            Operand::Constant(_) | Operand::Chain(_) => {
                Err(self.error(base, format!("`{}` has no members", self.written(base))))
            }
        }
    }

    /// The column of the longest name, and the members after it.
    pub(super) fn resolve(&mut self, path: &Path, id: NodeId) -> Result<Value, FilterError> {
        for end in (1..=path.names.len()).rev() {
            let (column, members) = path.names.split_at(end);
            let column = column.join(".");
            let Some((_, field)) = self.schema.column_with_name(&column) else { continue };
            self.columns.insert(column.clone());
            let mut value = Value {
                expr: Expr::Column(Column::from_name(column)),
                data_type: field.data_type().clone(),
                field: Some(Arc::new(field.clone())),
            };
            for member in members {
                value = self.member_of(value, member, id)?;
            }
            return Ok(value);
        }
        let name = path.names.join(".");
        let hint = self.similar(&name);
        Err(self.error(id, format!("there is no column `{}`{hint}", cut(&name, 80))))
    }

    fn member_of(&self, value: Value, name: &str, id: NodeId) -> Result<Value, FilterError> {
        let DataType::Struct(members) = &value.data_type else {
            let reason = format!(
                "`{}` has no member `{}`: it is {}, expected a struct",
                value.expr,
                cut(name, 40),
                value.data_type
            );
            return Err(self.error(id, reason));
        };
        let Some((_, member)) = members.find(name) else {
            let names: Vec<&str> = members.iter().take(12).map(|member| member.name().as_str()).collect();
            let reason = format!(
                "`{}` has no member `{}`; its members are {}",
                value.expr,
                cut(name, 40),
                names.join(", ")
            );
            return Err(self.error(id, reason));
        };
        let member = Arc::clone(member);
        Ok(Value {
            expr: get_field().call(vec![value.expr, lit(name)]),
            data_type: member.data_type().clone(),
            field: Some(member),
        })
    }

    /// "; did you mean …", if a column is called almost so, or the names of the columns.
    fn similar(&self, name: &str) -> String {
        let lower = name.to_lowercase();
        let distance = |field: &Field| {
            let other = field.name();
            if other.to_lowercase() == lower {
                return Some(0);
            }
            let limit = (name.chars().count().min(other.chars().count()) + 1) / 3;
            Some(edit_distance(name, other)).filter(|distance| *distance <= limit.min(3))
        };
        let fields = self.schema.fields();
        let nearest = fields.iter().filter_map(|field| Some((distance(field)?, field.name()))).min();
        if let Some((_, nearest)) = nearest {
            return format!("; did you mean `{nearest}`?");
        }
        let names: Vec<&str> = fields.iter().take(12).map(|field| field.name().as_str()).collect();
        let more = if fields.len() > names.len() { ", …" } else { "" };
        format!("; the columns are {}{more}", names.join(", "))
    }
}

/// How many characters must be put in, left out or replaced to make one name of the other.
fn edit_distance(a: &str, b: &str) -> usize {
    if a.len().max(b.len()) > 200 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(c != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
