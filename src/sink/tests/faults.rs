//! Every operation of a write fails in turn.

use std::sync::Arc;

use super::test_store::{Fault, Faults, in_memory, on_disk};
use super::*;

/// What is there before: nothing, foreign files, or commits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    Foreign,
    Commits,
}

const MODES: [WriteMode; 3] = [WriteMode::Append, WriteMode::Overwrite, WriteMode::OverwritePartitions];

/// Many rows: a file of several parts.
fn many() -> Vec<i32> {
    (0..1500).map(|i| 1000 + i * 7919 % 100_003).collect()
}

async fn prepare(place: &Place, before: Before) {
    match before {
        Before::Nothing => {}
        Before::Foreign => {
            for (path, row) in [("d/p=1/a.parquet", 1), ("d/p=2/b.parquet", 2)] {
                place.store.put(&Path::from(path), parquet(&[row]).into()).await.unwrap();
            }
        }
        Before::Commits => {
            place.write(WriteMode::Append, &[(Some(1), &[1]), (Some(2), &[2])]).await.unwrap();
        }
    }
}

fn sorted(mut rows: Vec<i32>) -> Vec<i32> {
    rows.sort_unstable();
    rows
}

/// Every so many operations fail on a disk, which is slow; all of them where `ODP_TEST_FAULTS=all`.
fn disk_step() -> usize {
    if std::env::var("ODP_TEST_FAULTS").is_ok_and(|value| value == "all") { 1 } else { 9 }
}

/// One fault at each operation; gives the number of runs.
async fn every_operation_fails(
    before: Before,
    persists: bool,
    step: usize,
    make: impl Fn() -> (Place, Arc<Faults>),
) -> usize {
    let many = many();
    let files: [(Option<i32>, &[i32]); 2] = [(Some(2), &many), (Some(3), &[30])];
    let (mut runs, mut combinations) = (0, 0);
    for mode in MODES {
        let (old, new, operations) = {
            let (place, faults) = make();
            prepare(&place, before).await;
            let old = sorted(place.rows().await.unwrap());
            faults.set(u64::MAX - 1, Fault::Before, false);
            place.write(mode, &files).await.unwrap();
            let operations = faults.stop();
            (old, sorted(place.rows().await.unwrap()), operations)
        };
        assert_ne!(old, new);
        for kind in Fault::ALL {
            combinations += 1;
            // Others each time, so that all of them are seen with some mode and kind.
            for at in (combinations % step as u64..operations).step_by(step) {
                let (place, faults) = make();
                prepare(&place, before).await;
                faults.set(at, kind, persists);
                let result = place.write(mode, &files).await;
                tokio::task::yield_now().await;
                faults.stop();
                let what = format!("{before:?} {mode} {kind:?} at {at} of {operations}: {result:?}");
                let rows = sorted(place.rows().await.unwrap_or_else(|error| panic!("{what}: {error}")));
                match &result {
                    Ok(_) => assert_eq!(rows, new, "{what}"),
                    Err(error) if error.to_string().contains("not known") => {
                        assert!(rows == old || rows == new, "{what}: {rows:?}");
                    }
                    Err(error) if error.to_string().contains("rows are there") => {
                        assert!(rows == old || rows == new, "{what}: {rows:?}");
                    }
                    Err(_) => assert_eq!(rows, old, "{what}"),
                }
                // A detached abort may be under way.
                tokio::time::sleep(Duration::from_millis(if place.disk.is_none() { 1 } else { 0 })).await;
                place.assert_clean(&what).await;
                runs += 1;
            }
        }
    }
    runs
}

#[tokio::test]
async fn a_fault_at_any_operation_leaves_the_old_or_the_new_state_in_memory() {
    for before in [Before::Nothing, Before::Foreign, Before::Commits] {
        assert!(every_operation_fails(before, false, 1, in_memory).await > 100);
    }
}

#[tokio::test]
async fn a_fault_at_any_operation_leaves_the_old_or_the_new_state_on_disk() {
    let root = tempfile::tempdir().unwrap();
    let next = std::sync::atomic::AtomicU64::new(0);
    let make = || {
        let next = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = root.path().join(next.to_string());
        std::fs::create_dir(&root).unwrap();
        on_disk(&root)
    };
    for before in [Before::Nothing, Before::Foreign, Before::Commits] {
        assert!(every_operation_fails(before, false, disk_step(), make).await > 30);
    }
}

#[tokio::test]
async fn a_store_that_fails_for_good_leaves_the_old_or_the_new_state() {
    assert!(every_operation_fails(Before::Commits, true, 3, in_memory).await > 30);
    let root = tempfile::tempdir().unwrap();
    let next = std::sync::atomic::AtomicU64::new(0);
    let make = || {
        let next = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = root.path().join(next.to_string());
        std::fs::create_dir(&root).unwrap();
        on_disk(&root)
    };
    assert!(every_operation_fails(Before::Foreign, true, 2 * disk_step(), make).await > 15);
}
