//! What a write refuses, and what cleaning leaves alone.

use super::test_store::{Fault, in_memory, on_disk};
use super::*;
use crate::sink::clean::Leftover;

#[tokio::test]
async fn targets_that_cannot_be_written_are_refused_before_a_row_is_read() {
    let root = tempfile::tempdir().unwrap();
    let (place, faults) = on_disk(root.path());
    std::fs::write(root.path().join("d"), b"a file").unwrap();
    let error = place.begin(WriteMode::Append).await.unwrap_err();
    assert!(matches!(error, OdpError::Exists { .. }) && error.to_string().contains("is a file"), "{error}");
    let below = place.target("d/below", false);
    let error = Transaction::begin_on(below, place.disk.clone(), WriteMode::Append, &[]).await.unwrap_err();
    assert!(matches!(error, OdpError::Write { .. }), "{error}");
    std::fs::remove_file(root.path().join("d")).unwrap();
    // As a directory that is not ours to write: the lock is the first thing that is made there.
    let mut refused = 0;
    for at in 0..10 {
        faults.set(at, Fault::Permission, false);
        if place.begin(WriteMode::Append).await.is_err() {
            refused += 1;
        }
        faults.stop();
    }
    assert!(refused >= 4);
    assert!(!root.path().join("d").exists(), "what a refused write has made is removed");
    let (memory, faults) = in_memory();
    faults.set(0, Fault::Permission, true);
    let error = memory.begin(WriteMode::Append).await.unwrap_err();
    faults.stop();
    assert!(matches!(error, OdpError::Write { .. }), "{error}");
    assert!(memory.everything().await.is_empty());
}

#[tokio::test]
async fn modes_ask_what_is_there() {
    let place = in_memory().0;
    place.write(WriteMode::ErrorIfExists, &[(None, &[1])]).await.unwrap();
    let error = place.write(WriteMode::ErrorIfExists, &[(None, &[2])]).await.unwrap_err();
    assert!(matches!(error, OdpError::Exists { .. }), "{error}");
    assert!(matches!(place.begin(WriteMode::Ignore).await.unwrap(), Begun::Nothing));
    let added = place.write(WriteMode::Append, &[(None, &[3]), (None, &[4])]).await.unwrap();
    assert_eq!((added.version, added.files.len(), added.removed.len()), (Some(2), 2, 0));
    assert_eq!(place.rows().await.unwrap(), [1, 3, 4]);
    let error = place.write(WriteMode::Append, &[(Some(1), &[3])]).await.unwrap_err();
    assert!(matches!(error, OdpError::SchemaMismatch { .. }), "{error}");
    let all = place.write(WriteMode::Overwrite, &[(Some(1), &[5]), (Some(2), &[6])]).await.unwrap();
    assert_eq!(all.removed.len(), 3);
    place.write(WriteMode::OverwritePartitions, &[(Some(2), &[7]), (Some(3), &[8])]).await.unwrap();
    assert_eq!(place.rows().await.unwrap(), [5, 7, 8]);
    place.write(WriteMode::Overwrite, &[]).await.unwrap();
    assert!(place.rows().await.unwrap().is_empty());
    place.assert_clean("modes").await;
}

#[tokio::test]
async fn a_write_that_is_dropped_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    for place in [in_memory().0, on_disk(root.path()).0] {
        let Begun::Write(transaction) = place.begin(WriteMode::Append).await.unwrap() else { panic!() };
        let staged = stage(&transaction, &[(Some(1), &[1]), (Some(2), &[2])]).await.unwrap();
        assert!(place.rows().await.unwrap().is_empty());
        let unfinished = transaction.create_file("", 7);
        drop(transaction);
        drop((staged, unfinished));
        tokio::time::sleep(Duration::from_millis(20)).await;
        // In a store an object may yet come into being; with a log nobody sees it.
        let left = place.everything().await;
        assert!(left.iter().all(|path| path.ends_with("log/00000000000000000000.json")), "{left:?}");
        assert!(place.rows().await.unwrap().is_empty());
    }
    assert!(!root.path().join("d").exists());
}

