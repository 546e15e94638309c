//! The states of aggregate functions, for groups of rows: DataFusion's own, but for those that need to know how many rows there
//! are, which is known of each group.

use std::mem::{size_of, take};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Float64Type, Schema};
use datafusion::common::cast::{as_boolean_array, as_int64_array};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{CastExpr, Literal};
use datafusion::physical_plan::aggregates::{AggregateExec, aggregate_expressions};

/// The states of some aggregate functions.
pub(super) struct GroupStates {
    functions: Vec<Function>,
}

struct Function {
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    states: States,
}

enum States {
    /// `count`: the rows of a group, but for those without a value.
    Count(Missing),
    /// `avg` of floats: the same, and the sum.
    Mean(Missing, Box<dyn GroupsAccumulator>),
    Other(Box<dyn GroupsAccumulator>),
}

/// Rows of each group that have no value; of groups that are not here, none.
#[derive(Default)]
struct Missing(Vec<u64>);

impl GroupStates {
    /// Those of the functions of `aggregate`.
    ///
    /// # Errors
    /// If DataFusion has none for one of them.
    pub(super) fn try_new(aggregate: &AggregateExec) -> Result<Self> {
        let functions = aggregate.aggr_expr();
        let arguments = aggregate_expressions(functions, aggregate.mode(), 1)?;
        let schema = aggregate.input().schema();
        let functions = functions.iter().zip(arguments).zip(aggregate.filter_expr());
        let functions = functions.map(|((function, arguments), filter)| {
            let states = match filter {
                None => States::try_new(function, &arguments, &schema)?,
                Some(_) => States::Other(function.create_groups_accumulator()?),
            };
            Ok(Function { arguments, filter: filter.clone(), states })
        });
        Ok(Self { functions: functions.collect::<Result<_>>()? })
    }

    /// Functions that do not count rows on their own.
    pub(super) fn uncounting(&self) -> usize {
        self.functions.iter().filter(|function| !matches!(function.states, States::Other(_))).count()
    }

    /// Adds `rows`, each to one of `len` groups.
    ///
    /// # Errors
    /// What arguments and filters give.
    pub(super) fn update(&mut self, rows: &RecordBatch, groups: &[usize], len: usize) -> Result<()> {
        self.functions.iter_mut().try_for_each(|function| function.update(rows, groups, len))
    }

    /// The states of all groups, which have so many `rows`, and are forgotten, one column after the other.
    ///
    /// # Errors
    /// None but those of DataFusion.
    pub(super) fn take(&mut self, rows: &[u64]) -> Result<Vec<ArrayRef>> {
        let mut columns = vec![];
        for function in &mut self.functions {
            match &mut function.states {
                States::Count(missing) => {
                    let counts = missing.take(rows)?.into_iter();
                    let counts = counts.map(|count| i64::try_from(count).map_err(|_| too_many()));
                    let counts: Vec<i64> = counts.collect::<Result<_>>()?;
                    columns.push(Arc::new(Int64Array::from(counts)) as ArrayRef);
                }
                States::Mean(missing, sums) => {
                    let sums = sums.state(EmitTo::All)?;
                    let nulls = sums.first().and_then(|sums| sums.nulls()).cloned();
                    columns.push(Arc::new(UInt64Array::try_new(missing.take(rows)?.into(), nulls)?));
                    columns.extend(sums);
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
            States::Mean(missing, sums) => missing.size() + sums.size(),
            States::Other(states) => states.size(),
        });
        of_functions.sum()
    }
}

impl States {
    fn try_new(
        function: &AggregateFunctionExpr,
        arguments: &[Arc<dyn PhysicalExpr>],
        schema: &Arc<Schema>,
    ) -> Result<Self> {
        if let [argument] = arguments
            && !function.is_distinct()
        {
            if *function.fun() == *count_udaf() {
                return Ok(Self::Count(Missing::default()));
            }
            if *function.fun() == *avg_udaf() && argument.data_type(schema)? == DataType::Float64 {
                let sum = AggregateExprBuilder::new(sum_udaf(), vec![Arc::clone(argument)]);
                let sum = sum.schema(Arc::clone(schema)).alias(function.name()).build()?;
                return Ok(Self::Mean(Missing::default(), sum.create_groups_accumulator()?));
            }
        }
        Ok(Self::Other(function.create_groups_accumulator()?))
    }
}

impl Function {
    fn update(&mut self, rows: &RecordBatch, groups: &[usize], len: usize) -> Result<()> {
        if let (States::Count(_), [argument]) = (&self.states, self.arguments.as_slice())
            && argument.downcast_ref::<Literal>().is_some_and(|literal| !literal.value().is_null())
        {
            return Ok(());
        }
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| evaluate(expr, rows);
        let arguments = self.arguments.iter().map(evaluate).collect::<Result<Vec<ArrayRef>>>()?;
        match &mut self.states {
            States::Count(missing) => {
                missing.note(&arguments, groups, len);
                Ok(())
            }
            States::Mean(missing, sums) => {
                missing.note(&arguments, groups, len);
                sums.update_batch(&arguments, groups, None, len)
            }
            States::Other(states) => {
                let filter =
                    self.filter.as_ref().map(|filter| filter.evaluate(rows)?.into_array(rows.num_rows()));
                let filter = filter.transpose()?;
                let filter = filter.as_ref().map(|filter| as_boolean_array(filter)).transpose()?;
                states.update_batch(&arguments, groups, filter, len)
            }
        }
    }
}

impl Missing {
    fn note(&mut self, arguments: &[ArrayRef], groups: &[usize], len: usize) {
        let nulls = arguments.first().and_then(|values| values.logical_nulls());
        let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else { return };
        self.0.resize(len, 0);
        for (&group, _) in groups.iter().zip(&nulls).filter(|(_, is_there)| !is_there) {
            self.0[group] += 1;
        }
    }

    /// How many of `rows` have a value, of each group; forgets it.
    fn take(&mut self, rows: &[u64]) -> Result<Vec<u64>> {
        let missing = take(&mut self.0).into_iter().chain(std::iter::repeat(0));
        let counts = rows.iter().zip(missing).map(|(rows, missing)| rows.checked_sub(missing));
        counts.map(|count| count.ok_or_else(too_many)).collect()
    }

    fn size(&self) -> usize {
        size_of::<u64>() * self.0.capacity()
    }
}

/// The values of `expr`. A cast of whole numbers to floats, which is what their mean comes with, is made without a test of each.
fn evaluate(expr: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<ArrayRef> {
    if let Some(cast) = expr.downcast_ref::<CastExpr>()
        && *cast.cast_type() == DataType::Float64
        && cast.expr().data_type(&rows.schema())? == DataType::Int64
    {
        let values = cast.expr().evaluate(rows)?.into_array(rows.num_rows())?;
        return Ok(Arc::new(as_int64_array(&values)?.unary::<_, Float64Type>(|value| value as f64)));
    }
    expr.evaluate(rows)?.into_array(rows.num_rows())
}

fn too_many() -> DataFusionError {
    internal_datafusion_err!("a group has more rows than were counted")
}
