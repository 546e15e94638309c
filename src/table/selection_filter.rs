//! What a selection selects by.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::sql::sqlparser::dialect::dialect_from_str;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// A filter of a selection: ODP text, SQL text, an [`Expr`], or none.
///
/// `&str` and `String` are ODP text. Whatever the form, a row for which it is false or NULL does not match.
///
/// ```
/// use datafusion::prelude::{col, lit};
/// use datafusion_odp::SelectionFilter;
///
/// let odp: SelectionFilter = "depth_m > 100 and quality == 'good'".into();
/// let sql = SelectionFilter::sql("depth_m BETWEEN 100 AND 200");
/// let expr: SelectionFilter = col("depth_m").gt(lit(100)).into();
/// let all = SelectionFilter::all();
/// ```
#[derive(Debug, Clone, Default)]
pub struct SelectionFilter(pub(super) FilterSource);

#[derive(Debug, Clone, Default)]
pub(super) enum FilterSource {
    #[default]
    All,
    Odp(String),
    Sql(String),
    Expr(Box<Expr>),
}

impl SelectionFilter {
    /// Every row.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// A text in the ODP filter language.
    #[must_use]
    pub fn odp(text: impl Into<String>) -> Self {
        Self(FilterSource::Odp(text.into()))
    }

    /// A boolean SQL expression over the table's columns, as after WHERE, in the session's dialect and functions.
    ///
    /// At most 4 MiB, and 2,000 words and signs in a row without a comma: `x IN (…)` may be as long as it wants, `x = 1 OR
    /// x = 2 OR …` not.
    #[must_use]
    pub fn sql(text: impl Into<String>) -> Self {
        Self(FilterSource::Sql(text.into()))
    }
}

impl From<&str> for SelectionFilter {
    fn from(text: &str) -> Self {
        Self::odp(text)
    }
}

impl From<&String> for SelectionFilter {
    fn from(text: &String) -> Self {
        Self::odp(text)
    }
}

impl From<String> for SelectionFilter {
    fn from(text: String) -> Self {
        Self::odp(text)
    }
}

impl From<Expr> for SelectionFilter {
    fn from(expr: Expr) -> Self {
        Self(FilterSource::Expr(Box::new(expr)))
    }
}

/// Longest SQL filter, in bytes.
const MAX_SQL: usize = 4 << 20;

/// Most words and signs of a SQL filter that may depend on each other: `a OR b OR c …` nests as deep as it has operators,
/// and what is nested too deep overflows the stack.
const MAX_CHAIN: usize = 2000;

/// A SQL filter over columns of `schema`.
///
/// # Errors
/// A planning error for a text that is no expression, or that nests too deep.
pub(super) fn read_sql(state: &SessionState, text: &str, schema: &SchemaRef) -> Result<Expr> {
    check_size(state, text)?;
    state.create_logical_expr(text, &DFSchema::try_from(Arc::clone(schema))?)
}

fn check_size(state: &SessionState, text: &str) -> Result<()> {
    if text.len() > MAX_SQL {
        return plan_err!("a SQL filter has at most {MAX_SQL} bytes, this one has {}", text.len());
    }
    let Some(dialect) = dialect_from_str(state.config_options().sql_parser.dialect) else { return Ok(()) };
    // What is no SQL is for the parser to say.
    let Ok(tokens) = Tokenizer::new(dialect.as_ref(), text).tokenize() else { return Ok(()) };
    // Of each bracket that is open, what stands in it since the last comma; and all of these together.
    let (mut open, mut chain) = (vec![], 0);
    let mut here = 0;
    for token in tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::Comma => {
                chain -= here;
                here = 0;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                chain -= here;
                here = open.pop().unwrap_or_default();
            }
            token => {
                (here, chain) = (here + 1, chain + 1);
                if matches!(token, Token::LParen | Token::LBracket | Token::LBrace) {
                    open.push(std::mem::take(&mut here));
                }
            }
        }
        if chain > MAX_CHAIN {
            return plan_err!(
                "a SQL filter has at most {MAX_CHAIN} words and signs in a row without a comma; write x IN (1, 2, …) for \
                 long lists, or the filter in the ODP language"
            );
        }
    }
    Ok(())
}

/// # Errors
/// If `filter` is not decided by one row alone, or not the same whenever it is asked.
pub(super) fn check_filter(filter: &Expr) -> Result<()> {
    filter.apply(|node| {
        match node {
            Expr::AggregateFunction(_) | Expr::GroupingSet(_) => {
                return plan_err!(
                    "a selection's filter sees one row at a time: it cannot aggregate ({node})"
                );
            }
            Expr::WindowFunction(_) => {
                return plan_err!("a selection's filter sees one row at a time: it has no window ({node})");
            }
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::ScalarSubquery(_)
            | Expr::OuterReferenceColumn(..) => {
                return plan_err!("a selection's filter cannot hold a subquery ({node})");
            }
            Expr::Placeholder(placeholder) => {
                return plan_err!("no value is bound to {} in the filter", placeholder.id);
            }
            Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Volatile => {
                return plan_err!("a selection's filter must give the same answer again: {node} does not");
            }
            Expr::Unnest(_) => {
                return plan_err!(
                    "a selection's filter gives one answer for each row: {node} may give several"
                );
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// Whether `filter` may give another answer in another session, or tomorrow.
pub(super) fn reads_session(filter: &Expr) -> bool {
    let mut found = false;
    let visited = filter.apply(|node| {
        found |= match node {
            Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
            Expr::ScalarVariable(..) => true,
            _ => false,
        };
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    visited.is_err() || found
}
