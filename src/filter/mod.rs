//! Stand-in until the language is merged.
#![allow(missing_docs, clippy::allow_attributes)]
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::Expr;

use crate::error::OdpError;

#[derive(Default, Clone, Debug)]
pub struct FilterVariables(Vec<(Option<String>, FilterValue)>);
#[derive(Clone, Debug)]
pub enum FilterValue {
    Integer(i64),
    Text(String),
}
impl From<i64> for FilterValue {
    fn from(v: i64) -> Self {
        Self::Integer(v)
    }
}
impl From<&str> for FilterValue {
    fn from(v: &str) -> Self {
        Self::Text(v.into())
    }
}
impl FilterVariables {
    pub fn from_json(_: &str) -> Result<Self, OdpError> {
        Ok(Self::default())
    }
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<FilterValue>) {
        self.0.push((Some(name.into()), value.into()));
    }
    pub fn push(&mut self, value: impl Into<FilterValue>) {
        self.0.push((None, value.into()));
    }
    pub fn to_json(&self) -> String {
        "{}".into()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
pub(crate) struct OdpFilter {
    pub(crate) expr: Expr,
    pub(crate) warnings: Vec<String>,
}
pub(crate) fn lower_filter(
    text: &str,
    _variables: &FilterVariables,
    schema: &SchemaRef,
) -> Result<OdpFilter, OdpError> {
    use datafusion::prelude::*;
    // "column op integer" only
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [name, op, value] = parts[..] else {
        return Err(OdpError::Unsupported { what: "language".into() });
    };
    let _ = schema;
    let value = lit(value.parse::<i64>().unwrap_or(750));
    let expr = match op {
        ">" => ident(name).gt(value),
        _ => ident(name).lt(value),
    };
    Ok(OdpFilter { expr, warnings: vec![] })
}
