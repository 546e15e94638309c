//! What a table does once rows were inserted.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::Result;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::SessionState;

use crate::discover::{Request, open_snapshot, write_snapshots};
use crate::options::TableOptions;
use crate::sink::{AfterCommit, WriteReport};
use crate::table::current_snapshot::CurrentSnapshot;

/// Opens the dataset again, for the table that rows were inserted through.
pub(in crate::table) struct Refresh {
    pub(in crate::table) state: SessionState,
    pub(in crate::table) request: Request,
    /// The table's.
    pub(in crate::table) snapshot: Option<CurrentSnapshot>,
    /// Write a snapshot file, too.
    pub(in crate::table) writes_snapshot_file: bool,
}

impl Refresh {
    /// Writes the snapshot file of the dataset at `url`.
    pub(super) fn of_location(state: &SessionState, url: &ListingTableUrl) -> Self {
        let request = Request {
            locations: vec![url.as_str().to_owned()],
            options: TableOptions::default(),
            partitions: None,
            schema: None,
            range: None,
        };
        Self { state: state.clone(), request, snapshot: None, writes_snapshot_file: true }
    }
}

impl Debug for Refresh {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh").field("request", &self.request).finish_non_exhaustive()
    }
}

#[async_trait]
impl AfterCommit for Refresh {
    async fn committed(&self, _report: &WriteReport) -> Result<()> {
        let open = async {
            let opened = Arc::new(open_snapshot(&self.state, self.request.clone()).await?);
            if self.writes_snapshot_file {
                write_snapshots(&self.state, &self.request, &opened).await?;
            }
            Ok(opened)
        };
        match &self.snapshot {
            Some(snapshot) => snapshot.refresh(open).await,
            None => open.await.map(|_| ()),
        }
    }
}
