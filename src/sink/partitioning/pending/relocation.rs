//! Rows in memory, written into new blocks: those of each partition together.

use std::collections::VecDeque;
use std::ops::Range;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;

use super::blocks::{Block, Blocks, Piece, Place, for_each_range, size_of_batches};
use crate::sink::partitioning::gather::{gather, with_own_memory};
use crate::sink::partitioning::spill_file::SpillFiles;

/// Partitions with fewer bytes share a block with others: smaller blocks would be mostly headers.
const SHARED_BLOCK_BYTES: usize = 64 << 10;

/// Partitions with more bytes have several blocks.
const MAX_BLOCK_BYTES: usize = 1 << 20;

/// No block has more rows.
const MAX_BLOCK_ROWS: usize = 8_192;

/// New blocks for rows that are in memory.
pub(super) struct Relocation<'a> {
    schema: &'a SchemaRef,
    /// `None`: the new blocks are in memory, too.
    files: Option<&'a mut SpillFiles>,
    created: Vec<Block>,
    pieces: Vec<MovedPiece>,
    /// What the next block is made of.
    group: Vec<(usize, &'a RecordBatch, Range<usize>)>,
    group_rows: usize,
    group_bytes: usize,
}

/// Adjacent rows of one partition in a new block.
pub(super) struct MovedPiece {
    pub(super) partition: usize,
    /// Its place among the new blocks.
    pub(super) block: usize,
    pub(super) rows: Range<usize>,
}

impl<'a> Relocation<'a> {
    /// Into `files`, or into memory.
    pub(super) fn new(schema: &'a SchemaRef, files: Option<&'a mut SpillFiles>) -> Self {
        let (created, pieces, group) = (Vec::new(), Vec::new(), Vec::new());
        Self { schema, files, created, pieces, group, group_rows: 0, group_bytes: 0 }
    }

    /// Adds the rows of a partition that are in memory.
    pub(super) fn add_partition(
        &mut self,
        partition: usize,
        pieces: &VecDeque<Piece>,
        blocks: &'a Blocks,
    ) -> Result<()> {
        let mut ranges = Vec::new();
        for piece in pieces.iter().skip_while(|piece| !blocks.is_in_memory(piece.block)) {
            if let Place::Memory { batches, bytes } = &blocks.get(piece.block)?.place {
                let row_bytes =
                    bytes.div_ceil(batches.iter().map(RecordBatch::num_rows).sum::<usize>().max(1));
                let start = piece.start as usize;
                for_each_range(batches, start..start + piece.rows as usize, |batch, range| {
                    ranges.push((batch, range, row_bytes));
                });
            }
        }
        let bytes: usize = ranges.iter().map(|(_, range, row_bytes)| range.len() * row_bytes).sum();
        if self.group_bytes >= SHARED_BLOCK_BYTES || bytes >= SHARED_BLOCK_BYTES {
            self.finish_group()?;
        }
        for (batch, mut range, row_bytes) in ranges {
            while !range.is_empty() {
                let bytes_left = MAX_BLOCK_BYTES.saturating_sub(self.group_bytes);
                let fit = (bytes_left / row_bytes.max(1)).min(MAX_BLOCK_ROWS - self.group_rows);
                if fit == 0 && self.group_rows > 0 {
                    self.finish_group()?;
                    continue;
                }
                let rows = range.len().min(fit.max(1));
                self.group.push((partition, batch, range.start..range.start + rows));
                self.group_rows += rows;
                self.group_bytes += rows * row_bytes;
                range.start += rows;
            }
        }
        Ok(())
    }

    /// The new blocks, and where the rows of each partition are.
    pub(super) fn finish(mut self) -> Result<(Vec<Block>, Vec<MovedPiece>)> {
        self.finish_group()?;
        Ok((self.created, self.pieces))
    }

    fn finish_group(&mut self) -> Result<()> {
        let group = std::mem::take(&mut self.group);
        let rows = std::mem::take(&mut self.group_rows);
        self.group_bytes = 0;
        if group.is_empty() {
            return Ok(());
        }
        let pieces: Vec<_> = group.iter().map(|(_, batch, range)| (*batch, range.clone())).collect();
        let batches = gather(self.schema, &pieces)?;
        let place = match &mut self.files {
            None => {
                // A slice of a block would keep all of it.
                let batches = batches.into_iter().map(with_own_memory).collect::<Result<Vec<_>, _>>()?;
                let (_, bytes) = size_of_batches(&batches);
                Place::Memory { batches, bytes }
            }
            Some(files) => Place::Disk { spilled: files.write(&batches)?, cached: None },
        };
        let mut start = 0;
        for same in group.chunk_by(|(a, ..), (b, ..)| a == b) {
            let rows: usize = same.iter().map(|(_, _, range)| range.len()).sum();
            let rows_in_block = start..start + rows;
            self.pieces.push(MovedPiece {
                partition: same[0].0,
                block: self.created.len(),
                rows: rows_in_block,
            });
            start += rows;
        }
        self.created.push(Block { place, rows, live_rows: rows });
        Ok(())
    }
}
