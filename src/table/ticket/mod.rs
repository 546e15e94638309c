//! [`BatchTicket`]: one batch of a selection as a text that another process opens.

mod content;
mod fields;
mod filter;
mod open;
mod settings;
mod text;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::object_store::ObjectMeta;

use super::selected_batch::{RowBounds, row_bounds};
use super::selection::Selection;
use crate::discover::without_credentials;
use crate::error::OdpError;
use filter::TicketFilter;
use settings::TicketSettings;

/// One batch of a [`Selection`], to be read somewhere else: a small text without blanks that a queue, Dask or Ray can
/// carry.
///
/// The tickets of all batches of a selection cover it: each matching row is in exactly one of them. Opened in another
/// process, a ticket gives the rows, order and schema of [`Selection::batch`]; it reads the footer and the pages of one
/// file. If that file is no longer the version that was planned, the error is [`OdpError::Changed`].
///
/// The other session needs the object store registered under the same URL, and for filters in SQL the functions that
/// they call; [`register`](crate::register) adds this crate's. The settings that rows depend on, such as the time zone, are
/// those of the session that made the ticket; a session that would plan the filter in another way all the same is
/// refused.
///
/// ```
/// # use datafusion::prelude::SessionContext;
/// # use datafusion_odp::{BatchTicket, OdpTableProvider};
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
/// let text: String = selection.ticket(1)?.to_string();
/// assert!(text.starts_with("odp1."));
///
/// // In another process:
/// let ctx = SessionContext::new();
/// datafusion_odp::register(&ctx)?;
/// let ticket: BatchTicket = text.parse()?;
/// assert_eq!((ticket.position(), ticket.total()), (1, 2));
/// let record_batches: Vec<_> = ticket.open(&ctx).await?.try_collect().await?;
/// assert_eq!(record_batches.iter().map(|b| b.num_rows()).sum::<usize>(), 200);
/// # Ok(())
/// # }
/// ```
///
/// # Format
///
/// `odp1.`, then base64 (URL alphabet, no padding) of the CRC-32 of what follows (4 bytes, the lowest first) and a raw
/// DEFLATE stream of a JSON object:
///
/// | key | holds |
/// |---|---|
/// | `store` | URL of the object store, without user and password |
/// | `path` | path of the file in it |
/// | `size`, `modified`, `etag` | the file's version: bytes; seconds since 1970 and nanoseconds; ETag, if the store has one |
/// | `first`, `rows` | the batch: number of its first row in the file, and rows |
/// | `min` | rows that match at least; at most all do |
/// | `at`, `of`, `batch` | position in the selection, its batches, and position in the dataset |
/// | `fields` | the columns of the file that are read: name, type, 1 if nullable, metadata if any |
/// | `meta` | metadata of the schema, an object, if any |
/// | `parts` | partition columns: name, type, value as text or null |
/// | `columns` | names of the selected columns, in order |
/// | `odp` and `vars`, or `sql` | the filter; neither without one |
/// | `hash` | FNV-1a of the planned filter, hexadecimal, if there is one |
/// | `set` | the session settings that rows may depend on, where they are not the default: of this crate `odp.finite_coordinates`, `odp.planar_geography`, `odp.on_invalid_geometry`; of DataFusion, as text, `datafusion.execution.` `time_zone`, `enable_ansi_mode`, `parquet.coerce_int96`, `parquet.coerce_int96_tz`, `parquet.binary_as_string`, `parquet.schema_force_view_types` and `datafusion.sql_parser.` `dialect`, `enable_ident_normalization`, `map_string_types_to_utf8view`, `parse_float_as_decimal`, `support_varchar_with_length` |
///
/// At most 64 MiB of JSON in at most 48 MiB of text are read, with at most 1,048,576 values.
///
/// The checksum is against accidents, not against forgery: who opens a ticket reads the file that it names. It holds no
/// credentials; those are of the session that opens it.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchTicket {
    version: ObjectMeta,
    first_row: u64,
    /// Rows of the batch, before the filter.
    rows: u64,
    min_rows: u64,
    position: usize,
    batch_index: usize,
    partitions: Vec<(String, ScalarValue)>,
    selection: Arc<TicketSelection>,
}

/// What the tickets of a selection have in common.
#[derive(Debug, PartialEq)]
pub(super) struct TicketSelection {
    store: String,
    total: usize,
    fields: Vec<FieldRef>,
    /// Of the schema as a whole.
    metadata: BTreeMap<String, String>,
    columns: Vec<String>,
    filter: TicketFilter,
    settings: TicketSettings,
}

impl BatchTicket {
    /// Position of the batch in its selection, from 0.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Batches in the selection.
    #[must_use]
    pub fn total(&self) -> usize {
        self.selection.total
    }

    /// Position of the batch in the dataset.
    #[must_use]
    pub fn batch_index(&self) -> usize {
        self.batch_index
    }

