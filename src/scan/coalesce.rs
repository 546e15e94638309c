//! Joins the few rows that filters leave of record batches to larger ones, as DataFusion's `FilterExec` does.

use datafusion::arrow::array::BooleanArray;
use datafusion::arrow::compute::BatchCoalescer;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};

/// Rows of which a filter leaves some: they are copied once, to where they are joined.
#[derive(Debug)]
pub(super) struct Filtered {
    pub(super) rows: RecordBatch,
    /// Without NULL; `None`: all.
    pub(super) matches: Option<BooleanArray>,
}

impl From<RecordBatch> for Filtered {
    fn from(rows: RecordBatch) -> Self {
        Self { rows, matches: None }
    }
}

/// The rows of `stream` in its order, `rows` at a time; record batches of more than half of that may stay as they are.
pub(super) fn coalesced<F: Into<Filtered>>(
    stream: impl Stream<Item = Result<F>> + Send + 'static,
    rows: usize,
) -> BoxStream<'static, Result<RecordBatch>> {
    let rows = rows.max(1);
    futures::stream::try_unfold(
        Joined { stream: Box::pin(stream), few: None },
        move |mut joined| async move {
            let next = joined.next(rows).await?;
            Ok(next.map(|rows| (rows, joined)))
        },
    )
    .boxed()
}

struct Joined<S> {
    stream: S,
    /// Made for the first rows.
    few: Option<BatchCoalescer>,
}

impl<F: Into<Filtered>, S: Stream<Item = Result<F>> + Unpin> Joined<S> {
    async fn next(&mut self, rows: usize) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(joined) = self.few.as_mut().and_then(BatchCoalescer::next_completed_batch) {
                return Ok(Some(joined));
            }
            let Some(next) = self.stream.try_next().await? else {
                let Some(mut last) = self.few.take() else { return Ok(None) };
                last.finish_buffered_batch()?;
                return Ok(last.next_completed_batch());
            };
            let Filtered { rows: batch, matches } = next.into();
            let few = self.few.get_or_insert_with(|| {
                BatchCoalescer::new(batch.schema(), rows).with_biggest_coalesce_batch_size(Some(rows / 2))
            });
            match matches {
                Some(matches) => few.push_batch_with_filter(batch, &matches)?,
                None => few.push_batch(batch)?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{AsArray, Int64Array};
    use datafusion::arrow::datatypes::Int64Type;
    use datafusion::common::exec_err;
    use futures::stream;

    use super::*;

    fn batch(start: i64, rows: i64) -> RecordBatch {
        let numbers = Int64Array::from_iter_values(start..start + rows);
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).unwrap()
    }

    #[tokio::test]
    async fn few_rows_are_joined_and_many_are_passed_on() {
        let lengths = [3, 4, 1, 0, 100, 2, 60, 9];
        let mut start = 0;
        let batches: Vec<_> = lengths
            .iter()
            .map(|&rows| {
                start += rows;
                Ok(batch(start - rows, rows))
            })
            .collect();
        let joined: Vec<RecordBatch> = coalesced(stream::iter(batches), 10).try_collect().await.unwrap();
        let found =
            joined.iter().flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec());
        assert!(found.eq(0..start));
        let sizes: Vec<usize> = joined.iter().map(RecordBatch::num_rows).collect();
        assert!(sizes.contains(&100), "{sizes:?}");
        let (last, others) = sizes.split_last().unwrap();
        assert!(*last > 0 && others.iter().all(|&rows| rows > 5), "{sizes:?}");
    }

    #[tokio::test]
    async fn what_a_filter_leaves_is_joined() {
        // Of each kind: none, few, more than half of a record batch, all.
        let kept = [0, 1, 3, 7, 50, 97, 100];
        let mut expected = Vec::new();
        let filtered: Vec<Result<Filtered>> = (0..70_i64)
            .map(|nth| {
                let left = kept[usize::try_from(nth).unwrap() % kept.len()];
                let matches: Vec<bool> = (0..100_i64).map(|at| (at * 37 + nth) % 100 < left).collect();
                expected.extend(
                    (0..100).filter(|&at| matches[usize::try_from(at).unwrap()]).map(|at| 100 * nth + at),
                );
                Ok(Filtered { rows: batch(100 * nth, 100), matches: Some(matches.into()) })
            })
            .collect();
        let joined: Vec<RecordBatch> = coalesced(stream::iter(filtered), 64).try_collect().await.unwrap();
        let found =
            joined.iter().flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec());
        assert!(found.eq(expected.iter().copied()));
        assert!(joined.len() < 70);
    }

    #[tokio::test]
    async fn an_error_ends_the_rows() {
        let batches: Vec<Result<RecordBatch>> =
            vec![Ok(batch(0, 20)), Ok(batch(20, 3)), exec_err!("broken"), Ok(batch(23, 20))];
        let mut joined = coalesced(stream::iter(batches), 10);
        assert_eq!(joined.next().await.unwrap().unwrap().num_rows(), 20);
        assert!(joined.next().await.unwrap().is_err());
        assert!(joined.next().await.is_none());
        assert!(coalesced(stream::empty::<Result<RecordBatch>>(), 10).next().await.is_none());
    }
}
