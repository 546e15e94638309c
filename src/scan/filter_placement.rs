//! Where the filter of a scan is evaluated: inside the decoder, or on what it has decoded.
//!
//! Inside, the pages of other columns that hold no match are not decoded. Where every page holds one, that saves
//! nothing, and picking single rows out of pages costs more than filtering whole batches. Which of the two it is, nobody
//! knows before rows are read: the first rows are filtered inside, and what they show decides about the next.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::{and, filter_record_batch, prep_null_mask_filter};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, internal_err};
use datafusion::datasource::physical_plan::{FileSource, ParquetSource};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, DynamicFilterTracking, Literal};
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, conjunction_opt, split_conjunction};

use super::nan_safety::Unprunable;

/// One row in this many matches, at least, for the filter to be tried after decoding: with fewer, pages without a match
/// are to be expected.
const TRIED_AT: u64 = 512;

/// Of the record batches decoded, one in this many holds no match, at most, for the filter to stay after decoding.
const MOST_EMPTY: u64 = 4;

/// Decisions for the decoder after matches were found to lie together; twice as many each time.
const FIRST_HOLD: u32 = 8;
const LONGEST_HOLD: u32 = 128;

/// Where to filter the next rows of a scan; shared by its partitions.
#[derive(Debug, Default)]
pub(super) struct FilterPlacement(Mutex<State>);

#[derive(Debug)]
struct State {
    after: bool,
    /// Rows could not be filtered outside the decoder.
    failed: bool,
    /// Decisions that are still taken for the decoder, whatever it finds.
    held: u32,
    next_hold: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { after: false, failed: false, held: 0, next_hold: FIRST_HOLD }
    }
}

/// What was found in rows filtered after decoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Decoded {
    pub(super) batches: u64,
    /// Those of them in which no row matched.
    pub(super) empty: u64,
}

impl Decoded {
    /// Of one more record batch `rows` are left.
    pub(super) fn note(&mut self, rows: &RecordBatch) {
        self.batches += 1;
        self.empty += u64::from(rows.num_rows() == 0);
    }
}

/// Whether `matches` lie so that filtering after decoding pays, by record batches of so many rows.
pub(super) fn is_scattered(matches: &BooleanBuffer, rows_at_once: usize) -> bool {
    let matched = matches.count_set_bits() as u64;
    if matched.saturating_mul(TRIED_AT) < matches.len() as u64 {
        return false;
    }
    let starts = (0..matches.len()).step_by(rows_at_once.max(1));
    let batches = starts.map(|start| matches.slice(start, rows_at_once.max(1).min(matches.len() - start)));
    let (mut all, mut empty) = (0_u64, 0_u64);
    for batch in batches {
        all += 1;
        empty += u64::from(!batch.has_true());
    }
    empty.saturating_mul(MOST_EMPTY) <= all
}

impl FilterPlacement {
    /// Whether to filter the next rows after decoding.
    pub(super) fn is_after(&self) -> bool {
        self.lock().after
    }

