//! Plans of filters without DataFusion's optimizer, which takes most of the time of a small query.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::DFSchema;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_optimizer::projection_pushdown::ProjectionPushdown;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::{ExecutionPlan, collect_partitioned};
use datafusion::prelude::SessionContext;
use datafusion_odp::OdpTableProvider;

use crate::fixtures::Result;

/// Plans filters over one schema.
pub(crate) struct Planner {
    state: SessionState,
    pub(crate) schema: SchemaRef,
    df_schema: DFSchema,
}

impl Planner {
    pub(crate) fn new(ctx: &SessionContext, schema: &SchemaRef) -> Result<Self> {
        let df_schema = DFSchema::try_from(Arc::clone(schema))?;
        Ok(Self { state: ctx.state(), schema: Arc::clone(schema), df_schema })
    }

    /// As the optimizer leaves it: constants across the antimeridian are unwrapped there.
    fn logical(&self, sql: &str) -> Result<Expr> {
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(self.df_schema.clone()))
            .with_config_options(Arc::clone(self.state.config_options()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let filter = self.state.create_logical_expr(sql, &self.df_schema)?;
        Ok(simplifier.simplify(simplifier.coerce(filter, &self.df_schema)?)?)
    }

    fn physical(&self, filter: Expr) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(self.state.create_physical_expr(filter, &self.df_schema)?)
    }

    /// What a filter is in each row.
    pub(crate) fn truth(&self, sql: &str, rows: &RecordBatch) -> Result<Vec<Option<bool>>> {
        let values = self.physical(self.logical(sql)?)?.evaluate(rows)?.into_array(rows.num_rows())?;
        Ok(values.as_boolean().iter().collect())
    }

    /// The answer to `SELECT id FROM table WHERE sql`, the filters pushed down as in a query.
    pub(crate) async fn ids(&self, table: &OdpTableProvider, sql: &str) -> Result<Vec<i64>> {
        let filter = self.logical(sql)?;
        let conjuncts: Vec<Expr> = split_conjunction(&filter).into_iter().cloned().collect();
        let scan = table.scan(&self.state, None, &conjuncts, None).await?;
        let filtered = Arc::new(FilterExec::try_new(self.physical(filter)?, scan)?);
        let id: Arc<dyn PhysicalExpr> = Arc::new(Column::new_with_schema("id", &self.schema)?);
        let mut plan: Arc<dyn ExecutionPlan> =
            Arc::new(ProjectionExec::try_new([(id, "id".to_owned())], filtered)?);
        for rule in [&FilterPushdown::new() as &dyn PhysicalOptimizerRule, &ProjectionPushdown::new()] {
            plan = rule.optimize(plan, self.state.config_options())?;
        }
        // Partitions follow each other in the order of the source.
        let rows = collect_partitioned(plan, self.state.task_ctx()).await?;
        Ok(int64s(&rows.concat()))
    }
}

/// The first column of all rows.
pub(crate) fn int64s(rows: &[RecordBatch]) -> Vec<i64> {
    rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}
