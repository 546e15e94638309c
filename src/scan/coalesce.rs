//! Joins the few rows that filters leave of record batches to larger ones, as DataFusion's `FilterExec` does.

use datafusion::arrow::compute::BatchCoalescer;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};

/// The rows of `stream` in its order, `rows` at a time; record batches of more than half of that may stay as they are.
pub(super) fn coalesced(
    stream: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
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

impl<S: Stream<Item = Result<RecordBatch>> + Unpin> Joined<S> {
    async fn next(&mut self, rows: usize) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(joined) = self.few.as_mut().and_then(BatchCoalescer::next_completed_batch) {
                return Ok(Some(joined));
            }
            let Some(batch) = self.stream.try_next().await? else {
                let Some(mut last) = self.few.take() else { return Ok(None) };
                last.finish_buffered_batch()?;
                return Ok(last.next_completed_batch());
            };
            let few = self.few.get_or_insert_with(|| {
                BatchCoalescer::new(batch.schema(), rows).with_biggest_coalesce_batch_size(Some(rows / 2))
            });
            few.push_batch(batch)?;
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
    async fn an_error_ends_the_rows() {
        let batches = vec![Ok(batch(0, 20)), Ok(batch(20, 3)), exec_err!("broken"), Ok(batch(23, 20))];
        let mut joined = coalesced(stream::iter(batches), 10);
        assert_eq!(joined.next().await.unwrap().unwrap().num_rows(), 20);
        assert!(joined.next().await.unwrap().is_err());
        assert!(joined.next().await.is_none());
        assert!(coalesced(stream::empty(), 10).next().await.is_none());
    }
}
