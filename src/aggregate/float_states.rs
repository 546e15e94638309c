//! Sums and bounds of floats, for groups of rows, in one pass over their values.
//!
//! What they come to is what DataFusion's accumulators come to, each of which makes a pass of its own: values are added and
//! compared in the same order.

use std::cmp::Ordering;
use std::mem::{size_of, take};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::CastExpr;
use datafusion::physical_expr_common::physical_expr::is_volatile;

use super::group_of_row::{GroupOfRow, GroupVisitor};
use super::rows_of_groups::Missing;

/// What is known of the values of an expression that gives floats, for each group.
pub(super) struct FloatStates {
    argument: Arc<dyn PhysicalExpr>,
    /// What is evaluated: `argument`, or what it casts, if that is whole numbers.
    values: Arc<dyn PhysicalExpr>,
    states: States,
    missing: Missing,
}

enum States {
    Sums(Vec<f64>),
    /// Where more is asked for.
    Moments(Vec<Moments>),
}

#[derive(Debug, Clone, Copy)]
struct Moments {
    sum: f64,
    least: f64,
    greatest: f64,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Sum,
    Least,
    Greatest,
}

/// What [`FloatStates`] had.
pub(super) struct TakenStates {
    /// How many values each group has.
    pub(super) counts: Vec<u64>,
    /// Groups without values have none.
    pub(super) nulls: Option<NullBuffer>,
    states: States,
}

impl FloatStates {
    /// `None` if `argument` gives no floats, or others each time.
    ///
    /// # Errors
    /// If it is not of `schema`.
    pub(super) fn try_new(argument: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Option<Self>> {
        if argument.data_type(schema)? != DataType::Float64 || is_volatile(argument) {
            return Ok(None);
        }
        let values = match argument.downcast_ref::<CastExpr>() {
            Some(cast) if cast.expr().data_type(schema)? == DataType::Int64 => cast.expr(),
            _ => argument,
        };
        let (argument, values) = (Arc::clone(argument), Arc::clone(values));
        Ok(Some(Self { argument, values, states: States::Sums(vec![]), missing: Missing::default() }))
    }

    pub(super) fn is_of(&self, argument: &Arc<dyn PhysicalExpr>) -> bool {
        self.argument.as_ref() == argument.as_ref()
    }

    /// Prepares for what is asked for; before the first rows.
    pub(super) fn ask_for(&mut self, moment: Moment) {
        if moment != Moment::Sum {
            self.states = States::Moments(vec![]);
        }
    }

    /// Adds `rows`, each to its group.
    ///
    /// # Errors
    /// If the values cannot be evaluated.
    pub(super) fn update(&mut self, rows: &RecordBatch, groups: &GroupOfRow) -> Result<()> {
        let values = self.values.evaluate(rows)?.into_array(rows.num_rows())?;
        self.states.resize(groups.len);
        let nulls = values.nulls().filter(|nulls| nulls.null_count() > 0);
        if let Some(nulls) = nulls {
            self.missing.note(nulls, groups);
        }
        let states = &mut self.states;
        if let Some(floats) = values.as_primitive_opt::<Float64Type>() {
            groups.visit(Add { states, values: floats.values().iter().copied(), nulls });
        } else if let Some(numbers) = values.as_primitive_opt::<Int64Type>() {
            let values = numbers.values().iter().map(|&value| value as f64);
            groups.visit(Add { states, values, nulls });
        } else {
            return internal_err!("{} are no floats", values.data_type());
        }
        Ok(())
    }

    /// What all groups have, which have so many `rows`, and are forgotten.
    ///
    /// # Errors
    /// If a group has more rows than that.
    pub(super) fn take(&mut self, rows: &[u64]) -> Result<TakenStates> {
        self.states.resize(rows.len());
        let states = match &mut self.states {
            States::Sums(sums) => States::Sums(take(sums)),
            States::Moments(moments) => States::Moments(take(moments)),
        };
        let counts = self.missing.take(rows)?;
        let nulls = NullBuffer::from_iter(counts.iter().map(|&count| count > 0));
        Ok(TakenStates { counts, nulls: Some(nulls).filter(|nulls| nulls.null_count() > 0), states })
    }

    pub(super) fn size(&self) -> usize {
        let states = match &self.states {
            States::Sums(sums) => size_of::<f64>() * sums.capacity(),
            States::Moments(moments) => size_of::<Moments>() * moments.capacity(),
        };
        states + self.missing.size()
    }
}

impl TakenStates {
    /// One for each group; NULL without values.
    ///
    /// # Errors
    /// If it was not asked for.
    pub(super) fn of(&self, moment: Moment) -> Result<ArrayRef> {
        let values: Vec<f64> = match (&self.states, moment) {
            (States::Sums(sums), Moment::Sum) => sums.clone(),
            (States::Sums(_), _) => return internal_err!("bounds were not asked for"),
            (States::Moments(moments), Moment::Sum) => moments.iter().map(|of| of.sum).collect(),
            (States::Moments(moments), Moment::Least) => moments.iter().map(|of| of.least).collect(),
            (States::Moments(moments), Moment::Greatest) => moments.iter().map(|of| of.greatest).collect(),
        };
        Ok(Arc::new(Float64Array::try_new(values.into(), self.nulls.clone())?))
    }
}

impl States {
    fn resize(&mut self, len: usize) {
        match self {
            Self::Sums(sums) => sums.resize(len, 0.0),
            Self::Moments(moments) => moments.resize(len, Moments::START),
        }
    }

