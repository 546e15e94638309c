//! What a table makes of a log.

use datafusion::arrow::datatypes::{Field, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::execution::context::SessionContext;
use datafusion::object_store::memory::InMemory;

use super::*;
use crate::dataset::DatasetSnapshot;
use crate::discover::{DeclaredPartition, Request, open_snapshot};
use crate::options::TableOptions;

fn session() -> (SessionContext, Place) {
    let ctx = SessionContext::new();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    ctx.register_object_store(&url::Url::parse("test:///").unwrap(), Arc::clone(&store));
    (ctx, Place { store, disk: None })
}

fn request() -> Request {
    Request {
        locations: vec!["test:///d/".into()],
        options: TableOptions::default(),
        partitions: None,
        schema: None,
        range: None,
    }
}

async fn open(ctx: &SessionContext, request: Request) -> Result<DatasetSnapshot, OdpError> {
    open_snapshot(&ctx.state(), request).await
}

#[tokio::test]
async fn partition_values_are_those_that_were_written() {
    let (ctx, place) = session();
    let Begun::Write(transaction) = place.begin(WriteMode::Append).await.unwrap() else { panic!() };
    let long = "x".repeat(300);
    let columns = vec![
        ("i".to_owned(), DataType::Int16),
        ("f".to_owned(), DataType::Float64),
        ("t".to_owned(), DataType::Timestamp(TimeUnit::Nanosecond, None)),
        ("s".to_owned(), DataType::Utf8),
    ];
    let values: [[Option<&str>; 4]; 3] = [
        [Some("-7"), Some("NaN"), Some("1677-09-21T00:12:43.145224193"), Some(&long)],
        [None, None, None, None],
        [Some("3"), Some("-0.0"), Some("2020-01-02T03:04:05.000000001"), Some("")],
    ];
    let mut files = Vec::new();
    for (number, values) in values.iter().enumerate() {
        let mut file = transaction.create_file(&format!("i=x{number}/f=x/t=x/s=x"), number as u64);
        file.write(parquet(&[1])).await.unwrap();
        let staged = file.finish().await.unwrap();
        let partition = values.map(|value| value.map(String::from)).to_vec();
        files.push(DataFile { staged, rows: 1, row_groups: 1, partition });
    }
    transaction.commit(files, columns.clone()).await.unwrap();
    let snapshot = open(&ctx, request()).await.unwrap();
    let schema = snapshot.schema();
    for (name, data_type) in &columns {
        assert_eq!(schema.field_with_name(name).unwrap().data_type(), data_type);
    }
    let found: Vec<_> = snapshot.files().iter().map(|file| file.partition_values.clone()).collect();
    assert_eq!(found[0][0], ScalarValue::Int16(Some(-7)));
    assert!(matches!(found[0][1], ScalarValue::Float64(Some(f)) if f.is_nan()));
    assert_eq!(found[0][2], ScalarValue::TimestampNanosecond(Some(-9_223_372_036_854_775_807), None));
    assert_eq!(found[0][3], ScalarValue::from(long));
    assert!(found[1].iter().all(ScalarValue::is_null));
    assert!(matches!(found[2][1], ScalarValue::Float64(Some(f)) if f == 0.0 && f.is_sign_negative()));
    assert_eq!(found[2][3], ScalarValue::from(""));
    // Foreign files beside them are read as the same types; what the user declares is cast to.
    let foreign = Path::parse("d/i=4/f=1.5/t=2020-01-01 00:00:00/s=y/a.parquet").unwrap();
    place.store.put(&foreign, parquet(&[2]).into()).await.unwrap();
    let declared = columns.iter().map(|(name, data_type)| DeclaredPartition {
        name: name.clone(),
        data_type: Some(if name == "i" { DataType::Int64 } else { data_type.clone() }),
    });
    let request = Request { partitions: Some(declared.collect()), ..request() };
    let snapshot = open(&ctx, request).await.unwrap();
    let i: Vec<_> = snapshot.files().iter().map(|file| file.partition_values[0].clone()).collect();
    assert_eq!(i, [Some(4), Some(-7), None, Some(3)].map(ScalarValue::Int64));
}

#[tokio::test]
async fn a_declared_table_may_be_empty() {
    let (ctx, place) = session();
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int32, true)]));
    let declared = || Request { schema: Some(Arc::clone(&schema)), ..request() };
    assert!(matches!(open(&ctx, request()).await, Err(OdpError::EmptyDataset { .. })));
    let snapshot = open(&ctx, declared()).await.unwrap();
    assert_eq!((snapshot.num_rows(), snapshot.schema().fields().len()), (0, 1));
    let partitioned = Request {
        partitions: Some(vec![DeclaredPartition { name: "p".into(), data_type: Some(DataType::Int32) }]),
        ..declared()
    };
    let snapshot = open(&ctx, partitioned).await.unwrap();
    assert_eq!(snapshot.schema().field(1).data_type(), &DataType::Int32);
    place.write(WriteMode::Append, &[(Some(1), &[1])]).await.unwrap();
    assert_eq!(open(&ctx, request()).await.unwrap().num_rows(), 1);
    place.write(WriteMode::Overwrite, &[]).await.unwrap();
    let error = open(&ctx, request()).await.unwrap_err().to_string();
    assert!(error.contains("commit 2"), "{error}");
    assert_eq!(open(&ctx, declared()).await.unwrap().num_rows(), 0);
    place.store.put(&Path::from("d/_common_metadata"), parquet(&[]).into()).await.unwrap();
    let snapshot = open(&ctx, request()).await.unwrap();
    assert_eq!((snapshot.num_rows(), snapshot.schema().field(0).name().as_str()), (0, "id"));
    place.store.put(&Path::from("d/other.csv"), "x".into()).await.unwrap();
    assert!(matches!(open(&ctx, declared()).await, Err(OdpError::EmptyDataset { .. })));
}
