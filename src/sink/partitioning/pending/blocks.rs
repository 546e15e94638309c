//! Blocks of rows, in memory or in temporary files, by number.

use std::ops::Range;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::{DataFusionError, Result, exec_datafusion_err, internal_datafusion_err};

use crate::row_bytes::record_batch_bytes_with_dictionaries;
use crate::sink::partitioning::spill_file::SpilledRows;

/// Adjacent rows of one block.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) block: u32,
    pub(super) start: u32,
    pub(super) rows: u32,
}

/// Rows of one or more partitions.
pub(super) struct Block {
    pub(super) place: Place,
    pub(super) rows: usize,
    /// Rows that were not taken.
    pub(super) live_rows: usize,
}

/// The rows of a block; where they are several record batches, one after the other.
pub(super) enum Place {
    /// In memory, of so many bytes.
    Memory { batches: Vec<RecordBatch>, bytes: usize },
    /// In a temporary file; `cached`, with its bytes, is what was read of it.
    Disk { spilled: SpilledRows, cached: Option<(Vec<RecordBatch>, usize)> },
}

/// All blocks, by number; numbers are used again.
#[derive(Default)]
pub(super) struct Blocks {
    pub(super) blocks: Vec<Option<Block>>,
    free: Vec<u32>,
    /// Of blocks in memory.
    pub(super) memory_bytes: usize,
    /// Of blocks on disk that are in memory, too.
    pub(super) cached_bytes: usize,
    /// Their numbers, and those of blocks that are gone.
    cached: Vec<u32>,
    /// How many pieces the blocks have.
    pub(super) pieces: usize,
}

impl Piece {
    pub(super) fn try_new(block: u32, range: Range<usize>) -> Result<Self> {
        match (u32::try_from(range.start), u32::try_from(range.len())) {
            (Ok(start), Ok(rows)) => Ok(Self { block, start, rows }),
            _ => Err(exec_datafusion_err!("a record batch has more than {} rows", range.end)),
        }
    }
}

impl Block {
    pub(super) fn spilled_bytes(&self) -> usize {
        match &self.place {
            Place::Memory { .. } => 0,
            Place::Disk { spilled, .. } => spilled.bytes(),
        }
    }
}

impl Blocks {
    /// Adds a block, and returns its number.
    pub(super) fn insert(&mut self, block: Block) -> Result<u32> {
        if let Place::Memory { bytes, .. } = &block.place {
            self.memory_bytes += bytes;
        }
        if let Some(number) = self.free.pop() {
            self.blocks[number as usize] = Some(block);
            return Ok(number);
        }
        let number =
            u32::try_from(self.blocks.len()).map_err(|_| exec_datafusion_err!("too many blocks of rows"))?;
        self.blocks.push(Some(block));
        Ok(number)
    }

    pub(super) fn get(&self, number: u32) -> Result<&Block> {
        self.blocks.get(number as usize).and_then(Option::as_ref).ok_or_else(|| missing(number))
    }

    pub(super) fn is_in_memory(&self, number: u32) -> bool {
        self.get(number).is_ok_and(|block| matches!(block.place, Place::Memory { .. }))
    }

    /// Counts `rows` rows of a block as taken, and drops it after the last.
    pub(super) fn release(&mut self, number: u32, rows: usize) {
        let Some(slot) = self.blocks.get_mut(number as usize) else { return };
        let Some(block) = slot else { return };
        block.live_rows = block.live_rows.saturating_sub(rows);
        if block.live_rows == 0 {
            match &block.place {
                Place::Memory { bytes, .. } => self.memory_bytes -= bytes,
                Place::Disk { cached, .. } => {
                    self.cached_bytes -= cached.as_ref().map_or(0, |(_, bytes)| *bytes);
                }
            }
            *slot = None;
            self.free.push(number);
        }
    }

    /// Drops all blocks in memory.
    pub(super) fn drop_memory(&mut self) {
        for (number, slot) in (0..).zip(&mut self.blocks) {
            if slot.as_ref().is_some_and(|block| matches!(block.place, Place::Memory { .. })) {
                *slot = None;
                self.free.push(number);
            }
        }
        self.memory_bytes = 0;
    }

    /// Keeps in memory what was read of a block on disk.
    pub(super) fn cache(&mut self, number: u32, batches: Vec<RecordBatch>, bytes: usize) {
        let block = self.blocks.get_mut(number as usize).and_then(Option::as_mut);
        if let Some(Block { place: Place::Disk { cached, .. }, .. }) = block {
            *cached = Some((batches, bytes));
            self.cached_bytes += bytes;
            self.cached.push(number);
        }
    }

    /// Drops what is cached of blocks on disk.
    pub(super) fn drop_cached(&mut self) {
        for number in self.cached.drain(..) {
            let block = self.blocks.get_mut(number as usize).and_then(Option::as_mut);
            if let Some(Block { place: Place::Disk { cached, .. }, .. }) = block {
                *cached = None;
            }
        }
        self.cached_bytes = 0;
    }

    /// Bytes in memory of rows that were not taken, if all rows of a block have the same size.
    pub(super) fn live_bytes(&self) -> usize {
        let live = |block: &Block| match &block.place {
            Place::Memory { bytes, .. } => bytes / block.rows.max(1) * block.live_rows,
            Place::Disk { .. } => 0,
        };
        self.blocks.iter().flatten().map(live).sum()
    }
}

fn missing(number: u32) -> DataFusionError {
    internal_datafusion_err!("block {number} of pending rows is gone")
}

/// Rows and bytes.
pub(super) fn size_of_batches(batches: &[RecordBatch]) -> (usize, usize) {
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    (rows, batches.iter().map(record_batch_bytes_with_dictionaries).sum())
}

/// Calls `each` with the parts of `range`, which counts rows of all `batches`.
pub(super) fn for_each_range<'a>(
    batches: &'a [RecordBatch],
    range: Range<usize>,
    mut each: impl FnMut(&'a RecordBatch, Range<usize>),
) {
    let mut first = 0;
    for batch in batches {
        let start = range.start.max(first);
        let end = range.end.min(first + batch.num_rows());
        if start < end {
            each(batch, start - first..end - first);
        }
        first += batch.num_rows();
    }
}
