//! Reads the rows of a plan, cuts them into row groups, and hands these on to be encoded: the part of a write that
//! decides which rows go where.
//!
//! All of it follows from the rows and their order alone, not from threads, record batches or memory: so do the files.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use futures::StreamExt;
use tokio::sync::{Semaphore, mpsc};

use super::assembler::{Command, Held, Place};
use super::encoder::Encoder;
use super::metrics::SinkMetrics;
use super::partitioning::{Partitioner, PendingRows};
use super::row_groups::RowGroupCutter;
use crate::row_bytes::record_batch_bytes;

/// Rows that tell how large a row is.
const SAMPLE_ROWS: usize = 10_000;

/// A partition is idle if it got none of the last so many row groups' rows. In data that is ordered like its partitions an
/// idle one is complete: it is written and closed, so that its rows take no memory and its file no place.
const IDLE_ROW_GROUPS: u64 = 4;
/// … nor of so many rows, if row groups are small.
const IDLE_ROWS: u64 = 200_000;

/// Partitions that are closed at a time because they are idle: one after the other is complete, not many at once.
const RETIRED_AT_A_TIME: usize = 4;

/// So many partitions may get rows again after they were closed because they were idle; then no more are.
const MAX_RETURNS: usize = 16;

/// Rows of all partitions between two decisions on which files to write to, whatever record batches they come in.
const DECISION_ROWS: u64 = 8_192;

/// Encodes row groups, a few at a time, and hands them to the assembler in order.
pub(super) struct Submitter {
    pub(super) encoder: Arc<Encoder>,
    pub(super) turns: Arc<Semaphore>,
    pub(super) in_flight: usize,
    pub(super) memory: MemoryReservation,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) metrics: SinkMetrics,
}

impl Submitter {
    /// Bytes that a row group takes until it is in its file: the rows put together, and encoded.
    fn bytes_of(rows: &[RecordBatch]) -> usize {
        2 * rows.iter().map(record_batch_bytes).sum::<usize>()
    }

    /// Whether there is memory for a row group now.
    fn has_room_for(&self, rows: &[RecordBatch]) -> bool {
        self.memory.new_empty().try_grow(Self::bytes_of(rows)).is_ok()
    }

    async fn append(&self, place: &Arc<Place>, rows: Vec<RecordBatch>) -> Result<()> {
        let closed = |_| exec_datafusion_err!("the write ended early");
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(closed)?;
        let memory = self.memory.new_empty();
        self.reserve(&memory, Self::bytes_of(&rows), self.in_flight - 1).await?;
        self.metrics.row_groups_in_flight.set_max(self.in_flight - self.turns.available_permits());
        let group = SpawnedTask::spawn(Arc::clone(&self.encoder).encode(rows));
        let held = Held { _turn: turn, _memory: memory };
        self.send(Command::Append { place: Arc::clone(place), group, held }).await
    }

    /// Adds `bytes` to `memory`; where there is no room, once the `others` that are on their way are in their files.
    async fn reserve(&self, memory: &MemoryReservation, bytes: usize, others: usize) -> Result<()> {
        if memory.try_grow(bytes).is_err() {
            let closed = |_| exec_datafusion_err!("the write ended early");
            let others = u32::try_from(others).unwrap_or(u32::MAX);
            let all = self.turns.acquire_many(others).await.map_err(closed)?;
            memory.try_grow(bytes)?;
            drop(all);
        }
        Ok(())
    }

    async fn close(&self, place: &Arc<Place>) -> Result<()> {
        self.send(Command::Close { place: Arc::clone(place) }).await
    }

    async fn send(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| exec_datafusion_err!("the write ended early"))
    }
}

/// The rows of a plan, and how many bytes a row of them has.
pub(super) struct SampledRows {
    first: Vec<RecordBatch>,
    rest: SendableRecordBatchStream,
    /// On average, in memory.
    pub(super) row_bytes: usize,
}

impl SampledRows {
    pub(super) async fn read(mut rows: SendableRecordBatchStream) -> Result<Self> {
        let (mut first, mut sampled) = (Vec::new(), 0);
        while sampled < SAMPLE_ROWS {
            let Some(batch) = rows.next().await.transpose()? else { break };
            sampled += batch.num_rows();
            first.push(batch);
        }
        let mut sampled = Self { first, rest: rows, row_bytes: 0 };
        // Of the rows put together: how they were cut must not tell.
        if let Some(sample) = sampled.first_rows()? {
            sampled.row_bytes = record_batch_bytes(&sample) / sample.num_rows().max(1);
        }
        Ok(sampled)
    }