    fn add(&mut self, values: impl Iterator<Item = (usize, f64)>) {
        match self {
            Self::Sums(sums) => values.for_each(|(group, value)| sums[group] += value),
            Self::Moments(moments) => values.for_each(|(group, value)| moments[group].add(value)),
        }
    }
}

/// Adds values, but for those that are NULL, to the states of groups.
struct Add<'a, V> {
    states: &'a mut States,
    values: V,
    nulls: Option<&'a NullBuffer>,
}

impl<V: Iterator<Item = f64>> GroupVisitor for Add<'_, V> {
    fn visit(self, groups: impl Iterator<Item = usize>) {
        let rows = groups.zip(self.values);
        match self.nulls {
            None => self.states.add(rows),
            Some(nulls) => {
                self.states.add(rows.zip(nulls).filter(|(_, is_there)| *is_there).map(|(row, _)| row));
            }
        }
    }
}

impl Moments {
    /// As DataFusion's accumulators start.
    const START: Self = Self { sum: 0.0, least: f64::MAX, greatest: f64::MIN };

    fn add(&mut self, value: f64) {
        self.sum += value;
        // As there, NaN takes the place of any value, and any value that of NaN.
        if matches!(value.partial_cmp(&self.least), Some(Ordering::Less) | None) {
            self.least = value;
        }
        if matches!(value.partial_cmp(&self.greatest), Some(Ordering::Greater) | None) {
            self.greatest = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;
    use datafusion::common::internal_datafusion_err;
    use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
    use datafusion::functions_aggregate::sum::sum_udaf;
    use datafusion::logical_expr::EmitTo;
    use datafusion::physical_expr::aggregate::AggregateExprBuilder;
    use datafusion::physical_expr::expressions::Column;
    use rand::rngs::StdRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};

    use super::*;

    const ODD: [f64; 9] =
        [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, f64::MAX, f64::MIN, 1e-310];

    /// Which NaN a sum gives is left open by Rust.
    fn bits(array: &ArrayRef, moment: Moment) -> Vec<Option<u64>> {
        let one_nan = |value: f64| if moment == Moment::Sum && value.is_nan() { f64::NAN } else { value };
        array.as_primitive::<Float64Type>().iter().map(|value| Some(one_nan(value?).to_bits())).collect()
    }

    /// `rows` in turns of so many groups, and what DataFusion's accumulators and these states make of them.
    fn compare(values: &ArrayRef, cuts: &[usize], groups: usize, random: &mut StdRng) -> Result<()> {
        let rows = RecordBatch::try_from_iter_with_nullable([("v", Arc::clone(values), true)])?;
        let schema = rows.schema();
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("v", 0));
        let argument = match values.data_type() {
            DataType::Float64 => column,
            _ => Arc::new(CastExpr::new(column, DataType::Float64, None)),
        };
        let asked = [(Moment::Sum, sum_udaf()), (Moment::Least, min_udaf()), (Moment::Greatest, max_udaf())];
        let mut of_groups = vec![0; groups];
        for few in [&asked[..1], &asked[..]] {
            let mut states = FloatStates::try_new(&argument, &schema)?
                .ok_or_else(|| internal_datafusion_err!("{argument} is not taken"))?;
            let mut expected = vec![];
            for (moment, function) in few {
                states.ask_for(*moment);
                let function = AggregateExprBuilder::new(Arc::clone(function), vec![Arc::clone(&argument)])
                    .schema(Arc::clone(&schema))
                    .alias("f")
                    .build()?;
                expected.push(function.create_groups_accumulator()?);
            }
            of_groups.fill(0);
            let mut start = 0;
            for &end in cuts {
                let part = rows.slice(start, end - start);
                // As in a query, groups appear with the first row of theirs.
                let len = groups.min(end);
                let of_rows: Vec<usize> = (start..end)
                    .map(|row| if row < groups { row } else { random.random_range(0..len) })
                    .collect();
                for &group in &of_rows {
                    of_groups[group] += 1;
                }
                // Some by keys, which are other numbers than the groups.
                let keys = of_rows.iter().map(|&group| u16::try_from(len - 1 - group).unwrap_or(0));
                let keys: Vec<u16> = keys.collect();
                let of_keys: Vec<usize> = (0..len).rev().collect();
                match random.random_bool(0.5) {
                    true => states.update(&part, &GroupOfRow::coded(&keys, &of_keys, len))?,
                    false => states.update(&part, &GroupOfRow::listed(of_rows.clone(), len))?,
                }
                let argument = argument.evaluate(&part)?.into_array(part.num_rows())?;
                for expected in &mut expected {
                    expected.update_batch(&[Arc::clone(&argument)], &of_rows, None, len)?;
                }
                start = end;
            }
            let taken = states.take(&of_groups)?;
            for ((moment, _), expected) in few.iter().zip(&mut expected) {
                let expected = expected.state(EmitTo::All)?;
                assert_eq!(bits(&taken.of(*moment)?, *moment), bits(&expected[0], *moment), "{moment:?}");
            }
            assert_eq!(states.take(&[])?.counts, [0; 0], "forgotten");
        }
        Ok(())
    }

