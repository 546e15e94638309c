//! Puts encoded row groups together to files, in the order in which they were submitted.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::memory_pool::MemoryReservation;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::commit::Transaction;
use super::encoder::{EncodedRowGroup, Encoder, joined};
use super::file_writer::{FileWriter, FinishedFile};
use super::metrics::SinkMetrics;

/// A directory of the dataset that gets files.
#[derive(Debug)]
pub(super) struct Place {
    /// Number of the partition; 0 where there are none.
    pub(super) partition: usize,
    /// `year=2020/month=1`, escaped; empty where there are no partitions.
    pub(super) directory: String,
    /// Exact texts of the partition values.
    pub(super) values: Vec<Option<String>>,
}

/// What is to be done next.
pub(super) enum Command {
    /// Append a row group to the open file of a place, or to a new one.
    Append { place: Arc<Place>, group: SpawnedTask<Result<EncodedRowGroup>>, held: Held },
    /// The place gets no more rows for now; where it never got any, an empty file.
    Close { place: Arc<Place> },
}

/// What a row group holds until it is in its file: a turn, and memory.
pub(super) struct Held {
    pub(super) _turn: OwnedSemaphorePermit,
    pub(super) _memory: MemoryReservation,
}

/// When a file is full, and how many are completed at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct FileLimits {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Beside those that are open: forcing one to the disk takes a while. More than none.
    pub(super) finishing: usize,
}

pub(super) struct Assembler {
    pub(super) transaction: Arc<Transaction>,
    pub(super) encoder: Arc<Encoder>,
    pub(super) limits: FileLimits,
    pub(super) metrics: SinkMetrics,
    /// Empty: those of files are made from it.
    memory: MemoryReservation,
    open: HashMap<usize, FileWriter>,
    /// Places that got a file.
    begun: HashSet<usize>,
    /// Files so far. No two have one number, so that not even a file system that takes the directories of two partitions
    /// for one lets them have one name.
    files: u64,
    /// Files that are being completed, in the order in which they were closed.
    finishing: VecDeque<SpawnedTask<Result<FinishedFile>>>,
    finished: Vec<FinishedFile>,
}

impl Assembler {
    pub(super) fn new(
        transaction: Arc<Transaction>,
        encoder: Arc<Encoder>,
        limits: FileLimits,
        metrics: SinkMetrics,
        memory: MemoryReservation,
    ) -> Self {
        let (open, begun, files, finishing, finished) = Default::default();
        Self { transaction, encoder, limits, metrics, memory, open, begun, files, finishing, finished }
    }

    /// Carries out all commands; gives the files, complete but not visible.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<Vec<FinishedFile>> {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Append { place, group, held } => {
                    let group = joined(group).await?;
                    self.append(&place, group).await?;
                    drop(held);
                }
                Command::Close { place } => {
                    if !self.begun.contains(&place.partition) {
                        let file = self.new_file(&place)?;
                        self.open.insert(place.partition, file);
                    }
                    self.close(&place).await?;
                }
            }
        }
        self.finish_until(0).await?;
        Ok(self.finished)
    }

    /// Waits until at most `left` files are being completed.
    async fn finish_until(&mut self, left: usize) -> Result<()> {
        while self.finishing.len() > left
            && let Some(file) = self.finishing.pop_front()
        {
            self.finished.push(joined(file).await?);
            self.metrics.files_written.add(1);
        }
        Ok(())
    }

    async fn append(&mut self, place: &Place, group: EncodedRowGroup) -> Result<()> {
        let rows = group.rows as u64;
        let is_full = self.open.get(&place.partition).is_some_and(|file| {
            file.rows() + rows > self.limits.rows || file.bytes() + group.bytes() > self.limits.bytes
        });
        if is_full {
            self.close(place).await?;
        }
        let mut file = match self.open.remove(&place.partition) {
            Some(file) => file,
            None => self.new_file(place)?,
        };
        let before = file.bytes();
        {
            let _timer = self.metrics.write_time.timer();
            file.append(group).await?;
        }
        self.metrics.bytes_written.add(usize::try_from(file.bytes() - before).unwrap_or(usize::MAX));
        self.open.insert(place.partition, file);
        self.metrics.open_writers.set_max(self.open.len() + self.finishing.len());
        self.metrics.row_groups_written.add(1);
        self.metrics.rows_written.add(usize::try_from(rows).unwrap_or(usize::MAX));
        Ok(())
    }

    fn new_file(&mut self, place: &Place) -> Result<FileWriter> {
        self.begun.insert(place.partition);
        let staged = self.transaction.create_file(&place.directory, self.files);
        let staged = staged.counting(self.metrics.early_syncs.clone());
        self.files += 1;
        FileWriter::try_new(Arc::clone(&self.encoder), staged, self.memory.new_empty())
    }

    async fn close(&mut self, place: &Place) -> Result<()> {
        if let Some(file) = self.open.remove(&place.partition) {
            self.finish_until(self.limits.finishing - 1).await?;
            self.finishing.push_back(SpawnedTask::spawn(file.finish(place.values.clone())));
        }
        Ok(())
    }
}
