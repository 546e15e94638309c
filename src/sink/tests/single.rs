//! Single files.

use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::object_store::{self, ObjectStoreExt};

use super::test_store::{Fault, in_memory, on_disk};
use super::*;

async fn begin(place: &Place, mode: WriteMode) -> Result<Begun, OdpError> {
    Transaction::begin_on(place.target("d/x.parquet", true), place.disk.clone(), mode, &[]).await
}

async fn write(place: &Place, mode: WriteMode, rows: &[i32]) -> Result<Commit, OdpError> {
    match begin(place, mode).await? {
        Begun::Write(transaction) => commit(transaction, &[(None, rows)]).await,
        Begun::Nothing => Ok(Commit { version: None, files: vec![], removed: vec![] }),
    }
}

async fn read(place: &Place) -> Option<Vec<i32>> {
    let path = Path::from("d/x.parquet");
    match place.store.get(&path).await {
        Ok(found) => Some(rows_of(found.bytes().await.unwrap(), &path).unwrap()),
        Err(object_store::Error::NotFound { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn modes_of_a_single_file() {
    let root = tempfile::tempdir().unwrap();
    let many: Vec<i32> = (0..3000).map(|i| i * 7919 % 100_003).collect();
    for place in [in_memory().0, on_disk(root.path()).0] {
        assert_eq!(write(&place, WriteMode::Append, &[1]).await.unwrap().files, ["x.parquet"]);
        assert!(matches!(write(&place, WriteMode::Append, &[2]).await, Err(OdpError::Exists { .. })));
        assert!(matches!(write(&place, WriteMode::ErrorIfExists, &[2]).await, Err(OdpError::Exists { .. })));
        assert_eq!(write(&place, WriteMode::Ignore, &[2]).await.unwrap().files.len(), 0);
        assert_eq!(read(&place).await, Some(vec![1]));
        write(&place, WriteMode::Overwrite, &many).await.unwrap();
        assert_eq!(read(&place).await, Some(many.clone()));
        // Two that both saw nothing: the second one loses.
        place.store.delete(&Path::from("d/x.parquet")).await.unwrap();
        let (first, second) =
            (begin(&place, WriteMode::ErrorIfExists).await, begin(&place, WriteMode::ErrorIfExists).await);
        let (Ok(Begun::Write(first)), Ok(Begun::Write(second))) = (first, second) else { panic!() };
        commit(first, &[(None, &[5])]).await.unwrap();
        assert!(matches!(commit(second, &[(None, &[6])]).await, Err(OdpError::Exists { .. })));
        assert_eq!(read(&place).await, Some(vec![5]));
        // Nothing is seen before the commit, and nothing is left of a write that was dropped.
        let Begun::Write(third) = begin(&place, WriteMode::Overwrite).await.unwrap() else { panic!() };
        let staged = stage(&third, &[(None, &many)]).await.unwrap();
        assert_eq!(read(&place).await, Some(vec![5]));
        drop((third, staged));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(read(&place).await, Some(vec![5]));
        assert_eq!(place.everything().await.len(), 1, "{:?}", place.everything().await);
    }
    assert_eq!(std::fs::read_dir(root.path().join("d")).unwrap().count(), 1);
    let target = on_disk(root.path()).0.target("d", true);
    let disk = on_disk(root.path()).0.disk;
    let error = Transaction::begin_on(target, disk, WriteMode::Overwrite, &[]).await.unwrap_err();
    assert!(matches!(error, OdpError::Exists { .. }), "{error}");
}

#[tokio::test]
async fn a_fault_at_any_operation_leaves_the_old_or_the_new_file() {
    let root = tempfile::tempdir().unwrap();
    let next = AtomicU64::new(0);
    let many: Vec<i32> = (0..1500).map(|i| i * 7919 % 100_003).collect();
    for is_local in [false, true] {
        let make = || match is_local {
            false => in_memory(),
            true => {
                let root = root.path().join(next.fetch_add(1, Ordering::Relaxed).to_string());
                std::fs::create_dir(&root).unwrap();
                on_disk(&root)
            }
        };
        for kind in Fault::ALL {
            for at in 0.. {
                let (place, faults) = make();
                write(&place, WriteMode::Overwrite, &[1]).await.unwrap();
                faults.set(at, kind, false);
                let result = write(&place, WriteMode::Overwrite, &many).await;
                tokio::task::yield_now().await;
                if faults.stop() <= at {
                    break;
                }
                let what = format!("{kind:?} at {at}: {result:?}");
                let rows = read(&place).await.unwrap();
                assert!(rows == [1] || rows == many, "{what}");
                assert!(result.is_err() || rows == many, "{what}");
                let target = place.target("d/x.parquet", true);
                clean_on(target, place.disk.clone(), Duration::ZERO, false).await.unwrap();
                let left = place.everything().await;
                assert_eq!(left.len(), 1, "{what}: {left:?}");
            }
        }
    }
}
