//! `date_part` of timestamps, computed once for each run of rows of one day.
//!
//! DataFusion's function makes a calendar date of every row. Observations come by time: thousands of rows in a row share
//! their day. Everything but that loop is DataFusion's function, which also answers for all other types and parts.

use std::sync::Arc;

use chrono::{Datelike, NaiveDate};
use datafusion::arrow::array::{Array, AsArray, Int32Array};
use datafusion::arrow::datatypes::{
    DataType, FieldRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

/// Days from the first of year 1 to 1970-01-01.
const UNIX_EPOCH_FROM_CE: i64 = 719_163;

/// Puts [`DatePartByDay`] in the place of DataFusion's `date_part`, however it was called.
#[derive(Debug)]
pub(crate) struct DatePartRewrite;

impl FunctionRewrite for DatePartRewrite {
    fn name(&self) -> &str {
        "odp_date_part_by_day"
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else {
            return Ok(Transformed::no(expr));
        };
        let builtin = datafusion::functions::datetime::date_part();
        if func != builtin {
            return Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })));
        }
        let func = Arc::new(ScalarUDF::new_from_impl(DatePartByDay { builtin }));
        Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
    }
}

/// DataFusion's `date_part`, quicker for timestamps that come by time.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DatePartByDay {
    builtin: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for DatePartByDay {
    fn name(&self) -> &str {
        self.builtin.name()
    }

    fn aliases(&self) -> &[String] {
        self.builtin.aliases()
    }

    fn signature(&self) -> &Signature {
        self.builtin.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.builtin.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.builtin.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[..] {
            [ColumnarValue::Scalar(part), ColumnarValue::Array(times)] => {
                let part = part.try_as_str().flatten().and_then(Part::named);
                match part.and_then(|part| part.of(times)) {
                    Some(parts) => Ok(ColumnarValue::Array(Arc::new(parts))),
                    None => self.builtin.invoke_with_args(args),
                }
            }
            _ => self.builtin.invoke_with_args(args),
        }
    }

    fn preimage(&self, args: &[Expr], value: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.builtin.inner().preimage(args, value, info)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.builtin.documentation()
    }
}

/// A part of a date that all times of a day share.
#[derive(Debug, Clone, Copy)]
enum Part {
    Year,
    Quarter,
    Month,
    Day,
    DayOfYear,
    DayOfWeek,
}

impl Part {
    /// `None` for all other parts and other names of these.
    fn named(name: &str) -> Option<Self> {
        const NAMES: [(&str, Part); 6] = [
            ("year", Part::Year),
            ("quarter", Part::Quarter),
            ("month", Part::Month),
            ("day", Part::Day),
            ("doy", Part::DayOfYear),
            ("dow", Part::DayOfWeek),
        ];
        NAMES.iter().find_map(|(known, part)| known.eq_ignore_ascii_case(name).then_some(*part))
    }

    /// The part of each of `times`, NULL for NULL; `None` where these are not timestamps in UTC or of no time zone, or
    /// one lies beyond the calendar.
    fn of(self, times: &dyn Array) -> Option<Int32Array> {
        let DataType::Timestamp(unit, zone) = times.data_type() else { return None };
        if zone.as_deref().is_some_and(|zone| zone != "UTC" && zone != "+00:00") {
            return None;
        }
        let (ticks, ticks_a_second): (&[i64], i64) = match unit {
            TimeUnit::Second => (times.as_primitive::<TimestampSecondType>().values(), 1),
            TimeUnit::Millisecond => (times.as_primitive::<TimestampMillisecondType>().values(), 1_000),
            TimeUnit::Microsecond => (times.as_primitive::<TimestampMicrosecondType>().values(), 1_000_000),
            TimeUnit::Nanosecond => (times.as_primitive::<TimestampNanosecondType>().values(), 1_000_000_000),
        };
        let parts = match self {
            Self::Year => by_day(ticks, ticks_a_second, |date| date.year()),
            Self::Quarter => by_day(ticks, ticks_a_second, |date| date.quarter().cast_signed()),
            Self::Month => by_day(ticks, ticks_a_second, |date| date.month().cast_signed()),
            Self::Day => by_day(ticks, ticks_a_second, |date| date.day().cast_signed()),
            Self::DayOfYear => by_day(ticks, ticks_a_second, |date| date.ordinal().cast_signed()),
            Self::DayOfWeek => {
                by_day(ticks, ticks_a_second, |date| date.weekday().num_days_from_sunday().cast_signed())
            }
        }?;
        Some(Int32Array::new(parts.into(), times.nulls().cloned()))
    }
}