    /// Whether all rows are left to the decoder.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failed
    }

    /// Of `rows` filtered before other columns are decoded `matched` are left.
    pub(super) fn note_inside(&self, rows: u64, matched: u64) {
        let mut state = self.lock();
        if state.failed {
            return;
        }
        match state.held {
            0 => state.after = matched.saturating_mul(TRIED_AT) >= rows,
            _ => state.held -= 1,
        }
    }

    /// Rows could not be filtered outside the decoder, which filters all others.
    pub(super) fn note_failed(&self) {
        let mut state = self.lock();
        state.after = false;
        state.failed = true;
    }

    pub(super) fn note_after(&self, found: Decoded) {
        let mut state = self.lock();
        if !state.after {
            // Decided meanwhile, by another partition.
            return;
        }
        if found.empty.saturating_mul(MOST_EMPTY) <= found.batches {
            state.next_hold = FIRST_HOLD;
        } else {
            state.after = false;
            state.held = state.next_hold;
            state.next_hold = (2 * state.next_hold).min(LONGEST_HOLD);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A filter for record batches that hold its columns after those of a scan.
#[derive(Debug)]
pub(super) struct LateFilter {
    /// The first conjuncts, as far as they compare a column with a constant: that cannot fail, and costs less for all rows
    /// than for some of them.
    comparisons: Vec<Arc<dyn PhysicalExpr>>,
    /// The others.
    rest: Option<Arc<dyn PhysicalExpr>>,
    /// Columns of the scan; the others are for the filter alone.
    given: usize,
}

impl LateFilter {
    fn new(predicate: &Arc<dyn PhysicalExpr>, given: usize) -> Self {
        let conjuncts = split_conjunction(predicate);
        let first = conjuncts.iter().take_while(|conjunct| is_comparison(conjunct)).count();
        let (comparisons, rest) = conjuncts.split_at(first);
        Self {
            comparisons: comparisons.iter().map(|conjunct| Arc::clone(conjunct)).collect(),
            rest: conjunction_opt(rest.iter().map(|conjunct| Arc::clone(conjunct))),
            given,
        }
    }

    /// The rows that match, without the columns that only the filter needs.
    ///
    /// # Errors
    /// What the filter gives for any row, whether or not the decoder would have evaluated it.
    pub(super) fn apply(&self, decoded: &RecordBatch) -> Result<RecordBatch> {
        let matches = self.matches(decoded)?;
        let given: Vec<usize> = (0..self.given).collect();
        let given = decoded.project(&given)?;
        match matches {
            Some(matches) => Ok(filter_record_batch(&given, &matches)?),
            None => Ok(given),
        }
    }

    /// Which rows match, without NULL; `None`: all.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub(super) fn matches(&self, decoded: &RecordBatch) -> Result<Option<BooleanArray>> {
        let rows = decoded.num_rows();
        let mut matches: Option<BooleanArray> = None;
        for comparison in &self.comparisons {
            let of_one = without_nulls(&comparison.evaluate(decoded)?.into_array(rows)?)?;
            matches = Some(match matches {
                Some(matches) => and(&matches, &of_one)?,
                None => of_one,
            });
        }
        if let Some(rest) = &self.rest {
            let of_rest = match &matches {
                Some(matches) => rest.evaluate_selection(decoded, matches)?,
                None => rest.evaluate(decoded)?,
            };
            let of_rest = without_nulls(&of_rest.into_array(rows)?)?;
            matches = Some(match matches {
                Some(matches) => and(&matches, &of_rest)?,
                None => of_rest,
            });
        }
        Ok(matches)
    }

    /// Columns of the scan, which come first.
    pub(super) fn given(&self) -> usize {
        self.given
    }

    /// Positions of the columns that it needs.
    pub(super) fn columns(&self) -> BTreeSet<usize> {
        let conjuncts = self.comparisons.iter().chain(&self.rest);
        conjuncts.flat_map(collect_columns).map(|column| column.index()).collect()
    }

    /// The same filter for record batches that have only `columns`, which are all that it needs.
    ///
    /// # Errors
    /// If one is missing.
    pub(super) fn of_columns(&self, columns: &[usize]) -> Result<Self> {
        let moved = |expr: &Arc<dyn PhysicalExpr>| {
            let moved = Arc::clone(expr).transform(|expr| {
                let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
                match columns.iter().position(|&known| known == column.index()) {
                    Some(at) => Ok(Transformed::yes(Arc::new(Column::new(column.name(), at)) as _)),
                    None => internal_err!("a filter needs column {column}, which is not read before"),
                }
            });
            moved.map(|moved| moved.data)
        };
        Ok(Self {
            comparisons: self.comparisons.iter().map(moved).collect::<Result<_>>()?,
            rest: self.rest.as_ref().map(moved).transpose()?,
            given: columns.iter().filter(|&&column| column < self.given).count(),
        })
    }
}

/// `matches` with false for NULL.
///
/// # Errors
/// If they are no booleans.
pub(super) fn without_nulls(matches: &ArrayRef) -> Result<BooleanArray> {
    let matches = as_boolean_array(matches)?;
    Ok(match matches.null_count() {
        0 => matches.clone(),
        _ => prep_null_mask_filter(matches),
    })
}

fn is_comparison(conjunct: &Arc<dyn PhysicalExpr>) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};

    if conjunct.is::<Unprunable>() {
        return conjunct.children().into_iter().all(is_comparison);
    }
    conjunct.downcast_ref::<BinaryExpr>().is_some_and(|binary| {
        matches!(binary.op(), Eq | NotEq | Lt | LtEq | Gt | GtEq)
            && binary.left().is::<Column>()
            && binary.right().is::<Literal>()
    })
}

