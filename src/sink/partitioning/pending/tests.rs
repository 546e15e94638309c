//! Random pushes and takes against lists of rows; memory, temporary files and their limits.

use std::num::NonZeroUsize;

use super::*;
use crate::sink::partitioning::gather::buffer_bytes;
use crate::sink::partitioning::partitioner::ArrangedRows;
use datafusion::arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Int64Array, ListArray, StringArray, StringViewArray, StructArray,
    UInt32Array,
};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{Field, Int32Type, Int64Type};
use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Rows of one partition.
fn push(pending: &mut PendingRows, partition: usize, rows: RecordBatch) -> Result<()> {
    let partitions = vec![(partition, 0..rows.num_rows())];
    pending.push_arranged(ArrangedRows { rows, partitions })
}

const NO_LIMIT: usize = usize::MAX / 2;

/// A runtime with so much memory, and no temporary files or at most `disk_bytes` of them.
fn runtime(memory_bytes: usize, disk_bytes: Option<u64>) -> Arc<RuntimeEnv> {
    let pool = TrackConsumersPool::new(GreedyMemoryPool::new(memory_bytes), NonZeroUsize::new(5).unwrap());
    let disk = match disk_bytes {
        None => DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        Some(bytes) => DiskManagerBuilder::default().with_max_temp_directory_size(bytes),
    };
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(pool))
        .with_disk_manager_builder(disk)
        .build_arc()
        .unwrap()
}

fn pending(schema: SchemaRef, runtime: &Arc<RuntimeEnv>, limit: usize) -> PendingRows {
    let context = Arc::new(TaskContext::default().with_runtime(Arc::clone(runtime)));
    let metrics = SpillMetrics::new(&ExecutionPlanMetricsSet::new(), 0);
    PendingRows::try_new(schema, &context, limit, metrics).unwrap()
}

/// Rows `start..start + len`, of many types, with NULLs.
fn rows(start: i64, len: usize) -> RecordBatch {
    rows_of(&(start..start + i64::try_from(len).unwrap()).collect::<Vec<_>>())
}

/// The rows with these numbers.
fn rows_of(ids: &[i64]) -> RecordBatch {
    let text =
        |i: &i64| (i % 7 != 0).then(|| format!("{i}:{}", "x".repeat(usize::try_from(i % 40).unwrap())));
    let texts: Vec<Option<String>> = ids.iter().map(text).collect();
    let views: ArrayRef = Arc::new(texts.iter().map(Option::as_deref).collect::<StringViewArray>());
    let dictionary: DictionaryArray<Int32Type> = texts.iter().map(Option::as_deref).collect();
    let dictionary: ArrayRef = Arc::new(dictionary);
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(
        ids.iter().map(|i| (i % 5 != 0).then(|| (0..i % 4).map(Some).collect::<Vec<_>>())),
    );
    let field = |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
    let nested = StructArray::from(vec![
        (field("view", &views), Arc::clone(&views)),
        (field("dictionary", &dictionary), Arc::clone(&dictionary)),
    ]);
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef, false),
        ("name", Arc::new(texts.iter().map(Option::as_deref).collect::<StringArray>()), true),
        ("view", views, true),
        ("dictionary", dictionary, true),
        ("lists", Arc::new(lists), true),
        ("nested", Arc::new(nested), true),
    ])
    .unwrap()
}

