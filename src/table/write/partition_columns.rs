//! The option `partition_by`: columns, or expressions that become columns, such as `year(time)`.

use std::sync::Arc;

use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;

/// Parts of a time that are short for `date_part('…', …)`.
const TIME_PARTS: [&str; 6] = ["year", "quarter", "month", "week", "day", "hour"];

/// `input` with a column more for each of `texts` that is no column of it, and the names of all of them.
///
/// # Errors
/// For text that is no expression over the columns, an expression without a name, and a name that is taken.
pub(super) fn with_partition_columns(
    state: &SessionState,
    input: Arc<dyn ExecutionPlan>,
    texts: &[String],
) -> Result<(Arc<dyn ExecutionPlan>, Vec<String>)> {
    let schema = input.schema();
    let df_schema = DFSchema::try_from(Arc::clone(&schema))?;
    let mut names = Vec::with_capacity(texts.len());
    let mut added: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
    for text in texts {
        if schema.field_with_name(text).is_ok() {
            names.push(text.clone());
            continue;
        }
        let (name, expr) = match state.create_logical_expr(&time_part(state, text), &df_schema)? {
            Expr::Column(column) => {
                names.push(column.name);
                continue;
            }
            Expr::Alias(alias) => (alias.name, *alias.expr),
            _ => return plan_err!("partition_by needs a name for {text:?}: write {text} AS name"),
        };
        if schema.field_with_name(&name).is_ok() || names.contains(&name) {
            return plan_err!("partition_by gives {text:?} the name {name:?}, which is taken");
        }
        added.push((state.create_physical_expr(expr, &df_schema)?, name.clone()));
        names.push(name);
    }
    if added.is_empty() {
        return Ok((input, names));
    }
    let columns = schema.fields().iter().enumerate().map(|(i, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), i));
        (column, field.name().clone())
    });
    let all: Vec<_> = columns.chain(added).collect();
    Ok((Arc::new(ProjectionExec::try_new(all, input)?), names))
}

/// `year(t)` as `CAST(date_part('year', t) AS INT) AS year`, unless the session has a function of that name.
fn time_part(state: &SessionState, text: &str) -> String {
    let call = text.trim().strip_suffix(')').and_then(|text| text.split_once('('));
    match call {
        Some((part, time)) => {
            let part = part.trim().to_ascii_lowercase();
            match TIME_PARTS.contains(&part.as_str()) && state.udf(&part).is_err() {
                true => format!("CAST(date_part('{part}', {time}) AS INT) AS \"{part}\""),
                false => text.to_owned(),
            }
        }
        None => text.to_owned(),
    }
}