    /// The first rows; `None` if there are no rows.
    fn first_rows(&self) -> Result<Option<RecordBatch>> {
        let Some(first) = self.first.first() else { return Ok(None) };
        let (mut missing, mut rows) = (SAMPLE_ROWS, Vec::new());
        for batch in &self.first {
            let taken = batch.num_rows().min(missing);
            rows.push(batch.slice(0, taken));
            missing -= taken;
        }
        Ok(Some(concat_batches(&first.schema(), &rows)?))
    }

    /// The first rows, with the columns of `schema`; `None` if there are no rows.
    pub(super) fn sample(&self, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        let Some(rows) = self.first_rows()? else { return Ok(None) };
        let index_of = |field: &FieldRef| rows.schema().index_of(field.name());
        let indices: Vec<usize> = schema.fields().iter().map(index_of).collect::<Result<_, _>>()?;
        Ok(Some(rows.project(&indices)?))
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        match self.first.is_empty() {
            true => self.rest.next().await.transpose(),
            false => Ok(Some(self.first.remove(0))),
        }
    }
}

/// Writes all rows to one place. At least one file, be it empty.
pub(super) async fn write_whole(
    mut rows: SampledRows,
    group_rows: usize,
    submitter: Submitter,
) -> Result<()> {
    let place = Arc::new(Place { partition: 0, directory: String::new(), values: Vec::new() });
    let mut cutter = RowGroupCutter::new(group_rows);
    // Of the rows that are not a row group yet; from then on they are counted with it.
    let filling = submitter.memory.new_empty();
    while let Some(batch) = rows.next().await? {
        submitter.reserve(&filling, record_batch_bytes(&batch), submitter.in_flight).await?;
        for group in cutter.push(batch) {
            filling.free();
            submitter.append(&place, group).await?;
        }
        if filling.size() == 0 {
            submitter.reserve(&filling, cutter.pending_bytes(), submitter.in_flight).await?;
        }
    }
    filling.free();
    if let Some(group) = cutter.finish() {
        submitter.append(&place, group).await?;
    }
    submitter.close(&place).await
}

/// Partitions, and which of them have a file open.
struct Partitions {
    partitioner: Partitioner,
    pending: PendingRows,
    places: Vec<Arc<Place>>,
    /// For each partition: rows of all partitions read at the decision after its last ones.
    last_seen: Vec<u64>,
    is_open: Vec<bool>,
    open: usize,
    max_open: usize,
    group_rows: usize,
    rows_read: u64,
    /// Partitions that got rows since the last decision.
    touched: BTreeSet<usize>,
    /// Partitions that have rows that are not written, or an open file.
    active: BTreeSet<usize>,
    /// Partitions that were closed because they were idle.
    retired: BTreeSet<usize>,
    /// How many of them got rows again.
    returns: usize,
    submitter: Submitter,
}

/// Writes each row to the place of its partition, rows of a partition in order. No file where there are no rows.
pub(super) async fn write_partitioned(
    mut rows: SampledRows,
    group_rows: usize,
    partitioner: Partitioner,
    max_open: usize,
    buffer_bytes: usize,
    context: &Arc<TaskContext>,
    submitter: Submitter,
) -> Result<()> {
    let schema = Arc::clone(partitioner.file_schema());
    let pending = PendingRows::try_new(schema, context, buffer_bytes, submitter.metrics.spill())?;
    let mut partitions = Partitions {
        partitioner,
        pending,
        places: Vec::new(),
        last_seen: Vec::new(),
        is_open: Vec::new(),
        open: 0,
        max_open,
        group_rows,
        rows_read: 0,
        touched: BTreeSet::new(),
        active: BTreeSet::new(),
        retired: BTreeSet::new(),
        returns: 0,
        submitter,
    };
    while let Some(batch) = rows.next().await? {
        partitions.push(&batch).await?;
    }
    partitions.finish().await
}