#[tokio::test]
async fn an_open_file_keeps_less_than_a_part_in_memory() {
    let place = in_memory().0;
    let Begun::Write(transaction) = place.begin(WriteMode::Append).await.unwrap() else { panic!() };
    let mut file = transaction.create_file("", 0);
    for row_group in 0..3 {
        let bytes = Bytes::from(vec![row_group; 100_100]);
        let all = bytes.as_ptr_range();
        file.write(bytes.clone()).await.unwrap();
        assert!(file.buffered() <= file.part_bytes && file.buffered() > 0);
        assert_eq!(file.buffer.iter().map(Bytes::len).sum::<usize>(), file.buffered());
        let is_apart = |left: &Bytes| !all.contains(&left.as_ptr());
        assert!(file.buffer.iter().all(is_apart), "the memory of a row group is kept");
    }
    drop(file);
    transaction.abort().await;
}

#[tokio::test]
async fn what_cannot_be_forced_to_the_disk_early_fails_the_file() {
    let root = tempfile::tempdir().unwrap();
    let (place, faults) = on_disk(root.path());
    let mut failed = 0;
    // Each operation of a file of 20 parts: the upload, its parts, and what is forced.
    for at in 0.. {
        let Begun::Write(transaction) = place.begin(WriteMode::Append).await.unwrap() else { panic!() };
        let mut file = transaction.create_file("", 0);
        faults.set(at, Fault::Before, false);
        let written = async {
            for _ in 0..40 {
                file.write(Bytes::from(vec![1; 1 << 10])).await?;
            }
            file.finish().await
        };
        let is_written = written.await.is_ok();
        let operations = faults.stop();
        transaction.abort().await;
        assert_eq!(is_written, at >= operations, "operation {at} of {operations}");
        if is_written {
            assert!(operations > 23, "nothing is forced early: {operations}");
            break;
        }
        failed += 1;
    }
    assert!(failed > 23, "{failed}");
}

#[tokio::test]
async fn cleaning_removes_what_dead_writers_left_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    for place in [in_memory().0, on_disk(root.path()).0] {
        place.store.put(&Path::from("d/foreign.parquet"), parquet(&[9]).into()).await.unwrap();
        place.store.put(&Path::from("d/notes.txt"), "x".into()).await.unwrap();
        place.write(WriteMode::Append, &[(None, &[1])]).await.unwrap();
        let Begun::Write(dead) = place.begin(WriteMode::Append).await.unwrap() else { panic!() };
        let _dead_files = stage(&dead, &[(None, &[2])]).await.unwrap();
        dead.die();
        // A dead one that came as far as publishing.
        let uncommitted = Path::from("d/part-00000000000000000002-00000000deadbeef-000000.parquet");
        place.store.put(&uncommitted, parquet(&[3]).into()).await.unwrap();
        let Begun::Write(living) = place.begin(WriteMode::Append).await.unwrap() else { panic!() };
        let files = stage(&living, &[(None, &[4])]).await.unwrap();
        assert_eq!(place.rows().await.unwrap(), [9, 1]);
        // Elsewhere a writer lives as long as it has written something lately.
        let age = if place.disk.is_some() { Duration::ZERO } else { Duration::from_secs(3600) };
        let clean = async |age, dry_run| {
            clean_on(place.target("d", false), place.disk.clone(), age, dry_run).await.unwrap()
        };
        let everything = place.everything().await;
        let found = clean(age, true).await;
        assert_eq!(place.everything().await, everything, "a dry run removes nothing");
        if place.disk.is_some() {
            let reasons: Vec<_> = found.iter().map(|cleaned| cleaned.reason).collect();
            assert_eq!(reasons, [Leftover::Staged, Leftover::Staged, Leftover::Uncommitted]);
            assert!(found.iter().all(|cleaned| cleaned.path.ends_with("lock") || cleaned.bytes > 0));
        } else {
            assert!(found.is_empty());
        }
        assert_eq!(clean(age, false).await, found);
        living.commit(files, vec![]).await.unwrap();
        assert_eq!(place.rows().await.unwrap(), [9, 1, 4]);
        place.clean().await.unwrap();
        place.store.delete(&Path::from("d/notes.txt")).await.unwrap();
        place.assert_clean("in the end").await;
    }
}