    /// How many rows of the batch match, as far as that was known when the ticket was made.
    #[must_use]
    pub fn rows(&self) -> RowBounds {
        RowBounds::new(self.min_rows.min(self.rows), self.rows)
    }

    /// The columns of the rows, those of [`Selection::schema`].
    ///
    /// # Errors
    /// [`OdpError::InvalidTicket`] if it names a column that it does not describe.
    pub fn schema(&self) -> Result<SchemaRef, OdpError> {
        let TicketSelection { fields, metadata, columns, .. } = self.selection.as_ref();
        let partition = |(name, value): &(String, ScalarValue)| {
            Arc::new(Field::new(name, value.data_type(), true)) as FieldRef
        };
        let known: HashMap<String, FieldRef> = self
            .partitions
            .iter()
            .map(partition)
            .chain(fields.iter().cloned())
            .map(|field| (field.name().clone(), field))
            .collect();
        let fields: Option<Vec<FieldRef>> = columns.iter().map(|name| known.get(name).cloned()).collect();
        let fields = fields.ok_or_else(|| text::invalid("it does not describe all of its columns".into()))?;
        Ok(Arc::new(Schema::new_with_metadata(fields, metadata.clone().into_iter().collect())))
    }

    /// The file's version: path in its object store, size, time of modification, ETag.
    #[must_use]
    pub fn file(&self) -> &ObjectMeta {
        &self.version
    }
}

impl Display for BatchTicket {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&text::encode(&content::to_json(self)))
    }
}

impl FromStr for BatchTicket {
    type Err = OdpError;

    fn from_str(text: &str) -> Result<Self, OdpError> {
        content::from_json(&text::decode(text.trim())?)
    }
}

impl Selection {
    /// The ticket of the batch at `position` in the selection.
    ///
    /// # Errors
    /// A planning error past the last batch; [`OdpError::Unsupported`] if the filter is an expression, or SQL that reads
    /// the clock, and cannot be written as SQL that reads back as the same, if a column has a type that a ticket cannot
    /// name, or if it would be too large.
    pub fn ticket(&self, position: usize) -> Result<BatchTicket, OdpError> {
        let count = self.batch_count();
        let parts = self.parts();
        let (Some(&batch_index), Some(&certainty)) =
            (parts.kept.get(position), parts.certainty.get(position))
        else {
            let message = format!("batch {position} does not exist: the selection has {count} batches");
            return Err(datafusion::common::DataFusionError::Plan(message).into());
        };
        let selection = self.ticket_selection()?;
        let snapshot = &parts.snapshot;
        let batch = &snapshot.batches()[batch_index];
        let file = snapshot.file_of(batch);
        let names = snapshot.table_schema().table_partition_cols().iter().map(|field| field.name().clone());
        let partitions: Vec<(String, ScalarValue)> = names
            .zip(file.partition_values.iter().cloned())
            .filter(|(name, _)| selection.columns.contains(name) || parts.filter_columns.contains(name))
            .collect();
        for (name, value) in &partitions {
            fields::check_value(name, value)?;
        }
        Ok(BatchTicket {
            version: file.object_meta.clone(),
            first_row: batch.first_row,
            rows: batch.rows,
            min_rows: row_bounds(certainty, batch.rows).min,
            position,
            batch_index,
            partitions,
            selection,
        })
    }

    fn ticket_selection(&self) -> Result<Arc<TicketSelection>, OdpError> {
        let cell = self.ticket_cell();
        if let Some(known) = cell.get() {
            return Ok(Arc::clone(known));
        }
        let parts = self.parts();
        let table = parts.snapshot.table_schema();
        let columns: Vec<String> = self.schema().fields().iter().map(|field| field.name().clone()).collect();
        let read: HashSet<&String> = columns.iter().chain(&parts.filter_columns).collect();
        let fields: Vec<FieldRef> = table
            .file_schema()
            .fields()
            .iter()
            .filter(|field| read.contains(field.name()))
            .cloned()
            .collect();
        fields.iter().try_for_each(fields::check)?;
        let made = TicketSelection {
            store: without_credentials(parts.snapshot.object_store_url().as_str()),
            total: self.batch_count(),
            fields,
            metadata: table.file_schema().metadata().clone().into_iter().collect(),
            columns,
            filter: self.ticket_filter()?,
            settings: TicketSettings::of(self.state().config_options()),
        };
        content::check(&made)?;
        Ok(Arc::clone(cell.get_or_init(|| Arc::new(made))))
    }

    /// The tickets of all batches, in order.
    ///
    /// # Errors
    /// See [`ticket`](Self::ticket).
    pub fn tickets(&self) -> Result<Vec<BatchTicket>, OdpError> {
        (0..self.batch_count()).map(|position| self.ticket(position)).collect()
    }
}