    #[test]
    fn states_are_bit_by_bit_those_of_datafusion() -> Result<()> {
        let random = &mut StdRng::seed_from_u64(7);
        for round in 0..60 {
            let value = |random: &mut StdRng| match round % 3 {
                0 => random.random_range(-1e3..1e3),
                1 => *ODD.choose(random).unwrap_or(&0.0),
                _ if random.random_bool(0.1) => *ODD.choose(random).unwrap_or(&0.0),
                _ => f64::from(random.random_range(-9..9)),
            };
            let null = [0.0, 0.3, 1.0][random.random_range(0..3)];
            let floats: Float64Array =
                (0..500).map(|_| (!random.random_bool(null)).then(|| value(random))).collect();
            let numbers: Int64Array =
                (0..500).map(|_| (!random.random_bool(null)).then(|| random.random::<i64>())).collect();
            let groups = [1, 3, 100][random.random_range(0..3)];
            for values in [Arc::new(floats) as ArrayRef, Arc::new(numbers)] {
                compare(&values, &[120, 121, 400, 500], groups, random)?;
            }
        }
        Ok(())
    }

    #[test]
    fn what_gives_no_floats_is_left_to_others() -> Result<()> {
        let ints = RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from(vec![1])) as ArrayRef)])?;
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("v", 0));
        let cast = |to| Arc::new(CastExpr::new(Arc::clone(&column), to, None)) as Arc<dyn PhysicalExpr>;
        let is_taken = |argument: &Arc<dyn PhysicalExpr>| -> Result<bool> {
            Ok(FloatStates::try_new(argument, &ints.schema())?.is_some())
        };
        assert!(is_taken(&cast(DataType::Float64))?);
        assert!(!is_taken(&cast(DataType::Float32))? && !is_taken(&column)?);
        Ok(())
    }
}