/// `part` of the date of each of `ticks`, asked for once in a run of one day.
fn by_day(ticks: &[i64], ticks_a_second: i64, part: impl Fn(NaiveDate) -> i32) -> Option<Vec<i32>> {
    let ticks_a_day = 86_400 * ticks_a_second;
    let of_day = |day: i64| {
        let from_ce = i32::try_from(day.checked_add(UNIX_EPOCH_FROM_CE)?).ok()?;
        NaiveDate::from_num_days_from_ce_opt(from_ce).map(&part)
    };
    let Some(first) = ticks.first() else { return Some(Vec::new()) };
    let mut day = first.div_euclid(ticks_a_day);
    let mut value = of_day(day)?;
    let mut parts = Vec::with_capacity(ticks.len());
    for tick in ticks {
        // The day is in the calendar, so its first tick is no overflow; the distance to it may wrap, to far too much.
        let since_midnight = tick.wrapping_sub(day * ticks_a_day);
        if !(0..ticks_a_day).contains(&since_midnight) {
            day = tick.div_euclid(ticks_a_day);
            value = of_day(day)?;
        }
        parts.push(value);
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{ArrayRef, Int64Array};
    use datafusion::arrow::compute::cast;
    use datafusion::arrow::datatypes::Field;
    use datafusion::common::tree_node::TreeNode;
    use datafusion::logical_expr::LogicalPlan;
    use datafusion::logical_expr::registry::FunctionRegistry;
    use datafusion::prelude::SessionContext;
    use datafusion::scalar::ScalarValue;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    const NAMES: [&str; 12] = [
        "year", "YEAR", "quarter", "month", "day", "doy", "dow", "hour", "week", "isoyear", "years", "epoch",
    ];

    fn invoke(function: &ScalarUDF, part: &str, times: &ArrayRef) -> Result<ArrayRef> {
        let part = ScalarValue::from(part);
        let arg_fields = vec![
            Arc::new(Field::new("part", part.data_type(), false)),
            Arc::new(Field::new("times", times.data_type().clone(), true)),
        ];
        let return_field = function.return_field_from_args(ReturnFieldArgs {
            arg_fields: &arg_fields,
            scalar_arguments: &[Some(&part), None],
        })?;
        let args = ScalarFunctionArgs {
            args: vec![ColumnarValue::Scalar(part), ColumnarValue::Array(Arc::clone(times))],
            arg_fields,
            number_rows: times.len(),
            return_field,
            config_options: Arc::default(),
        };
        function.invoke_with_args(args)?.into_array(times.len())
    }

    /// Ticks about days, about the epoch, far ones, and nulls with anything below.
    fn ticks(ticks_a_second: i64, far: i64, random: &mut StdRng) -> Int64Array {
        let day = 86_400 * ticks_a_second;
        (0..2_000)
            .map(|i| {
                let tick = match i % 5 {
                    0 => random.random_range(-3..3) * day + random.random_range(-1..2),
                    1 => random.random_range(-day..day),
                    2 => i * day / 40,
                    _ => random.random_range(-far..far),
                };
                (i % 7 != 0).then_some(tick)
            })
            .collect()
    }

    #[test]
    fn every_part_of_every_unit_is_that_of_datafusion() {
        let mut random = StdRng::seed_from_u64(5);
        let builtin = datafusion::functions::datetime::date_part();
        let ours = ScalarUDF::new_from_impl(DatePartByDay { builtin: Arc::clone(&builtin) });
        let years = 86_400 * 365;
        for (unit, ticks_a_second) in [
            (TimeUnit::Second, 1),
            (TimeUnit::Millisecond, 1_000),
            (TimeUnit::Microsecond, 1_000_000),
            (TimeUnit::Nanosecond, 1_000_000_000),
        ] {
            // In the calendar, then beyond it.
            for far in [290 * years * ticks_a_second, i64::MAX] {
                let ticks: ArrayRef = Arc::new(ticks(ticks_a_second, far, &mut random));
                for zone in [None, Some("UTC"), Some("+00:00"), Some("+02:00")] {
                    let times = cast(&ticks, &DataType::Timestamp(unit, zone.map(Into::into))).unwrap();
                    for times in [times.slice(3, 1_500), times.slice(0, 0)] {
                        for part in NAMES {
                            match (invoke(&ours, part, &times), invoke(&builtin, part, &times)) {
                                (Ok(ours), Ok(theirs)) => {
                                    assert_eq!(&ours, &theirs, "{part} of {}", times.data_type());
                                }
                                (Err(ours), Err(theirs)) => {
                                    assert_eq!(ours.strip_backtrace(), theirs.strip_backtrace());
                                }
                                (ours, theirs) => panic!("{part}: {ours:?}, not {theirs:?}"),
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_loop_by_days_answers_for_what_it_is_for() {
        let times =
            cast(&Int64Array::from(vec![Some(0), None]), &DataType::Timestamp(TimeUnit::Second, None));
        let times = times.unwrap();
        for name in ["year", "quarter", "MONTH", "day", "doy", "dow"] {
            assert!(Part::named(name).unwrap().of(&times).is_some(), "{name}");
        }
        let beyond = cast(&Int64Array::from(vec![i64::MAX]), times.data_type()).unwrap();
        assert!(Part::Year.of(&beyond).is_none());
    }

    fn uses_loop_by_days(plan: &LogicalPlan) -> bool {
        plan.exists(|node| {
            Ok(node.expressions().iter().any(|expr| {
                let is_ours = |expr: &Expr| match expr {
                    Expr::ScalarFunction(call) => Ok(call.func.inner().is::<DatePartByDay>()),
                    _ => Ok(false),
                };
                expr.exists(is_ours).unwrap()
            }))
        })
        .unwrap()
    }

    #[tokio::test]
    async fn every_way_to_ask_for_a_part_is_rewritten_and_keeps_its_name() {
        let mut ctx = SessionContext::new();
        ctx.register_function_rewrite(Arc::new(DatePartRewrite)).unwrap();
        let plain = SessionContext::new();
        for call in ["date_part('year', t)", "datepart('month', t)", "extract(day FROM t)"] {
            let query = format!("SELECT {call} FROM (VALUES (TIMESTAMP '2024-02-29 10:00:00')) AS v(t)");
            let ours = ctx.sql(&query).await.unwrap();
            let analyzed = ctx
                .state()
                .analyzer()
                .execute_and_check(ours.logical_plan().clone(), ctx.state().config_options(), |_, _| ())
                .unwrap();
            assert!(uses_loop_by_days(&analyzed), "{analyzed}");
            let ours = ours.collect().await.unwrap();
            let theirs = plain.sql(&query).await.unwrap().collect().await.unwrap();
            assert_eq!(ours, theirs);
        }
    }

    #[tokio::test]
    async fn a_year_still_becomes_a_range_of_times() {
        let mut ctx = SessionContext::new();
        ctx.register_function_rewrite(Arc::new(DatePartRewrite)).unwrap();
        let query = "SELECT * FROM v WHERE extract(year FROM t) = 2024";
        let create =
            "CREATE TABLE t AS VALUES (TIMESTAMP '2024-02-29 10:00:00'), (TIMESTAMP '2025-01-01 00:00:00')";
        ctx.sql(create).await.unwrap().collect().await.unwrap();
        ctx.sql("CREATE VIEW v AS SELECT column1 AS t FROM t").await.unwrap().collect().await.unwrap();
        let plan = ctx.sql(query).await.unwrap().into_optimized_plan().unwrap();
        assert!(!plan.to_string().contains("date_part"), "{plan}");
        let rows = ctx.sql(query).await.unwrap().count().await.unwrap();
        assert_eq!(rows, 1);
    }
}
