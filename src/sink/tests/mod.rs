//! Commits against faults, power loss, other writers and readers.

mod concurrent;
mod faults;
mod files;
mod model_disk;
mod power_loss;
mod single;
mod snapshots;
mod test_store;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use datafusion::arrow::array::{AsArray, Int32Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::object_store::path::Path;
use datafusion::object_store::{self, ObjectStore, ObjectStoreExt};
use futures::TryStreamExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::clean::clean_on;
use super::commit::{Begun, Commit, DataFile, Transaction};
use super::durability::Disk;
use super::{Target, WriteMode};
use crate::discover::Directory;
use crate::error::OdpError;

/// A store, and the disk below it if there is one.
#[derive(Debug, Clone)]
struct Place {
    store: Arc<dyn ObjectStore>,
    disk: Option<Arc<dyn Disk>>,
}

impl Place {
    fn target(&self, path: &str, is_file: bool) -> Target {
        let path = Path::from(path);
        let display = format!("test:///{path}");
        Target { store: Arc::clone(&self.store), path, is_file, local_root: None, display }
    }

    async fn begin(&self, mode: WriteMode) -> Result<Begun, OdpError> {
        let extensions = [".parquet".to_owned()];
        Transaction::begin_on(self.target("d", false), self.disk.clone(), mode, &extensions).await
    }

    /// One commit of files: the partition and the rows of each.
    async fn write(&self, mode: WriteMode, files: &[(Option<i32>, &[i32])]) -> Result<Commit, OdpError> {
        let Begun::Write(transaction) = self.begin(mode).await? else {
            return Ok(Commit { version: None, files: vec![], removed: vec![] });
        };
        commit(transaction, files).await
    }

    /// The rows that a reader sees, in order.
    async fn rows(&self) -> Result<Vec<i32>, OdpError> {
        let path = Path::from("d");
        let extensions = [".parquet".to_owned()];
        'again: for _ in 0..200 {
            let directory = Directory::new(&path, &extensions, "test:///d", self.disk.is_some());
            let listing = directory.list(self.store.as_ref()).await?;
            let mut rows = Vec::new();
            for file in listing.files {
                let location = &file.object_meta.location;
                let bytes = async { self.store.get(location).await?.bytes().await };
                match bytes.await {
                    Ok(bytes) => rows.extend(rows_of(bytes, location)?),
                    Err(object_store::Error::NotFound { .. }) => continue 'again,
                    Err(error) => {
                        return Err(OdpError::Storage {
                            location: location.to_string(),
                            source: error.into(),
                        });
                    }
                }
            }
            return Ok(rows);
        }
        Err(OdpError::Storage { location: "d".into(), source: "it changes again and again".into() })
    }

    /// All that is below the directory.
    async fn everything(&self) -> BTreeSet<String> {
        let listed = self.store.list(Some(&Path::from("d"))).map_ok(|meta| meta.location.to_string());
        let mut found: BTreeSet<String> = listed.try_collect().await.unwrap();
        if let Some(disk) = &self.disk {
            let stage = Path::from("d/_odp/stage");
            for id in disk.directories(&stage).unwrap() {
                found.insert(format!("{stage}/{id}"));
                for (name, _) in disk.files(&stage.clone().join(id.as_str())).unwrap() {
                    found.insert(format!("{stage}/{id}/{name}"));
                }
            }
        }
        found
    }

    async fn clean(&self) -> Result<Vec<crate::sink::clean::Cleaned>, OdpError> {
        clean_on(self.target("d", false), self.disk.clone(), Duration::ZERO, false).await
    }

    /// Cleans, and shows that nothing is left but what readers see, and the log.
    async fn assert_clean(&self, what: &str) {
        let before = self.rows().await.unwrap();
        self.clean().await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let (path, extensions) = (Path::from("d"), [".parquet".to_owned()]);
        let directory = Directory::new(&path, &extensions, "d", self.disk.is_some());
        let listing = directory.list(self.store.as_ref()).await.unwrap();
        let live = listing.files.iter().map(|file| file.object_meta.location.to_string());
        let live: BTreeSet<String> = live.collect();
        let left: Vec<String> = self.everything().await.difference(&live).cloned().collect();
        assert!(left.iter().all(|path| path.starts_with("d/_odp/log/")), "{what}: {left:?}");
        assert_eq!(self.rows().await.unwrap(), before, "{what}: after cleaning");
    }
}

fn rows_of(bytes: Bytes, location: &Path) -> Result<Vec<i32>, OdpError> {
    let invalid = |source: Box<dyn std::error::Error + Send + Sync>| OdpError::InvalidData {
        location: location.to_string(),
        source,
    };
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| invalid(error.into()))?;
    let reader = reader.build().map_err(|error| invalid(error.into()))?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|error| invalid(error.into()))?;
        rows.extend(batch.column(0).as_primitive::<Int32Type>().values());
    }
    Ok(rows)
}

/// A Parquet file of these rows, which has more than one part if it has many.
fn parquet(rows: &[i32]) -> Bytes {
    let column = Arc::new(Int32Array::from(rows.to_vec()));
    let batch = RecordBatch::try_from_iter([("id", column as _)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap().into()
}

async fn stage(
    transaction: &Transaction,
    files: &[(Option<i32>, &[i32])],
) -> Result<Vec<DataFile>, OdpError> {
    let mut staged = Vec::new();
    for (number, (partition, rows)) in files.iter().enumerate() {
        let directory = partition.map(|value| format!("p={value}")).unwrap_or_default();
        let mut file = transaction.create_file(&directory, number as u64);
        let mut bytes = parquet(rows);
        while !bytes.is_empty() {
            file.write(bytes.split_to(bytes.len().min(700))).await?;
        }
        staged.push(DataFile {
            staged: file.finish().await?,
            rows: rows.len() as u64,
            row_groups: 1,
            partition: partition.map(|value| vec![Some(value.to_string())]).unwrap_or_default(),
        });
    }
    Ok(staged)
}

async fn commit(transaction: Transaction, files: &[(Option<i32>, &[i32])]) -> Result<Commit, OdpError> {
    let staged = stage(&transaction, files).await?;
    let is_partitioned = files.iter().any(|(partition, _)| partition.is_some());
    let columns = match is_partitioned {
        true => vec![("p".to_owned(), DataType::Int32)],
        false => vec![],
    };
    transaction.commit(staged, columns).await
}
