//! Adds everything this crate offers to a session.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::context::SessionContext;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_optimizer::PhysicalOptimizerRule;

use crate::aggregate::{GroupByCodesRule, GroupsApartRule};
use crate::date_part::DatePartRewrite;
use crate::geo::{SpatialJoinRule, scalar_functions};
use crate::options::OdpOptions;
use crate::scan::{OrderedConcatRule, ProvenFilterRule};
use crate::sink::LastWrite;
use crate::table::{
    AnalyzeFunction, BatchesFunction, CleanFunction, FilesFunction, OdpFormatFactory, OdpTableFactory,
    OpenTicketFunction, SelectFunction, TicketsFunction, WriteReportFunction,
};

/// Registers with `ctx`: `CREATE EXTERNAL TABLE … STORED AS ODP`, `COPY … STORED AS ODP`, the spatial functions, the table functions
/// `odp_batches`, `odp_files`, `odp_select`, `odp_tickets`, `odp_ticket`, `odp_analyze`, `odp_write_report` and `odp_clean`, the optimizer rules for ordered output and for
/// joins with constant areas, and the settings `odp.…`.
///
/// Registering twice changes nothing; settings that were changed stay.
///
/// # Errors
/// None today: the result leaves room for functions that can fail to register.
///
/// ```
/// use datafusion::prelude::SessionContext;
///
/// # fn main() -> datafusion::error::Result<()> {
/// let ctx = SessionContext::new();
/// datafusion_odp::register(&ctx)?;
/// # Ok(())
/// # }
/// ```
pub fn register(ctx: &SessionContext) -> Result<()> {
    let state_ref = ctx.state_ref();
    let mut state = state_ref.write();
    if state.config().options().extensions.get::<OdpOptions>().is_none() {
        state.config_mut().options_mut().extensions.insert(OdpOptions::default());
    }
    if state.config().get_extension::<LastWrite>().is_none() {
        state.config_mut().set_extension(Arc::new(LastWrite::default()));
    }
    state.register_file_format(Arc::new(OdpFormatFactory::default()), true)?;
    state.table_factories_mut().insert("ODP".to_owned(), Arc::new(OdpTableFactory));
    let is_placed = state.physical_optimizers().iter().any(|rule| rule.name() == OrderedConcatRule.name());
    if !is_placed {
        let extended = SessionStateBuilder::new_from_existing(state.clone())
            .with_physical_optimizer_rule(Arc::new(ProvenFilterRule))
            .with_physical_optimizer_rule(Arc::new(OrderedConcatRule))
            .with_physical_optimizer_rule(Arc::new(GroupsApartRule))
            .with_physical_optimizer_rule(Arc::new(GroupByCodesRule))
            .build();
        *state = extended;
    }
    let is_analyzed = state.analyzer().rules.iter().any(|rule| rule.name() == SpatialJoinRule.name());
    if !is_analyzed {
        state.add_analyzer_rule(Arc::new(SpatialJoinRule));
    }
    let rewrites = state.analyzer().function_rewrites();
    if !rewrites.iter().any(|rewrite| rewrite.name() == DatePartRewrite.name()) {
        state.register_function_rewrite(Arc::new(DatePartRewrite))?;
    }
    drop(state);
    for function in scalar_functions() {
        ctx.register_udf(function);
    }
    ctx.register_udtf("odp_batches", Arc::new(BatchesFunction));
    ctx.register_udtf("odp_files", Arc::new(FilesFunction));
    ctx.register_udtf("odp_analyze", Arc::new(AnalyzeFunction));
    ctx.register_udtf("odp_select", Arc::new(SelectFunction));
    ctx.register_udtf("odp_tickets", Arc::new(TicketsFunction));
    ctx.register_udtf("odp_ticket", Arc::new(OpenTicketFunction));
    ctx.register_udtf("odp_clean", Arc::new(CleanFunction));
    ctx.register_udtf("odp_write_report", Arc::new(WriteReportFunction));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registering_twice_rewrites_once() {
        let ctx = SessionContext::new();
        register(&ctx).unwrap();
        register(&ctx).unwrap();
        let state = ctx.state();
        let rewrites = state.analyzer().function_rewrites();
        assert_eq!(rewrites.iter().filter(|r| r.name() == DatePartRewrite.name()).count(), 1);
    }
}
