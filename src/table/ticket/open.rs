//! Opens a ticket: the one file, if it is still the version that was planned.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::{SessionContext, SessionState};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::{self, ObjectMeta, ObjectStoreExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::BatchTicket;
use super::filter::{TicketFilter, hash_of};
use super::text::invalid;
use crate::dataset::{DatasetSnapshot, is_same_version};
use crate::discover::{FileRange, Request, open_snapshot};
use crate::error::OdpError;
use crate::filter::{FilterVariables, lower_filter};
use crate::options::TableOptions;
use crate::table::planned_filter::PlannedFilter;
use crate::table::provider::{TableFilters, file_orders};
use crate::table::selection::{Selection, SelectionParts};
use crate::table::selection_builder::{certainties, column_indices, conjuncts};
use crate::table::selection_filter::{FilterSource, read_sql};

/// What stays as it is in the path of a URL.
const KEPT: AsciiSet =
    NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'=');

impl BatchTicket {
    /// The rows of the batch: those of [`Selection::batch`], in the same order, with the same schema.
    ///
    /// # Errors
    /// [`OdpError::Changed`] if the file is not the version that was planned, or is gone; [`OdpError::Storage`] if the
    /// store is not registered or fails; [`OdpError::InvalidTicket`] if this session would read the filter, or the
    /// file's columns, in another way.
    pub async fn open(&self, ctx: &SessionContext) -> Result<SendableRecordBatchStream> {
        self.open_selection(ctx).await?.batch(0).await
    }

    /// The batch as a selection of its own, of one batch: to go on with SQL, for example.
    ///
    /// # Errors
    /// See [`open`](Self::open).
    pub async fn open_selection(&self, ctx: &SessionContext) -> Result<Selection> {
        let mut state = ctx.state();
        self.selection.settings.apply(&mut state)?;

        let snapshot = match self.open_file(&state).await {
            Ok(snapshot) => snapshot,
            // A file that is another one by now may fail in any way.
            Err(error) => match self.check_version(&state).await {
                Ok(()) => return Err(error.into()),
                Err(changed) => return Err(changed.into()),
            },
        };
        let schema = snapshot.schema();
        let (source, variables, expr, hash) = match &self.selection.filter {
            TicketFilter::All => (FilterSource::All, FilterVariables::default(), None, None),
            TicketFilter::Odp { text, variables, hash } => {
                let variables = match variables {
                    Some(json) => FilterVariables::from_json(json)?,
                    None => FilterVariables::default(),
                };
                let lowered = lower_filter(text, &variables, &schema)?;
                (FilterSource::Odp(text.clone()), variables, Some(lowered.expr), Some(*hash))
            }
            TicketFilter::Sql { text, hash } => {
                let expr = read_sql(&state, text, &schema)?;
                (FilterSource::Sql(text.clone()), FilterVariables::default(), Some(expr), Some(*hash))
            }
        };
        let filter = match expr {
            Some(expr) => PlannedFilter::try_new(&state, &schema, expr)?,
            None => PlannedFilter::All,
        };
        if hash.is_some_and(|hash| hash != hash_of(&filter)) {
            let reason = "this session plans the filter in another way than the one that made the ticket: its \
                          functions or optimizer rules differ";
            return Err(invalid(reason.into()).into());
        }
        let columns = column_indices(&schema, &self.selection.columns)?;
        let filters = TableFilters::try_new(&state, &snapshot, &conjuncts(&filter))?;
        let certainty = certainties(&state, &snapshot, &filters, &[0])?;
        let filter_columns = schema.fields().iter().map(|field| field.name().clone()).collect();
        let parts = SelectionParts {
            orders: file_orders(&snapshot).into(),
            snapshot: Arc::new(snapshot),
            source,
            variables,
            filter,
            filter_columns,
            columns: Some(columns),
            kept: Arc::from([0]),
            certainty,
            warnings: vec![],
        };
        Selection::try_new(parts, state)
    }

    /// The batch as a dataset of its own.
    async fn open_file(&self, state: &SessionState) -> Result<DatasetSnapshot, OdpError> {
        let path = utf8_percent_encode(self.version.location.as_ref(), &KEPT);
        let location = format!("{}/{path}", self.selection.store.trim_end_matches('/'));
        let request = Request {
            locations: vec![location],
            options: TableOptions { hive_partitions: false, ..TableOptions::default() },
            partitions: None,
            schema: Some(Arc::new(Schema::new_with_metadata(
                self.selection.fields.clone(),
                self.selection.metadata.clone().into_iter().collect(),
            ))),
            range: Some(FileRange {
                first_row: self.first_row,
                rows: self.rows,
                partitions: self.partitions.clone(),
            }),
        };
        let snapshot = open_snapshot(state, request).await?;
        match snapshot.files() {
            [file] if file.object_meta.location == self.version.location => self.check(&file.object_meta)?,
            _ => return Err(self.changed()),
        }
        if snapshot.num_batches() != 1 {
            let (first, rows) = (self.first_row, self.rows);
            return Err(invalid(format!("its file has no batch of {rows} rows from row {first} on")));
        }
        Ok(snapshot)
    }

    async fn check_version(&self, state: &SessionState) -> Result<(), OdpError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| OdpError::Storage {
            location: format!("{}/{}", self.selection.store.trim_end_matches('/'), self.version.location),
            source,
        };
        let url = ObjectStoreUrl::parse(&self.selection.store).map_err(|error| failed(error.into()))?;
        let store = state.runtime_env().object_store(&url).map_err(|error| failed(error.into()))?;
        match store.head(&self.version.location).await {
            Ok(now) => self.check(&now),
            Err(object_store::Error::NotFound { .. }) => Err(self.changed()),
            Err(error) => Err(failed(error.into())),
        }
    }

    fn check(&self, now: &ObjectMeta) -> Result<(), OdpError> {
        if is_same_version(&self.version, now) { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> OdpError {
        OdpError::Changed { path: self.version.location.to_string() }
    }
}
