//! A user's function on every batch of a selection.

use std::any::Any;
use std::future::Future;
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinError;

use super::selected_batch::SelectedBatch;
use super::selection::Selection;

impl Selection {
    /// Calls `function` with each batch and the stream of its rows that match; gives the results in batch order.
    ///
    /// Runs `target_partitions` batches at a time, each as a task of its own. No batch is started before the result of
    /// the batch that many places before it was taken: results that nobody takes do not pile up.
    ///
    /// The first error, or panic, of `function` or of reading is the last item; what runs then is cancelled. So it is
    /// when the stream is dropped. Nothing runs until the stream is polled, on a Tokio runtime.
    ///
    /// ```
    /// # use datafusion::prelude::SessionContext;
    /// # use datafusion_odp::OdpTableProvider;
    /// # use futures::TryStreamExt;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> datafusion::error::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().to_str().unwrap_or_default();
    /// # let ctx = SessionContext::new();
    /// # datafusion_odp::register(&ctx)?;
    /// # ctx.sql(&format!("COPY (SELECT value AS depth_m FROM generate_series(1, 1000) ORDER BY value)
    /// #     TO '{path}/a.parquet' STORED AS PARQUET OPTIONS ('format.max_row_group_size' '400')")).await?.collect().await?;
    /// # let table = OdpTableProvider::open(&ctx, path).await?;
    /// let selection = table.select("depth_m > 500").plan(&ctx).await?;
    /// let counts: Vec<u64> = selection
    ///     .map_batches(|_, stream| async move {
    ///         stream.try_fold(0, |rows, record_batch| async move { Ok(rows + record_batch.num_rows() as u64) }).await
    ///     })
    ///     .try_collect()
    ///     .await?;
    /// assert_eq!(counts, [300, 200]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn map_batches<T, F, Fut>(&self, function: F) -> BoxStream<'static, Result<T>>
    where
        T: Send + 'static,
        F: Fn(SelectedBatch, SendableRecordBatchStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let function = Arc::new(function);
        self.run_batches(move |selection, batch| {
            let function = Arc::clone(&function);
            async move {
                let stream = selection.batch(batch.position).await?;
                function(batch, stream).await
            }
        })
    }

    /// As [`map_batches`](Self::map_batches), with a function that is not async: it gets all rows of a batch that match
    /// at once, and may compute or wait for as long as it wants, on a thread for such work.
    ///
    /// A call that has begun cannot be cancelled: behind an error, or when the stream is dropped, it runs to its end, and
    /// its result is dropped.
    #[must_use]
    pub fn map_record_batches<T, F>(&self, function: F) -> BoxStream<'static, Result<T>>
    where
        T: Send + 'static,
        F: Fn(SelectedBatch, Vec<RecordBatch>) -> Result<T> + Send + Sync + 'static,
    {
        let function = Arc::new(function);
        self.run_batches(move |selection, batch| {
            let function = Arc::clone(&function);
            async move {
                let stream = selection.batch(batch.position).await?;
                let record_batches: Vec<RecordBatch> = stream.try_collect().await?;
                let called = SpawnedTask::spawn_blocking(move || function(batch, record_batches));
                called.join().await.map_err(|error| DataFusionError::External(Box::new(Ended(error))))?
            }
        })
    }

    fn run_batches<T, F, Fut>(&self, run: F) -> BoxStream<'static, Result<T>>
    where
        T: Send + 'static,
        F: Fn(Self, SelectedBatch) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>> + Send + 'static,
    {
        let selection = self.clone();
        let at_a_time = self.state().config().target_partitions().max(1);
        let batches = (0..self.batch_count()).filter_map({
            let selection = self.clone();
            move |position| selection.selected_batch(position)
        });
        let results = stream::iter(batches)
            .map(move |batch| {
                let name = format!(
                    "batch {} of the dataset, rows {} to {} of {}",
                    batch.batch_index,
                    batch.identity.first_row,
                    batch.identity.first_row + batch.identity.rows,
                    batch.identity.object_meta.location,
                );
                let task = SpawnedTask::spawn(run(selection.clone(), batch));
                async move {
                    match task.join().await {
                        Ok(result) => result.map_err(|error| explained(error, &name)),
                        Err(error) => Err(ended(error, &name)),
                    }
                }
            })
            .buffered(at_a_time);
        // Dropping the tasks cancels them: nothing runs on behind an error.
        stream::unfold(Some(results), |running| async move {
            let mut running = running?;
            let result = running.next().await?;
            let rest = result.is_ok().then_some(running);
            Some((result, rest))
        })
        .boxed()
    }
}

/// A task that did not come to its end, on its way out of another task.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Ended(JoinError);

fn explained(error: DataFusionError, name: &str) -> DataFusionError {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Ended>() {
            Ok(inner) => ended(inner.0, name),
            Err(inner) => DataFusionError::External(inner).context(name),
        },
        other => other.context(name),
    }
}

fn ended(error: JoinError, name: &str) -> DataFusionError {
    match error.try_into_panic() {
        Ok(panic) => exec_datafusion_err!("the function panicked at {name}: {}", message(panic.as_ref())),
        Err(error) => exec_datafusion_err!("the function did not end at {name}: {error}"),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
