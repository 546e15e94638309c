//! The states of aggregate functions, for groups of rows: DataFusion's own, but for those that need to know how many rows there
//! are, which is known of each group, and those that share a pass over a column of floats.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::Schema;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::{Result, internal_err};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::aggregates::{AggregateExec, aggregate_expressions};

use super::float_states::{FloatStates, Moment};
use super::group_of_row::GroupOfRow;
use super::rows_of_groups::{Missing, too_many};

/// The states of some aggregate functions.
pub(super) struct GroupStates {
    functions: Vec<Function>,
    /// What some of these share.
    floats: Vec<FloatStates>,
}

struct Function {
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    states: States,
}

enum States {
    /// `count`: the rows of a group, but for those without a value.
    Count(Missing),
    /// `avg` of floats at a position of those that are shared.
    Mean(usize),
    /// `sum`, `min` or `max` of these.
    Float(usize, Moment),
    Other(Box<dyn GroupsAccumulator>),
}

impl GroupStates {
    /// Those of the functions of `aggregate`.
    ///
    /// # Errors
    /// If DataFusion has none for one of them.
    pub(super) fn try_new(aggregate: &AggregateExec) -> Result<Self> {
        let functions = aggregate.aggr_expr();
        let arguments = aggregate_expressions(functions, aggregate.mode(), 1)?;
        let schema = aggregate.input().schema();
        let mut floats = vec![];
        let functions = functions.iter().zip(arguments).zip(aggregate.filter_expr());
        let functions = functions.map(|((function, arguments), filter)| {
            let states = match filter {
                None => States::try_new(function, &arguments, &schema, &mut floats)?,
                Some(_) => States::Other(function.create_groups_accumulator()?),
            };
            Ok(Function { arguments, filter: filter.clone(), states })
        });
        Ok(Self { functions: functions.collect::<Result<_>>()?, floats })
    }

    /// Functions that do not count rows on their own.
    pub(super) fn uncounting(&self) -> usize {
        let counts = |function: &&Function| matches!(function.states, States::Count(_) | States::Mean(_));
        self.functions.iter().filter(counts).count()
    }

    /// Functions that do not look at values, since others do.
    pub(super) fn sharing(&self) -> usize {
        let shares = |function: &&Function| matches!(function.states, States::Mean(_) | States::Float(..));
        self.functions.iter().filter(shares).count() - self.floats.len()
    }

    /// Adds `rows`, each to its group.
    ///
    /// # Errors
    /// What arguments and filters give.
    pub(super) fn update(&mut self, rows: &RecordBatch, groups: &GroupOfRow) -> Result<()> {
        self.floats.iter_mut().try_for_each(|floats| floats.update(rows, groups))?;
        self.functions.iter_mut().try_for_each(|function| function.update(rows, groups))
    }

    /// The states of all groups, which have so many `rows`, and are forgotten, one column after the other.
    ///
    /// # Errors
    /// None but those of DataFusion.
    pub(super) fn take(&mut self, rows: &[u64]) -> Result<Vec<ArrayRef>> {
        let floats = self.floats.iter_mut().map(|floats| floats.take(rows)).collect::<Result<Vec<_>>>()?;
        let mut columns = vec![];
        for function in &mut self.functions {
            match &mut function.states {
                States::Count(missing) => {
                    let counts = missing.take(rows)?.into_iter();
                    let counts = counts.map(|count| i64::try_from(count).map_err(|_| too_many()));
                    let counts: Vec<i64> = counts.collect::<Result<_>>()?;
                    columns.push(Arc::new(Int64Array::from(counts)) as ArrayRef);
                }
                States::Mean(at) => {
                    let Some(floats) = floats.get(*at) else { return internal_err!("no floats to share") };
                    let counts = floats.counts.clone();
                    columns.push(Arc::new(UInt64Array::try_new(counts.into(), floats.nulls.clone())?));
                    columns.push(floats.of(Moment::Sum)?);
                }
                States::Float(at, moment) => {
                    let Some(floats) = floats.get(*at) else { return internal_err!("no floats to share") };
                    columns.push(floats.of(*moment)?);
                }
                States::Other(states) => columns.extend(states.state(EmitTo::All)?),
            }
        }
        Ok(columns)
    }

    /// Bytes of memory.
    pub(super) fn size(&self) -> usize {
        let of_functions = self.functions.iter().map(|function| match &function.states {
            States::Count(missing) => missing.size(),
            States::Mean(_) | States::Float(..) => 0,
            States::Other(states) => states.size(),
        });
        of_functions.sum::<usize>() + self.floats.iter().map(FloatStates::size).sum::<usize>()
    }
}

impl States {
    fn try_new(
        function: &AggregateFunctionExpr,
        arguments: &[Arc<dyn PhysicalExpr>],
        schema: &Schema,
        floats: &mut Vec<FloatStates>,
    ) -> Result<Self> {
        let [argument] = arguments else { return Ok(Self::Other(function.create_groups_accumulator()?)) };
        if function.is_distinct() {
            return Ok(Self::Other(function.create_groups_accumulator()?));
        }
        let name = function.fun();
        if *name == *count_udaf() {
            return Ok(Self::Count(Missing::default()));
        }
        let moment = match name {
            name if *name == *avg_udaf() || *name == *sum_udaf() => Moment::Sum,
            name if *name == *min_udaf() => Moment::Least,
            name if *name == *max_udaf() => Moment::Greatest,
            _ => return Ok(Self::Other(function.create_groups_accumulator()?)),
        };
        let at = match floats.iter().position(|floats| floats.is_of(argument)) {
            Some(at) => at,
            None => {
                let Some(of_argument) = FloatStates::try_new(argument, schema)? else {
                    return Ok(Self::Other(function.create_groups_accumulator()?));
                };
                floats.push(of_argument);
                floats.len() - 1
            }
        };
        floats[at].ask_for(moment);
        Ok(if *name == *avg_udaf() { Self::Mean(at) } else { Self::Float(at, moment) })
    }
}

impl Function {
    fn update(&mut self, rows: &RecordBatch, groups: &GroupOfRow) -> Result<()> {
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(rows)?.into_array(rows.num_rows());
        match &mut self.states {
            States::Mean(_) | States::Float(..) => {}
            States::Count(missing) => {
                let [argument] = self.arguments.as_slice() else {
                    return internal_err!("count has one argument");
                };
                if argument.downcast_ref::<Literal>().is_none_or(|literal| literal.value().is_null()) {
                    let nulls = evaluate(argument)?.logical_nulls();
                    if let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) {
                        missing.note(&nulls, groups);
                    }
                }
            }
            States::Other(states) => {
                let arguments = self.arguments.iter().map(evaluate).collect::<Result<Vec<ArrayRef>>>()?;
                let filter =
                    self.filter.as_ref().map(|filter| filter.evaluate(rows)?.into_array(rows.num_rows()));
                let filter = filter.transpose()?;
                let filter = filter.as_ref().map(|filter| as_boolean_array(filter)).transpose()?;
                states.update_batch(&arguments, groups.list(), filter, groups.len)?;
            }
        }
        Ok(())
    }
}
