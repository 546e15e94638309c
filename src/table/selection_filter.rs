//! What a selection selects by.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{Expr, Volatility};

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
