//! Rows that wait until there are enough of their partition, in memory and beyond.

mod blocks;
mod relocation;

use std::collections::VecDeque;
use std::fmt::{self, Debug, Formatter};
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{Result, exec_datafusion_err, internal_datafusion_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::metrics::SpillMetrics;

use super::gather::{gather, with_own_memory};
use super::partitioner::ArrangedRows;
use super::spill_file::SpillFiles;
use crate::row_bytes::record_batch_bytes_with_dictionaries;
use blocks::{Block, Blocks, Piece, Place, for_each_range};
use relocation::Relocation;

/// The name in messages and in the memory pool.
const CONSUMER: &str = "rows of open partitions";

/// Rows that wait, by partition, each partition's in the order in which they came.
///
/// Rows are in memory up to a limit, and as far as the memory pool gives it; then all of them are written to
/// temporary files of the disk manager, and read back when they are taken. Each row is written at most once.
///
/// After an error, what is left is not complete.
pub(crate) struct PendingRows {
    schema: SchemaRef,
    partitions: Vec<PendingPartition>,
    blocks: Blocks,
    files: SpillFiles,
    memory_limit: usize,
    /// Rows of record batches that are taken.
    output_rows: usize,
    reservation: MemoryReservation,
    spill_count: usize,
    metrics: SpillMetrics,
}

#[derive(Default)]
struct PendingPartition {
    /// In order; those on disk come before those in memory.
    pieces: VecDeque<Piece>,
    /// In `pieces`.
    placed_rows: usize,
}

impl PendingRows {
    /// No rows yet. `schema` is that of all rows, `memory_limit` in bytes.
    pub(crate) fn try_new(
        schema: SchemaRef,
        context: &Arc<TaskContext>,
        memory_limit: usize,
        metrics: SpillMetrics,
    ) -> Result<Self> {
        let consumer = MemoryConsumer::new(CONSUMER).with_can_spill(true);
        Ok(Self {
            files: SpillFiles::try_new(CONSUMER, &schema, context)?,
            schema,
            partitions: Vec::new(),
            blocks: Blocks::default(),
            memory_limit,
            output_rows: context.session_config().batch_size().max(1),
            reservation: consumer.register(context.memory_pool()),
            spill_count: 0,
            metrics,
        })
    }

    /// Rows of `partition` that wait.
    pub(crate) fn rows(&self, partition: usize) -> usize {
        self.partitions.get(partition).map_or(0, |pending| pending.placed_rows)
    }

    /// Bytes written to temporary files so far.
    pub(crate) fn spilled_bytes(&self) -> usize {
        self.files.written_bytes()
    }

    /// How often memory was emptied into temporary files.
    #[cfg(test)]
    pub(crate) fn spill_count(&self) -> usize {
        self.spill_count
    }

    /// Bytes in memory, as the pool knows them.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.reservation.size()
    }

    /// Adds the rows of many partitions, to the end of each: cheaper than one by one.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) fn push_arranged(&mut self, arranged: ArrangedRows) -> Result<()> {
        let ArrangedRows { rows, partitions } = arranged;
        let num_rows = rows.num_rows();
        if num_rows == 0 {
            return Ok(());
        }
        u32::try_from(num_rows).map_err(|_| exec_datafusion_err!("a record batch has {num_rows} rows"))?;
        let rows = with_own_memory(rows)?;
        let bytes = record_batch_bytes_with_dictionaries(&rows);
        let place = Place::Memory { batches: vec![rows], bytes };
        let live_rows = partitions.iter().map(|(_, range)| range.len()).sum();
        let block = self.blocks.insert(Block { place, rows: num_rows, live_rows })?;
        for (partition, range) in partitions {
            let piece = Piece::try_new(block, range)?;
            self.append(partition, piece);
        }
        self.make_room()
    }

    /// The first `rows` rows of `partition`, in order.
    ///
    /// All record batches but the last have as many rows as the session's batch size, wherever the rows were
    /// meanwhile. Their memory is the caller's to account for.
    /// # Errors
    /// Those of reading temporary files, and an internal error if there are not so many rows.
    pub(crate) fn take(&mut self, partition: usize, rows: usize) -> Result<Vec<RecordBatch>> {
        if rows > self.rows(partition) {
            return internal_err!("{rows} of {} rows of partition {partition} wanted", self.rows(partition));
        }
        if rows == 0 {
            return Ok(vec![]);
        }
        let mut taken = Vec::with_capacity(rows.div_ceil(self.output_rows));
        let mut left = rows;
        while left > 0 {
            let wanted = left.min(self.output_rows);
            let pieces = self.take_pieces(partition, wanted)?;
            let pieces: Vec<_> = pieces.iter().map(|(rows, range)| (rows, range.clone())).collect();
            taken.extend(gather(&self.schema, &pieces)?);
            left -= wanted;
        }
        self.make_room()?;
        Ok(taken)
    }

    fn partition(&mut self, partition: usize) -> &mut PendingPartition {
        if partition >= self.partitions.len() {
            self.partitions.resize_with(partition + 1, PendingPartition::default);
        }
        &mut self.partitions[partition]
    }

    fn append(&mut self, partition: usize, piece: Piece) {
        let pending = self.partition(partition);
        pending.placed_rows += piece.rows as usize;
        pending.pieces.push_back(piece);
        self.blocks.pieces += 1;
    }

    /// The first `wanted` rows of `partition`, which has so many.
    fn take_pieces(&mut self, partition: usize, wanted: usize) -> Result<Vec<(RecordBatch, Range<usize>)>> {
        let mut taken = Vec::new();
        let mut left = wanted;
        while left > 0 {
            let pending = &mut self.partitions[partition];
            let Some(piece) = pending.pieces.front_mut() else {
                return internal_err!("partition {partition} has {left} rows less than it should");
            };
            let rows = left.min(piece.rows as usize);
            let range = piece.start as usize..piece.start as usize + rows;
            let block = piece.block;
            if rows == piece.rows as usize {
                pending.pieces.pop_front();
                self.blocks.pieces -= 1;
            } else {
                let rows = u32::try_from(rows).map_err(|error| internal_datafusion_err!("{error}"))?;
                piece.start += rows;
                piece.rows -= rows;
            }
            pending.placed_rows -= rows;
            left -= rows;
            self.read_block(block, range.clone(), &mut taken)?;
            self.blocks.release(block, rows);
        }
        Ok(taken)
    }

    /// Adds the rows `range` of a block to `rows`.
    fn read_block(
        &mut self,
        number: u32,
        range: Range<usize>,
        rows: &mut Vec<(RecordBatch, Range<usize>)>,
    ) -> Result<()> {
        let block = self.blocks.get(number)?;
        let is_last = block.live_rows == range.len();
        match &block.place {
            Place::Memory { batches, .. } => add_range(batches, range, rows),
            Place::Disk { cached: Some((batches, _)), .. } => add_range(batches, range, rows),
            Place::Disk { spilled, cached: None } => {
                let batches = self.files.read(spilled)?;
                add_range(&batches, range, rows);
                if !is_last {
                    self.cache(number, batches);
                }
            }
        }
        Ok(())
    }

    /// Keeps a block that was read, since others of its partitions are likely to be next, if there is memory for it.
    fn cache(&mut self, number: u32, batches: Vec<RecordBatch>) {
        let bytes = batches.iter().map(record_batch_bytes_with_dictionaries).sum::<usize>();
        if self.row_bytes() + bytes > self.memory_limit {
            self.blocks.drop_cached();
        }
        if self.row_bytes() + bytes <= self.memory_limit
            && self.reservation.try_resize(self.used_bytes() + bytes).is_ok()
        {
            self.blocks.cache(number, batches, bytes);
        }
    }

    /// Bytes of rows in memory: what a spill frees.
    fn row_bytes(&self) -> usize {
        self.blocks.memory_bytes + self.blocks.cached_bytes
    }

    /// All bytes in memory, those that say where rows are included.
    fn used_bytes(&self) -> usize {
        self.row_bytes()
            + self.blocks.pieces * size_of::<Piece>()
            + self.blocks.blocks.len() * size_of::<Option<Block>>()
            + self.partitions.len() * size_of::<PendingPartition>()
    }

    /// Writes all rows that are in memory to temporary files.
    ///
    /// # Errors
    /// As [`push_arranged`](Self::push_arranged).
    pub(crate) fn spill(&mut self) -> Result<()> {
        self.blocks.drop_cached();
        self.relocate(Destination::Disk)?;
        self.reservation.try_resize(self.used_bytes())
    }

    /// Spills if there is too much in memory, and reserves what is left.
    fn make_room(&mut self) -> Result<()> {
        if self.row_bytes() > self.memory_limit {
            self.blocks.drop_cached();
        }
        if self.row_bytes() > self.memory_limit {
            self.empty_memory()?;
        }
        if self.reservation.try_resize(self.used_bytes()).is_err() {
            self.blocks.drop_cached();
            self.relocate(Destination::Disk)?;
            self.reservation.try_resize(self.used_bytes())?;
        }
        Ok(())
    }

    /// Copies rows together if most of the memory is that of rows that were taken, else spills them.
    fn empty_memory(&mut self) -> Result<()> {
        let live_bytes = self.blocks.live_bytes();
        let is_mostly_dead =
            live_bytes <= self.memory_limit / 2 && live_bytes <= self.blocks.memory_bytes / 2;
        if is_mostly_dead && self.reservation.try_grow(live_bytes).is_ok() {
            self.relocate(Destination::Memory)?;
            if self.row_bytes() <= self.memory_limit {
                return Ok(());
            }
        }
        self.relocate(Destination::Disk)
    }

    /// Writes all rows that are in memory into new blocks, those of each partition together.
    fn relocate(&mut self, destination: Destination) -> Result<()> {
        let files = match destination {
            Destination::Memory => None,
            Destination::Disk => Some(&mut self.files),
        };
        let mut relocation = Relocation::new(&self.schema, files);
        for (partition, pending) in self.partitions.iter().enumerate() {
            relocation.add_partition(partition, &pending.pieces, &self.blocks)?;
        }
        let (created, pieces) = relocation.finish()?;
        if created.is_empty() {
            return Ok(());
        }
        if destination == Destination::Disk {
            self.spill_count += 1;
            self.metrics.spill_file_count.add(1);
            self.metrics.spilled_rows.add(created.iter().map(|block| block.rows).sum());
            self.metrics.spilled_bytes.add(created.iter().map(Block::spilled_bytes).sum());
        }
        for pending in &mut self.partitions {
            let kept =
                pending.pieces.iter().take_while(|piece| !self.blocks.is_in_memory(piece.block)).count();
            for piece in pending.pieces.drain(kept..) {
                pending.placed_rows -= piece.rows as usize;
                self.blocks.pieces -= 1;
            }
        }
        self.blocks.drop_memory();
        let numbers =
            created.into_iter().map(|block| self.blocks.insert(block)).collect::<Result<Vec<_>>>()?;
        for moved in pieces {
            let piece = Piece::try_new(numbers[moved.block], moved.rows)?;
            self.append(moved.partition, piece);
        }
        Ok(())
    }
}

impl Debug for PendingRows {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingRows")
            .field("partitions", &self.partitions.len())
            .field("memory_bytes", &self.memory_bytes())
            .field("spilled_bytes", &self.spilled_bytes())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Destination {
    Memory,
    Disk,
}

fn add_range(batches: &[RecordBatch], range: Range<usize>, rows: &mut Vec<(RecordBatch, Range<usize>)>) {
    for_each_range(batches, range, |batch, range| rows.push((batch.clone(), range)));
}

#[cfg(test)]
mod tests;