#[tokio::test]
async fn replaced_files_are_kept_on_demand_and_a_new_file_of_their_name_is_not_taken_for_them() {
    let place = in_memory().0;
    let foreign = Path::from("d/a.parquet");
    place.store.put(&foreign, parquet(&[1]).into()).await.unwrap();
    let Begun::Write(transaction) = place.begin(WriteMode::Overwrite).await.unwrap() else { panic!() };
    let commit = commit(transaction.with_keep_replaced(true), &[(None, &[2])]).await.unwrap();
    assert_eq!(commit.removed, ["a.parquet"]);
    assert!(place.store.head(&foreign).await.is_ok());
    assert_eq!(place.rows().await.unwrap(), [2]);
    let young = clean_on(place.target("d", false), None, Duration::from_secs(3600), false).await.unwrap();
    assert!(young.is_empty());
    // Another file by this name is another file.
    let many: Vec<i32> = (0..100).collect();
    place.store.put(&foreign, parquet(&many).into()).await.unwrap();
    assert_eq!(place.rows().await.unwrap().len(), 101);
    assert!(place.clean().await.unwrap().is_empty());
    // Of the same size, too: it has another ETag.
    place.store.put(&foreign, parquet(&[1]).into()).await.unwrap();
    assert_eq!(place.rows().await.unwrap(), [1, 2]);
    assert!(place.clean().await.unwrap().is_empty(), "another ETag");
}

#[tokio::test]
async fn a_log_is_read_from_its_checkpoint_and_a_lost_log_begins_with_what_is_there() {
    let place = in_memory().0;
    for row in 0..70 {
        place.write(WriteMode::Append, &[(None, &[row])]).await.unwrap();
    }
    let all: Vec<i32> = (0..70).collect();
    assert_eq!(place.rows().await.unwrap(), all);
    let everything = place.everything().await;
    assert!(everything.iter().any(|path| path.ends_with("64.checkpoint")));
    let damage = Path::from("d/_odp/log/00000000000000000064.checkpoint");
    place.store.put(&damage, "{}".into()).await.unwrap();
    assert_eq!(place.rows().await.unwrap(), all);
    let record = Path::from("d/_odp/log/00000000000000000066.json");
    let bytes = place.store.get(&record).await.unwrap().bytes().await.unwrap();
    place.store.put(&record, bytes.slice(..bytes.len() / 2).into()).await.unwrap();
    let error = place.rows().await.unwrap_err();
    assert!(
        matches!(error, OdpError::InvalidData { .. }) && error.to_string().contains("066.json"),
        "{error}"
    );
    for path in everything.iter().filter(|path| path.contains("/log/")) {
        place.store.delete(&Path::from(path.as_str())).await.unwrap();
    }
    assert_eq!(place.rows().await.unwrap(), all);
    place.write(WriteMode::Append, &[(None, &[70])]).await.unwrap();
    // Of version 1 again, among those that were there.
    assert_eq!(place.rows().await.unwrap().len(), 71);
}

#[tokio::test]
async fn files_that_are_missing_or_changed_are_errors_that_name_them() {
    let place = in_memory().0;
    let commit = place.write(WriteMode::Append, &[(None, &[1])]).await.unwrap();
    let path = Path::from(format!("d/{}", commit.files[0]));
    place.store.put(&path, parquet(&[1, 2, 3, 4, 5, 6, 7]).into()).await.unwrap();
    let error = place.rows().await.unwrap_err();
    assert!(matches!(&error, OdpError::Changed { path } if path.contains(&commit.files[0])), "{error}");
    place.store.delete(&path).await.unwrap();
    let error = place.rows().await.unwrap_err().to_string();
    assert!(error.contains(&commit.files[0]) && error.contains("missing"), "{error}");
}

#[tokio::test]
async fn files_are_verified_before_they_are_seen() {
    let place = in_memory().0;
    let Begun::Write(transaction) = place.begin(WriteMode::Append).await.unwrap() else { panic!() };
    let mut files = stage(&transaction, &[(None, &[1])]).await.unwrap();
    files[0].rows = 2;
    let error = transaction.commit(files, vec![]).await.unwrap_err();
    assert!(matches!(error, OdpError::InvalidData { .. }), "{error}");
    assert!(place.rows().await.unwrap().is_empty());
    let Begun::Write(transaction) = place.begin(WriteMode::Append).await.unwrap() else { panic!() };
    for directory in ["../x", "/x", "a//b", "."] {
        assert!(transaction.create_file(directory, 0).write("x".into()).await.is_err(), "{directory}");
    }
    transaction.abort().await;
    assert!(place.rows().await.unwrap().is_empty());
}
