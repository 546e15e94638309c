//! Batches in partitions that have no value of a key in common, as bounds prove: whatever groups by the key need not bring
//! rows of different partitions together.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array, make_comparator};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::physical_plan::FileSource;
use datafusion::datasource::source::DataSourceExec;
use datafusion::functions::datetime;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{Partitioning, PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;

use super::partitions::{groups_of, reads_all};
use super::source::OdpSource;
use crate::dataset::may_hold_nan;

/// `plan`, a scan of batches, with `most` partitions or fewer, but as many as there are `processors`: runs of batches, no two
/// of which have a value of one of `keys` in common. `None` if there are no such runs that are about alike.
///
/// # Errors
/// If bounds do not fit the snapshot's schema.
pub(crate) fn with_keys_apart(
    plan: &Arc<dyn ExecutionPlan>,
    keys: &[Arc<dyn PhysicalExpr>],
    processors: usize,
    most: impl Fn(u64) -> usize,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let scan = plan.downcast_ref::<DataSourceExec>();
    let Some((config, source)) = scan.and_then(DataSourceExec::downcast_to_file_source::<OdpSource>) else {
        return Ok(None);
    };
    if config.limit.is_some() || !config.output_ordering.is_empty() || !source.may_regroup() {
        return Ok(None);
    }
    let (snapshot, kept) = (&source.scan().snapshot, &source.scan().kept);
    if !reads_all(&config.file_groups, kept) {
        return Ok(None);
    }
    let rows: Vec<u64> = kept.iter().map(|&batch| snapshot.batches()[batch].rows).collect();
    let total = rows.iter().copied().fold(0, u64::saturating_add);
    let most = match source.scan().partition_limit {
        Some(limit) if !source.scan().has_default_partitions => most(total).min(limit),
        _ => most(total),
    };
    for key in keys {
        let Some(bounds) = bounds_of(source, key)? else { continue };
        let Some(runs) = cut_at(&rows, &bounds.gaps()?, most) else { continue };
        let largest = runs.iter().map(|run| rows[run.clone()].iter().copied().fold(0, u64::saturating_add));
        if !are_alike(runs.len(), largest.max().unwrap_or(0), total, processors) {
            continue;
        }
        let mut apart = config.clone();
        apart.file_groups = groups_of(snapshot, kept, runs);
        apart.output_partitioning = Some(Partitioning::UnknownPartitioning(apart.file_groups.len()));
        return Ok(Some(DataSourceExec::from_data_source(apart)));
    }
    Ok(None)
}

/// Whether processors that take one run after the other end at about the same time.
fn are_alike(runs: usize, largest: u64, total: u64, processors: usize) -> bool {
    let processors = processors.max(2) as u128;
    let (runs, largest, total) = (runs as u128, u128::from(largest), u128::from(total));
    // Of as many as are taken at a time the last ones may leave some processors idle.
    let at_a_time = runs.div_ceil(processors) * processors;
    runs >= processors && 20 * at_a_time <= 23 * runs && 4 * largest * processors <= 5 * total
}

/// The bounds of a key in each of the kept batches.
struct KeyBounds {
    min: ArrayRef,
    max: ArrayRef,
}

/// `None` if they are not known of all batches, or some rows may be outside of them.
fn bounds_of(source: &OdpSource, key: &Arc<dyn PhysicalExpr>) -> Result<Option<KeyBounds>> {
    let columns = collect_columns(key);
    let mut columns = columns.iter();
    let (Some(column), None) = (columns.next(), columns.next()) else { return Ok(None) };
    let given = source.projection().and_then(|given| given.iter().nth(column.index()));
    let Some(found) = given.and_then(|given| given.expr.downcast_ref::<Column>()) else { return Ok(None) };
    let (snapshot, kept) = (&source.scan().snapshot, &source.scan().kept);
    let (Some(bounds), Some(field)) = (
        snapshot.bounds().columns.get(found.index()),
        snapshot.table_schema().table_schema().fields().get(found.index()),
    ) else {
        return Ok(None);
    };
    let data_type = field.data_type();
    // Text is grouped faster by its codes.
    if may_hold_nan(data_type) || data_type.is_string() || !is_ascending(key, data_type) {
        return Ok(None);
    }
    let batches: UInt64Array = kept.iter().map(|&batch| Some(batch as u64)).collect();
    let bounds = bounds.take(&batches)?;
    let has_no_null =
        bounds.null_counts.null_count() == 0 && bounds.null_counts.values().iter().all(|&nulls| nulls == 0);
    if !has_no_null || bounds.min.data_type() != data_type || bounds.max.data_type() != data_type {
        return Ok(None);
    }
    let of_one = Arc::clone(key).transform(|expr| {
        Ok(match expr.downcast_ref::<Column>() {
            Some(column) => Transformed::yes(Arc::new(Column::new(column.name(), 0)) as _),
            None => Transformed::no(expr),
        })
    })?;
    let schema = Arc::new(Schema::new(vec![Field::new(column.name(), data_type.clone(), true)]));
    // What cannot be computed of bounds that no row need have says nothing.
    let key_of = |bounds: ArrayRef| -> Option<ArrayRef> {
        let rows = RecordBatch::try_new(Arc::clone(&schema), vec![bounds]).ok()?;
        let keys = of_one.data.evaluate(&rows).and_then(|keys| keys.into_array(rows.num_rows())).ok()?;
        (keys.null_count() == 0).then_some(keys)
    };
    let Some((min, max)) = key_of(bounds.min).zip(key_of(bounds.max)) else { return Ok(None) };
    // Arithmetic that wraps, at the ends of time, makes less of more.
    let order = make_comparator(min.as_ref(), max.as_ref(), SortOptions::default())?;
    let is_kept = (0..min.len()).all(|batch| order(batch, batch) != Ordering::Greater);
    Ok(is_kept.then_some(KeyBounds { min, max }))
}

/// Whether `key`, made of a column of `data_type` and constants, never falls where the column grows.
fn is_ascending(key: &Arc<dyn PhysicalExpr>, data_type: &DataType) -> bool {
    if key.is::<Column>() {
        return true;
    }
    // In other time zones hours come twice; and of Date64 casts to timestamps wrap.
    let is_time = match data_type {
        DataType::Date32 | DataType::Timestamp(_, None) => true,
        DataType::Timestamp(_, Some(zone)) => matches!(zone.as_ref(), "UTC" | "+00:00" | "Z"),
        _ => false,
    };
    if !is_time {
        return false;
    }
    if let Some(cast) = key.downcast_ref::<CastExpr>() {
        let to_time = matches!(cast.cast_type(), DataType::Date32 | DataType::Timestamp(_, None));
        return to_time && is_ascending(cast.expr(), data_type);
    }
    let Some(function) = key.downcast_ref::<ScalarFunctionExpr>() else { return false };
    let (is_trunc, is_bin) =
        (*function.fun() == *datetime::date_trunc(), *function.fun() == *datetime::date_bin());
    match function.args() {
        [unit, time] if is_trunc => unit.is::<Literal>() && is_ascending(time, data_type),
        [stride, time] if is_bin => is_forward(stride) && is_ascending(time, data_type),
        [stride, time, origin] if is_bin => {
            is_forward(stride) && origin.is::<Literal>() && is_ascending(time, data_type)
        }
        _ => false,
    }
}

/// Whether `stride` is a constant of which no part is negative.
fn is_forward(stride: &Arc<dyn PhysicalExpr>) -> bool {
    let Some(stride) = stride.downcast_ref::<Literal>() else { return false };
    match stride.value() {
        ScalarValue::IntervalMonthDayNano(Some(stride)) => {
            stride.months >= 0 && stride.days >= 0 && stride.nanoseconds >= 0
        }
        ScalarValue::IntervalDayTime(Some(stride)) => stride.days >= 0 && stride.milliseconds >= 0,
        ScalarValue::IntervalYearMonth(Some(months)) => *months >= 0,
        _ => false,
    }
}

impl KeyBounds {
    /// For each batch whether all keys of it and of those before lie on the one side of all keys of those after, on the same
    /// side for all batches. The last has none after it.
    fn gaps(&self) -> Result<Vec<bool>> {
        let ascending = gaps(&self.min, &self.max, Ordering::Less)?;
        if ascending.contains(&true) {
            return Ok(ascending);
        }
        gaps(&self.max, &self.min, Ordering::Greater)
    }
}

/// Whether the farthest of `ends` so far is `before` the nearest of the `starts` that follow.
fn gaps(starts: &ArrayRef, ends: &ArrayRef, before: Ordering) -> Result<Vec<bool>> {
    let options = SortOptions::default();
    let batches = ends.len();
    let between_ends = make_comparator(ends.as_ref(), ends.as_ref(), options)?;
    let between_starts = make_comparator(starts.as_ref(), starts.as_ref(), options)?;
    let end_to_start = make_comparator(ends.as_ref(), starts.as_ref(), options)?;
    let mut nearest: Vec<usize> = (0..batches).collect();
    for batch in (1..batches).rev() {
        if between_starts(nearest[batch], batch - 1) == before {
            nearest[batch - 1] = nearest[batch];
        }
    }
    let mut farthest = 0;
    let mut gaps = Vec::with_capacity(batches);
    for batch in 0..batches {
        if between_ends(farthest, batch) == before {
            farthest = batch;
        }
        let is_gap = nearest.get(batch + 1).is_some_and(|&next| end_to_start(farthest, next) == before);
        gaps.push(is_gap);
    }
    Ok(gaps)
}

/// Runs of batches with about as many of the `rows` of all, `most` or fewer, that end where there are `gaps`. `None` if there is but
/// one.
fn cut_at(rows: &[u64], gaps: &[bool], most: usize) -> Option<Vec<Range<usize>>> {
    let total: u128 = rows.iter().map(|&rows| u128::from(rows)).sum();
    let most = most.max(1);
    let (mut runs, mut start, mut before) = (vec![], 0, 0_u128);
    for (batch, (&of_batch, &is_gap)) in rows.iter().zip(gaps).enumerate() {
        before += u128::from(of_batch);
        let is_full = before * most as u128 >= total * (runs.len() as u128 + 1);
        if is_gap && is_full && runs.len() + 1 < most {
            runs.push(start..batch + 1);
            start = batch + 1;
        }
    }
    if start < rows.len() {
        runs.push(start..rows.len());
    }
    (runs.len() > 1).then_some(runs)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Int64Array;

    use super::*;

    fn found(bounds: &[(i64, i64)]) -> String {
        let of = |end: fn(&(i64, i64)) -> i64| {
            Arc::new(bounds.iter().map(end).map(Some).collect::<Int64Array>()) as ArrayRef
        };
        let bounds = KeyBounds { min: of(|bound| bound.0), max: of(|bound| bound.1) };
        bounds.gaps().unwrap().into_iter().map(|is_gap| if is_gap { '|' } else { '.' }).collect()
    }

    #[test]
    fn gaps_are_where_no_key_is_on_both_sides() {
        assert_eq!(found(&[(0, 9), (10, 19), (20, 29)]), "||.");
        assert_eq!(found(&[(0, 9), (9, 19), (20, 29)]), ".|.", "9 is in both");
        assert_eq!(
            found(&[(0, 25), (10, 19), (20, 29), (30, 30), (31, 40)]),
            "..||.",
            "25 may be in the third"
        );
        assert_eq!(found(&[(10, 19), (0, 5), (20, 29)]), ".|.");
        assert_eq!(found(&[(20, 29), (10, 19), (0, 9)]), "||.", "descending");
        assert_eq!(found(&[(20, 29), (10, 20), (0, 9)]), ".|.");
        assert_eq!(found(&[(0, 0), (1, 1), (0, 0)]), "...");
        assert_eq!(found(&[(0, 9), (20, 29), (10, 19)]), "|..");
        assert_eq!(found(&[(5, 5)]), ".");
        assert_eq!(found(&[]), "");
    }

    #[test]
    fn runs_end_at_gaps_and_are_alike_where_they_can_be() {
        let of = |rows: &[u64], gaps: &str, most| {
            let gaps: Vec<bool> = gaps.chars().map(|c| c == '|').collect();
            cut_at(rows, &gaps, most).map(|runs| runs.into_iter().map(|run| run.len()).collect::<Vec<_>>())
        };
        assert_eq!(of(&[10; 6], "|||||.", 3), Some(vec![2, 2, 2]));
        assert_eq!(of(&[10; 6], "|||||.", 9), Some(vec![1; 6]));
        assert_eq!(of(&[10; 6], "..|...", 3), Some(vec![3, 3]));
        assert_eq!(of(&[10; 6], "......", 3), None);
        assert_eq!(of(&[10; 6], "|||||.", 1), None);
        assert_eq!(of(&[90, 1, 1, 1], "|||.", 2), Some(vec![1, 3]));
        assert_eq!(of(&[u64::MAX; 3], "||.", 3), Some(vec![1; 3]));
        assert_eq!(of(&[], "", 3), None);
    }

    #[test]
    fn runs_are_alike_if_no_processor_waits_long_for_another() {
        assert!(are_alike(2, 50, 100, 2) && are_alike(4, 30, 100, 2) && are_alike(64, 4, 100, 16));
        assert!(!are_alike(2, 63, 100, 2), "more than 5 quarters of a half");
        assert!(!are_alike(5, 20, 100, 2) && !are_alike(17, 6, 100, 16), "the last one is alone");
        assert!(are_alike(11, 10, 100, 2) && are_alike(8, 13, 100, 3));
        assert!(!are_alike(3, 34, 100, 4) && !are_alike(1, 100, 100, 1));
        assert!(are_alike(4, u64::MAX / 4, u64::MAX, 2));
    }
}