/// `source` without its filter inside the decoder, and that filter for what it then gives; `unprojected` reads all
/// columns of the table. `None` if the filter is not in the decoder, changes while the query runs, or if something
/// would be computed of rows that do not match.
pub(super) fn after_decoding(
    source: &ParquetSource,
    unprojected: &ParquetSource,
    batch_size: usize,
) -> Result<Option<(Arc<dyn FileSource>, LateFilter)>> {
    let Some(filter) = source.filter() else { return Ok(None) };
    let Some(projection) = source.projection() else { return Ok(None) };
    let schema = unprojected.table_schema().table_schema();
    let is_plain = |given: &ProjectionExpr| given.expr.is::<Column>() || given.expr.is::<Literal>();
    let filtered = collect_columns(&filter);
    let is_flat = |column: &Column| {
        schema.fields().get(column.index()).is_some_and(|field| match field.data_type() {
            DataType::Dictionary(_, value) => !value.is_nested(),
            other => !other.is_nested(),
        })
    };
    if !source.table_parquet_options().global.pushdown_filters
        || source.table_schema().table_schema() != schema
        || DynamicFilterTracking::classify(&filter).contains_dynamic_filter()
        || !projection.iter().all(is_plain)
        || !filtered.iter().all(is_flat)
    {
        return Ok(None);
    }
    let given = projection.iter().count();
    let mut columns: Vec<ProjectionExpr> = projection.iter().cloned().collect();
    let predicate = Arc::clone(&filter).transform(|expr| {
        let Some(column) = expr.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
        let is_it = |known: &ProjectionExpr| {
            known.expr.downcast_ref::<Column>().is_some_and(|known| known.index() == column.index())
        };
        let at = columns.iter().position(is_it).unwrap_or_else(|| {
            columns.push(ProjectionExpr { expr: Arc::clone(&expr), alias: column.name().to_owned() });
            columns.len() - 1
        });
        Ok(Transformed::yes(Arc::new(Column::new(column.name(), at)) as _))
    })?;
    let whole = unprojected.with_predicate(filter).with_pushdown_filters(false).with_batch_size(batch_size);
    let Some(decoded) = whole.try_pushdown_projection(&ProjectionExprs::new(columns))? else {
        return internal_err!("the Parquet source takes no projection");
    };
    Ok(Some((decoded, LateFilter::new(&predicate.data, given))))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{AsArray, Int64Array, StringArray};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::common::DFSchema;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[test]
    fn what_a_late_filter_leaves_is_what_all_conjuncts_are_true_for() {
        let numbers = Int64Array::from(vec![Some(1), None, Some(3), Some(4), Some(5), None, Some(7)]);
        let texts =
            StringArray::from(vec![Some("a"), Some("b"), None, Some("d"), Some("a"), None, Some("g")]);
        let columns = [
            ("given", Arc::new(Int64Array::from_iter_values(0..7)) as ArrayRef),
            ("n", Arc::new(numbers)),
            ("t", Arc::new(texts)),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let schema = DFSchema::try_from(rows.schema()).unwrap();
        let ctx = SessionContext::new();
        for (sql, expected, comparisons) in [
            ("n > 2", vec![2, 3, 4, 6], 1),
            ("n > 2 AND t <> 'd'", vec![4, 6], 2),
            ("n > 2 AND t <> 'd' AND n % 5 = 2", vec![6], 2),
            ("n % 2 = 1 AND t >= 'a'", vec![0, 4, 6], 0),
            ("n > 3 AND 12 / (n - 3) > 3", vec![3, 4], 1),
            ("n IS NULL OR t = 'a'", vec![0, 1, 4, 5], 0),
            ("n > 100 AND t = 'a'", vec![], 2),
        ] {
            let expr = ctx.parse_sql_expr(sql, &schema).unwrap();
            let predicate = ctx.create_physical_expr(expr, &schema).unwrap();
            let filter = LateFilter::new(&predicate, 1);
            assert_eq!(filter.comparisons.len(), comparisons, "{sql}");
            let left = filter.apply(&rows).unwrap();
            assert_eq!(left.num_columns(), 1);
            assert_eq!(left.column(0).as_primitive::<Int64Type>().values().to_vec(), expected, "{sql}");
        }
    }

    #[test]
    fn matches_are_scattered_if_few_record_batches_have_none() {
        let of = |is_match: fn(usize) -> bool| BooleanBuffer::collect_bool(8_000, is_match);
        assert!(is_scattered(&of(|_| true), 1_000));
        assert!(is_scattered(&of(|row| row % 100 == 7), 1_000));
        assert!(is_scattered(&of(|row| row < 6_000), 1_000), "a quarter has none");
        assert!(!is_scattered(&of(|row| row < 5_000), 1_000));
        assert!(!is_scattered(&of(|row| row % 1_000 == 0), 1_000), "fewer than one in 512");
        assert!(is_scattered(&of(|row| row < 5_000), 100_000), "one record batch");
        assert!(is_scattered(&BooleanBuffer::new_unset(0), 1_000));
    }

    #[test]
    fn scattered_matches_move_the_filter_and_clustered_ones_bring_it_back_for_longer_each_time() {
        let placement = FilterPlacement::default();
        assert!(!placement.is_after(), "the decoder comes first");
        placement.note_inside(512_000, 999);
        assert!(!placement.is_after());
        placement.note_inside(512_000, 1000);
        assert!(placement.is_after());
        placement.note_after(Decoded { batches: 8, empty: 2 });
        assert!(placement.is_after());
        for hold in [8, 16, 32, 64, 128, 128] {
            placement.note_after(Decoded { batches: 8, empty: 3 });
            for _ in 0..hold {
                assert!(!placement.is_after());
                placement.note_inside(100, 100);
            }
            assert!(!placement.is_after(), "the last of them does not decide either");
            placement.note_inside(100, 100);
            assert!(placement.is_after());
        }
        placement.note_after(Decoded { batches: 8, empty: 0 });
        placement.note_after(Decoded { batches: 8, empty: 8 });
        (0..9).for_each(|_| placement.note_inside(100, 100));
        assert!(placement.is_after(), "scattered again: short holds again");
    }
}
