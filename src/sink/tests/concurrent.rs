//! Many writers, and many readers.

use std::collections::BTreeMap;

use datafusion::common::runtime::SpawnedTask;

use super::test_store::{in_memory, on_disk};
use super::*;

/// `writers` at once, for some rounds: each commit that was acknowledged is there as if they came one after another.
async fn write_at_once(place: &Place, writers: usize, modes: &[WriteMode], rounds: usize) -> usize {
    let mut commits: BTreeMap<u64, (WriteMode, i32, i32)> = BTreeMap::new();
    let mut conflicts = 0;
    for round in 0..rounds {
        let tasks: Vec<_> = (0..writers)
            .map(|writer| {
                let (place, mode) = (place.clone(), modes[(round + writer) % modes.len()]);
                let row = i32::try_from(round * writers + writer).unwrap();
                let partition = i32::try_from(writer % 3).unwrap();
                SpawnedTask::spawn(async move {
                    let result = place.write(mode, &[(Some(partition), &[row])]).await;
                    (result, mode, partition, row)
                })
            })
            .collect();
        for task in tasks {
            let (result, mode, partition, row) = task.join().await.unwrap();
            match result {
                Ok(commit) => {
                    let known = commits.insert(commit.version.unwrap(), (mode, partition, row));
                    assert_eq!(known, None, "two commits of one number");
                }
                Err(OdpError::Conflict { .. }) if mode != WriteMode::Append => conflicts += 1,
                Err(error) => panic!("{mode}: {error}"),
            }
        }
    }
    let mut expected: Vec<(i32, i32)> = Vec::new();
    for (mode, partition, row) in commits.into_values() {
        match mode {
            WriteMode::Overwrite => expected.clear(),
            WriteMode::OverwritePartitions => expected.retain(|(other, _)| *other != partition),
            _ => {}
        }
        expected.push((partition, row));
    }
    let mut expected: Vec<i32> = expected.into_iter().map(|(_, row)| row).collect();
    let mut rows = place.rows().await.unwrap();
    expected.sort_unstable();
    rows.sort_unstable();
    assert_eq!(rows, expected);
    place.assert_clean("after all").await;
    conflicts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_once_are_as_if_one_came_after_another_in_memory() {
    use WriteMode::{Append, Overwrite, OverwritePartitions};
    for writers in [2, 8] {
        assert_eq!(write_at_once(&in_memory().0, writers, &[Append], 12).await, 0);
        let conflicts = write_at_once(&in_memory().0, writers, &[Overwrite], 12).await;
        assert!(conflicts > 0 || writers < 8);
        write_at_once(&in_memory().0, writers, &[OverwritePartitions], 12).await;
        write_at_once(&in_memory().0, writers, &[Append, OverwritePartitions, Overwrite], 20).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_once_are_as_if_one_came_after_another_on_disk() {
    use WriteMode::{Append, Overwrite, OverwritePartitions};
    for (writers, modes) in
        [(2, &[Append][..]), (8, &[Append]), (8, &[Append, OverwritePartitions, Overwrite])]
    {
        let root = tempfile::tempdir().unwrap();
        write_at_once(&on_disk(root.path()).0, writers, modes, 10).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_creates_the_dataset() {
    let place = in_memory().0;
    let tasks: Vec<_> = (0..8)
        .map(|row| {
            let place = place.clone();
            SpawnedTask::spawn(async move { place.write(WriteMode::ErrorIfExists, &[(None, &[row])]).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.join().await.unwrap() {
            Ok(_) => won += 1,
            Err(OdpError::Exists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((won, place.rows().await.unwrap().len()), (1, 1));
}

/// Readers while each commit replaces all rows: each sees those of one commit.
async fn read_during_commits(place: Place, readers: usize, commits: i32) {
    for name in ["a", "b", "c"] {
        place.store.put(&Path::from(format!("d/{name}.parquet")), parquet(&[0]).into()).await.unwrap();
    }
    let is_done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tasks: Vec<_> = (0..readers)
        .map(|_| {
            let (place, is_done) = (place.clone(), Arc::clone(&is_done));
            SpawnedTask::spawn(async move {
                let (mut reads, mut last) = (0, 0);
                loop {
                    let ends = is_done.load(std::sync::atomic::Ordering::Relaxed);
                    let rows = place.rows().await.unwrap();
                    assert!(rows.len() == 3 && rows.iter().all(|row| *row == rows[0]), "{rows:?}");
                    assert!(rows[0] >= last, "{} after {last}", rows[0]);
                    (reads, last) = (reads + 1, rows[0]);
                    if ends {
                        return (reads, last);
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for row in 1..=commits {
        place.write(WriteMode::Overwrite, &[(None, &[row]), (None, &[row]), (None, &[row])]).await.unwrap();
    }
    is_done.store(true, std::sync::atomic::Ordering::Relaxed);
    for task in tasks {
        let (reads, last) = task.join().await.unwrap();
        assert!(reads > 0);
        assert_eq!(last, commits);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_one_version_during_commits_in_memory() {
    read_during_commits(in_memory().0, 50, 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_one_version_during_commits_on_disk() {
    let root = tempfile::tempdir().unwrap();
    read_during_commits(on_disk(root.path()).0, 8, 40).await;
}

/// A listing takes time: it may lack a foreign file that a commit removed meanwhile, and that commit, or all of the log.
#[tokio::test]
async fn a_listing_that_a_commit_overtook_is_made_again() {
    for has_log in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let (place, faults) = on_disk(root.path());
        for (name, row) in [("a", 1), ("b", 2)] {
            place.store.put(&Path::from(format!("d/{name}.parquet")), parquet(&[row]).into()).await.unwrap();
        }
        if has_log {
            place.write(WriteMode::Append, &[(None, &[3])]).await.unwrap();
        }
        let mut found: Vec<_> = place.store.list(Some(&Path::from("d"))).try_collect().await.unwrap();
        let Begun::Write(transaction) = place.begin(WriteMode::Overwrite).await.unwrap() else { panic!() };
        commit(transaction.with_keep_replaced(true), &[(None, &[4])]).await.unwrap();
        found.retain(|meta| meta.location.as_ref() != "d/b.parquet");
        faults.list_next(found);
        assert_eq!(place.rows().await.unwrap(), [4], "with a log: {has_log}");
    }
}