fn ids(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// Every column of `taken` is what [`rows`] made for these ids.
fn assert_rows_are(taken: &[RecordBatch], expected: &[i64], seed: u64) {
    assert_eq!(ids(taken), expected, "seed {seed}");
    if let [first, ..] = taken {
        let expected = rows_of(expected);
        let taken = concat_batches(&first.schema(), taken).unwrap();
        for (taken, expected) in taken.columns().iter().zip(expected.columns()) {
            assert_eq!(taken, expected, "seed {seed}");
        }
    }
}

/// Random pushes and takes, both kinds of pushes; returns how often there was a spill.
fn compare_with_lists(seed: u64, runtime: &Arc<RuntimeEnv>, limit: usize, max_rows: usize) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let mut lists: Vec<VecDeque<i64>> = vec![VecDeque::new(); 20];
    let mut pending = pending(rows(0, 1).schema(), runtime, limit);
    let mut next = 0;
    for _ in 0..60 {
        let batch = rows(next, random.random_range(1..=max_rows));
        next += i64::try_from(batch.num_rows()).unwrap();
        let mut order: Vec<u32> = (0..u32::try_from(batch.num_rows()).unwrap()).collect();
        order.shuffle(&mut random);
        let batch = take_record_batch(&batch, &UInt32Array::from(order)).unwrap();
        let mut partitions = Vec::new();
        let mut start = 0;
        while start < batch.num_rows() {
            let end = (start + random.random_range(1..=max_rows)).min(batch.num_rows());
            partitions.push((random.random_range(0..lists.len()), start..end));
            start = end;
        }
        for (partition, range) in &partitions {
            lists[*partition].extend(ids(&[batch.slice(range.start, range.len())]));
        }
        if random.random() {
            pending.push_arranged(ArrangedRows { rows: batch, partitions }).unwrap();
        } else {
            for (partition, range) in partitions {
                push(&mut pending, partition, batch.slice(range.start, range.len())).unwrap();
            }
        }
        for _ in 0..random.random_range(0..4) {
            let partition = random.random_range(0..lists.len());
            assert_eq!(pending.rows(partition), lists[partition].len());
            let wanted = random.random_range(0..=lists[partition].len());
            let expected: Vec<_> = lists[partition].drain(..wanted).collect();
            assert_rows_are(&pending.take(partition, wanted).unwrap(), &expected, seed);
        }
    }
    for (partition, list) in lists.into_iter().enumerate() {
        let taken = pending.take(partition, list.len()).unwrap();
        assert_rows_are(&taken, &Vec::from(list), seed);
    }
    assert_eq!(pending.blocks.memory_bytes + pending.blocks.cached_bytes + pending.blocks.pieces, 0);
    assert!(pending.blocks.blocks.iter().all(Option::is_none));
    pending.spill_count()
}

#[test]
fn rows_come_back_in_order_from_memory() {
    let runtime = runtime(NO_LIMIT, None);
    assert_eq!(compare_with_lists(1, &runtime, NO_LIMIT, 300), 0);
    assert_eq!(runtime.memory_pool.reserved(), 0);
}

#[test]
fn rows_come_back_in_order_from_disk_when_every_push_spills() {
    let runtime = runtime(NO_LIMIT, Some(u64::MAX));
    assert!(compare_with_lists(2, &runtime, 0, 300) >= 60);
    assert_eq!((runtime.memory_pool.reserved(), runtime.disk_manager.used_disk_space()), (0, 0));
}

#[test]
fn rows_come_back_in_order_from_memory_and_disk() {
    for seed in 3..7 {
        let runtime = runtime(NO_LIMIT, Some(u64::MAX));
        let limit = 20_000 << (seed - 3);
        let max_rows = if seed % 2 == 0 { 1_500 } else { 200 };
        assert!(compare_with_lists(seed, &runtime, limit, max_rows) > 0, "seed {seed}");
        assert_eq!((runtime.memory_pool.reserved(), runtime.disk_manager.used_disk_space()), (0, 0));
    }
}

#[test]
fn a_full_pool_spills_whatever_the_limit() {
    let runtime = runtime(400_000, Some(u64::MAX));
    assert!(compare_with_lists(9, &runtime, NO_LIMIT, 500) > 0);
    assert_eq!(runtime.memory_pool.reserved(), 0);
}

#[test]
fn record_batches_are_cut_alike_wherever_the_rows_were() {
    let mut cuts = Vec::new();
    for (limit, step) in [(NO_LIMIT, 100), (0, 100), (100_000, 1_500)] {
        let runtime = runtime(NO_LIMIT, Some(u64::MAX));
        let mut pending = pending(rows(0, 1).schema(), &runtime, limit);
        for start in (0..30_000).step_by(step) {
            push(&mut pending, 3, rows(start, step)).unwrap();
        }
        let taken = [pending.take(3, 20_000).unwrap(), pending.take(3, 10_000).unwrap()].concat();
        assert_eq!(ids(&taken), (0..30_000).collect::<Vec<_>>());
        cuts.push(taken.iter().map(RecordBatch::num_rows).collect::<Vec<_>>());
    }
    assert_eq!(cuts[0], [8_192, 8_192, 3_616, 8_192, 1_808]);
    assert!(cuts.iter().all(|cut| *cut == cuts[0]));
}