impl Partitions {
    async fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut first = 0;
        while first < batch.num_rows() {
            let left = DECISION_ROWS - self.rows_read % DECISION_ROWS;
            let rows = usize::try_from(left).unwrap_or(usize::MAX).min(batch.num_rows() - first);
            self.add(&batch.slice(first, rows))?;
            first += rows;
            if self.rows_read.is_multiple_of(DECISION_ROWS) {
                self.write_full().await?;
            }
        }
        Ok(())
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let arranged = self.partitioner.arrange(batch)?;
        for partition in self.places.len()..self.partitioner.len() {
            self.places.push(Arc::new(Place {
                partition,
                directory: self.partitioner.directory(partition).to_owned(),
                values: self.partitioner.values(partition).to_vec(),
            }));
            self.last_seen.push(0);
            self.is_open.push(false);
        }
        self.rows_read += batch.num_rows() as u64;
        self.touched.extend(arranged.partitions.iter().map(|(partition, _)| *partition));
        self.pending.push_arranged(arranged)
    }

    /// Writes the row groups that are full, where a file is open or may be.
    async fn write_full(&mut self) -> Result<()> {
        let touched = std::mem::take(&mut self.touched);
        for &partition in &touched {
            self.last_seen[partition] = self.rows_read;
            self.active.insert(partition);
            self.returns += usize::from(self.retired.remove(&partition));
        }
        self.retire_idle().await?;
        for partition in touched {
            while self.pending.rows(partition) >= self.group_rows && self.may_open(partition).await? {
                self.append(partition, self.group_rows).await?;
            }
        }
        Ok(())
    }

    /// Closes the partitions that are idle, as long as it is likely that they are complete.
    async fn retire_idle(&mut self) -> Result<()> {
        if self.returns >= MAX_RETURNS {
            return Ok(());
        }
        let idle: Vec<usize> =
            self.active.iter().copied().filter(|&partition| self.is_idle(partition)).collect();
        for partition in idle.into_iter().take(RETIRED_AT_A_TIME) {
            if self.is_open[partition] || self.open < self.max_open {
                self.close(partition).await?;
                self.retired.insert(partition);
            }
        }
        Ok(())
    }

    fn is_idle(&self, partition: usize) -> bool {
        let idle_rows = (IDLE_ROW_GROUPS * self.group_rows as u64).max(IDLE_ROWS);
        self.rows_read - self.last_seen[partition] >= idle_rows
    }

    /// Whether rows of `partition` can be written now: its file is open, or may be opened; for that one of an idle
    /// partition is closed.
    async fn may_open(&mut self, partition: usize) -> Result<bool> {
        if self.is_open[partition] || self.open < self.max_open {
            return Ok(true);
        }
        let oldest = (0..self.places.len()).filter(|&p| self.is_open[p]).min_by_key(|&p| self.last_seen[p]);
        let Some(oldest) = oldest else { return Ok(false) };
        if !self.is_idle(oldest) {
            return Ok(false);
        }
        self.close(oldest).await?;
        Ok(true)
    }

    async fn append(&mut self, partition: usize, rows: usize) -> Result<()> {
        let group = self.pending.take(partition, rows)?;
        if !self.submitter.has_room_for(&group) {
            // Rows that wait make room for those that are written.
            self.pending.spill()?;
        }
        if !self.is_open[partition] {
            self.is_open[partition] = true;
            self.open += 1;
        }
        self.submitter.append(&self.places[partition], group).await
    }

    /// Writes what there is of `partition`, and closes its file.
    async fn close(&mut self, partition: usize) -> Result<()> {
        loop {
            match self.pending.rows(partition).min(self.group_rows) {
                0 => break,
                rows => self.append(partition, rows).await?,
            }
        }
        if self.is_open[partition] {
            self.is_open[partition] = false;
            self.open -= 1;
            self.submitter.close(&self.places[partition]).await?;
        }
        self.active.remove(&partition);
        Ok(())
    }

    async fn finish(mut self) -> Result<()> {
        self.active.extend(std::mem::take(&mut self.touched));
        let (open, others): (Vec<usize>, Vec<usize>) =
            (0..self.places.len()).partition(|&partition| self.is_open[partition]);
        for partition in open.into_iter().chain(others) {
            self.close(partition).await?;
        }
        Ok(())
    }
}
