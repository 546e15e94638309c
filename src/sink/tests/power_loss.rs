//! Power is lost at every operation of a write, and what was not forced to the disk with it.

use super::model_disk::{Loss, ModelDisk};
use super::*;

fn place(disk: &ModelDisk) -> Place {
    Place { store: Arc::new(disk.clone()), disk: Some(Arc::new(disk.clone())) }
}

async fn prepared(is_foreign: bool) -> (Place, ModelDisk) {
    let disk = ModelDisk::default();
    let here = place(&disk);
    if is_foreign {
        here.store.put(&Path::from("d/p=2/a.parquet"), parquet(&[1]).into()).await.unwrap();
        here.store.put(&Path::from("d/p=3/b.parquet"), parquet(&[2]).into()).await.unwrap();
    } else {
        here.write(WriteMode::Append, &[(Some(2), &[1]), (Some(3), &[2])]).await.unwrap();
    }
    disk.force_everything();
    (here, disk)
}

#[tokio::test]
async fn power_loss_at_any_operation_leaves_the_old_or_the_new_state() {
    let many: Vec<i32> = (0..1500).map(|i| i * 7919 % 100_003).collect();
    let files: [(Option<i32>, &[i32]); 2] = [(Some(2), &many), (Some(4), &[30])];
    let sorted = |mut rows: Vec<i32>| {
        rows.sort_unstable();
        rows
    };
    let mut crashes = 0;
    for (mode, is_foreign) in [
        (WriteMode::Append, true),
        (WriteMode::Overwrite, true),
        (WriteMode::Overwrite, false),
        (WriteMode::OverwritePartitions, false),
    ] {
        let (here, disk) = prepared(is_foreign).await;
        let (old, start) = (sorted(here.rows().await.unwrap()), disk.operations());
        here.write(mode, &files).await.unwrap();
        let (operations, new) = (disk.operations() - start, sorted(here.rows().await.unwrap()));
        assert_ne!(old, new);
        for at in 0..=operations {
            let (here, disk) = prepared(is_foreign).await;
            disk.lose_power_after(at);
            let result = here.write(mode, &files).await;
            for loss in [Loss::Everything, Loss::Bytes, Loss::Some(at * 77 + 13)] {
                let here = place(&disk.after(loss));
                let what =
                    format!("{mode}, foreign: {is_foreign}, {loss:?} at {at} of {operations}: {result:?}");
                let rows = sorted(here.rows().await.unwrap_or_else(|error| panic!("{what}: {error}")));
                match &result {
                    Ok(_) => assert_eq!(rows, new, "{what}"),
                    Err(_) => assert!(rows == old || rows == new, "{what}: {} rows", rows.len()),
                }
                here.assert_clean(&what).await;
                crashes += 1;
            }
        }
    }
    assert!(crashes > 300, "{crashes}");
}