#[test]
fn memory_is_that_of_the_rows_and_not_of_what_they_are_slices_of() {
    let runtime = runtime(NO_LIMIT, None);
    let mut pending = pending(rows(0, 1).schema(), &runtime, NO_LIMIT);
    for parent in 0..20 {
        let parent = rows(parent * 100_000, 10_000);
        push(&mut pending, 1, parent.slice(5_000, 1)).unwrap();
        push(&mut pending, 0, parent.slice(77, 1_100)).unwrap();
    }
    let expected = 20 * record_batch_bytes_with_dictionaries(&rows(0, 1_200));
    assert!(pending.memory_bytes() < expected, "{} of {expected}", pending.memory_bytes());
    let kept = |block: &Block| match &block.place {
        Place::Memory { batches, .. } => {
            batches.iter().flat_map(RecordBatch::columns).map(|column| buffer_bytes(&column.to_data())).sum()
        }
        Place::Disk { .. } => 0_usize,
    };
    let kept: usize = pending.blocks.blocks.iter().flatten().map(kept).sum();
    assert!(kept < 2 * expected, "{kept} of {expected}");
    assert_eq!(runtime.memory_pool.reserved(), pending.memory_bytes());
    drop(pending);
    assert_eq!(runtime.memory_pool.reserved(), 0);
}

#[test]
fn blocks_of_mostly_taken_rows_are_copied_together_and_not_spilled() {
    let runtime = runtime(NO_LIMIT, Some(u64::MAX));
    let limit = 8_000_000;
    let mut pending = pending(rows(0, 1).schema(), &runtime, limit);
    for start in (0..400_000).step_by(2_000) {
        let partitions = vec![(0, 0..1_950), (1, 1_950..2_000)];
        pending.push_arranged(ArrangedRows { rows: rows(start, 2_000), partitions }).unwrap();
        pending.take(0, 1_950).unwrap();
        assert!(pending.memory_bytes() < limit + 500_000);
    }
    assert_eq!((pending.spill_count(), pending.rows(1)), (0, 10_000));
    let expected: Vec<i64> = (0..400_000).filter(|i| i % 2_000 >= 1_950).collect();
    assert_eq!(ids(&pending.take(1, 10_000).unwrap()), expected);
}

#[test]
fn without_temporary_files_too_many_rows_are_resources_exhausted() {
    let runtime = runtime(NO_LIMIT, None);
    let mut pending = pending(rows(0, 1).schema(), &runtime, 100_000);
    let error = (0..1_000).find_map(|i| push(&mut pending, 0, rows(i * 2_000, 2_000)).err()).unwrap();
    assert!(matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{error}");
    assert!(error.to_string().contains(CONSUMER), "{error}");
}

#[test]
fn a_full_disk_is_resources_exhausted() {
    let runtime = runtime(NO_LIMIT, Some(100_000));
    let mut pending = pending(rows(0, 1).schema(), &runtime, 100_000);
    let error = (0..1_000).find_map(|i| push(&mut pending, 0, rows(i * 2_000, 2_000)).err()).unwrap();
    assert!(matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)), "{error}");
    assert!(error.to_string().contains(CONSUMER) && error.to_string().contains("disk space"), "{error}");
    drop(pending);
    assert_eq!((runtime.memory_pool.reserved(), runtime.disk_manager.used_disk_space()), (0, 0));
}

#[test]
fn taking_more_rows_than_there_are_is_an_error() {
    let runtime = runtime(NO_LIMIT, None);
    let mut pending = pending(rows(0, 1).schema(), &runtime, NO_LIMIT);
    push(&mut pending, 0, rows(0, 10)).unwrap();
    assert!(pending.take(0, 11).is_err() && pending.take(7, 1).is_err());
    assert!(pending.take(7, 0).unwrap().is_empty());
}

#[test]
fn many_spills_share_a_few_files() {
    let runtime = runtime(NO_LIMIT, Some(u64::MAX));
    let mut pending = pending(rows(0, 1).schema(), &runtime, 0);
    for partition in [0, 1, 2, 1].repeat(50) {
        push(&mut pending, partition, rows(0, 1)).unwrap();
    }
    assert_eq!(pending.spill_count(), 200);
    assert_eq!(runtime.disk_manager.spilling_progress().active_files_count, 1);
    assert_eq!(runtime.disk_manager.used_disk_space(), u64::try_from(pending.spilled_bytes()).unwrap());
    drop(pending);
    assert_eq!(runtime.disk_manager.spilling_progress().active_files_count, 0);
}
