//! Writing from Rust.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::file_format::format_as_file_type;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::DataFrame;

use super::file_format::OdpFormatFactory;
use super::plan::{Columns, Destination, plan_write};
use crate::sink::{LastWrite, WriteMode, WriteOptions, WriteReport};

/// Writes [`DataFrame`]s as datasets of ordered batches.
#[async_trait]
pub trait WriteOdp {
    /// Writes all rows to the directory at `location`, a local path or the URL of a registered store, or to one file if
    /// `location` has a file extension.
    ///
    /// Rows keep the order of the source, or of the DataFrame's sort, within each file and from file to file. They are
    /// there all at once, or, after an error, not at all, unless the error says that they are written. See [`WriteOptions`].
    ///
    /// # Errors
    /// [`OdpError::Exists`](crate::OdpError::Exists) for a directory that has rows already, unless a mode says what to
    /// make of them; [`OdpError::Conflict`](crate::OdpError::Conflict) if another writer was first;
    /// [`OdpError::Write`](crate::OdpError::Write) if the store refuses; whatever the rows end with.
    ///
    /// ```
    /// # use datafusion::prelude::SessionContext;
    /// use datafusion_odp::{OdpTableProvider, WriteOdp, WriteOptions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> datafusion::error::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("observations").display().to_string();
    /// # let ctx = SessionContext::new();
    /// datafusion_odp::register(&ctx)?;
    /// let rows = ctx.sql("SELECT value AS id, value % 2 AS station FROM generate_series(1, 1000) ORDER BY id").await?;
    /// let options = WriteOptions::default().with_partition_by(["station"]);
    /// let report = rows.write_odp(&path, options).await?;
    /// assert_eq!((report.rows(), report.files.len()), (1000, 2));
    /// assert_eq!(OdpTableProvider::open(&ctx, path).await?.snapshot().num_rows(), 1000);
    /// # Ok(())
    /// # }
    /// ```
    async fn write_odp(self, location: &str, options: WriteOptions) -> Result<WriteReport>;
}

#[async_trait]
impl WriteOdp for DataFrame {
    async fn write_odp(self, location: &str, options: WriteOptions) -> Result<WriteReport> {
        let last_write = Arc::new(LastWrite::default());
        let format = OdpFormatFactory { options, last_write: Some(Arc::clone(&last_write)) };
        let (state, plan) = self.into_parts();
        let file_type = format_as_file_type(Arc::new(format));
        let plan = LogicalPlanBuilder::copy_to(plan, location.to_owned(), file_type, HashMap::new(), vec![])?;
        let frame = Self::new(state, plan.build()?);
        frame.collect().await?;
        reported(&last_write)
    }
}

/// Writes the rows of `input`, whose order and partitions are final.
pub(in crate::table) async fn write_rows(
    state: &SessionState,
    input: Arc<dyn ExecutionPlan>,
    location: &str,
    options: WriteOptions,
    context: Arc<TaskContext>,
) -> Result<WriteReport> {
    let last_write = Arc::new(LastWrite::default());
    let url = ListingTableUrl::parse(location)?;
    let is_file = options.partition_by().is_empty() && names_a_file(&url);
    let destination = Destination {
        url,
        is_file,
        mode: if is_file { WriteMode::Overwrite } else { WriteMode::ErrorIfExists },
        columns: Columns::Free { partition_by: Vec::new() },
        after: None,
        last_write: Some(Arc::clone(&last_write)),
    };
    let is_sorted_anew = options.cluster_by().is_some();
    let mut plan = plan_write(state, input, destination, options)?;
    if is_sorted_anew {
        for rule in state.physical_optimizers() {
            plan = rule.optimize(plan, state.config_options())?;
        }
    }
    collect(plan, context).await?;
    reported(&last_write)
}

fn reported(last_write: &LastWrite) -> Result<WriteReport> {
    match last_write.get() {
        Some(report) => Ok(report.as_ref().clone()),
        None => internal_err!("a write left no report"),
    }
}

/// Whether `url` names one file.
pub(in crate::table) fn names_a_file(url: &ListingTableUrl) -> bool {
    !url.is_collection() && url.file_extension().is_some()
}
