//! The snapshot file: opening by it is opening by the footers, at the cost of one read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::ObjectStore;
use datafusion::object_store::local::LocalFileSystem;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::{ObjectStoreExt, PutPayload};
use datafusion::parquet::data_type::{Int32Type, Int96, Int96Type};
use datafusion::parquet::file::metadata::{
    ParquetMetaDataBuilder, ParquetMetaDataReader, ParquetMetaDataWriter,
};
use datafusion::parquet::file::writer::SerializedFileWriter;
use datafusion::parquet::schema::parser::parse_message_type;
use datafusion::prelude::SessionContext;
use datafusion_odp::{BatchUnit, MetadataFiles, OdpError, OdpTableProvider, TableOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::fixtures::{
    Result, corpora_dir, hostile, observations, plan, random_properties, run, session, shown, write,
    write_observations, write_with,
};
use crate::object_stores::{RecordingStore, UntaggedStore};

/// Everything that the metadata of a table says, as text.
async fn described(table: OdpTableProvider) -> Result<(SchemaRef, String)> {
    let ctx = session(2, &[])?;
    let schema = table.snapshot().schema();
    let batches = table.snapshot().batches().to_vec();
    let statistics = table.snapshot().statistics();
    ctx.register_table("t", Arc::new(table))?;
    let mut text = format!("{batches:?}\n{statistics:?}\n");
    for sql in ["SELECT * FROM odp_batches('t')", "SELECT * FROM odp_files('t')"] {
        text += &pretty_format_batches(&ctx.sql(sql).await?.collect().await?)?.to_string();
    }
    Ok((schema, text))
}

fn options(metadata_files: MetadataFiles, batch_unit: BatchUnit) -> TableOptions {
    TableOptions { metadata_files, batch_unit, ..TableOptions::default() }
}

async fn open(path: &Path, metadata_files: MetadataFiles, unit: BatchUnit) -> Result<OdpTableProvider> {
    // A session of its own, so that no footer is in its cache.
    let location = path.to_string_lossy().into_owned();
    let builder = OdpTableProvider::builder(location).with_options(options(metadata_files, unit));
    Ok(builder.open(&session(2, &[])?).await?)
}

async fn write_snapshot(path: &Path) -> Result<u64> {
    let table = open(path, MetadataFiles::Snapshot, BatchUnit::RowGroup).await?;
    let written = table.write_snapshot(&session(2, &[])?).await?;
    assert_eq!(written.len(), 1);
    assert!(written[0].path.ends_with("/_odp_snapshot"), "{written:?}");
    Ok(written[0].bytes)
}

/// With the snapshot file and without, under several units, the table is the same.
async fn assert_same_table(path: &Path) -> Result<()> {
    for unit in [BatchUnit::RowGroup, BatchUnit::Rows(7)] {
        let by_footers = described(open(path, MetadataFiles::None, unit).await?).await?;
        let by_snapshot = described(open(path, MetadataFiles::Snapshot, unit).await?).await?;
        assert_eq!(by_footers, by_snapshot, "{} {unit:?}", path.display());
    }
    Ok(())
}

fn random_dataset(path: &Path, random: &mut StdRng) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let hive = random.random_bool(0.5);
    for file in 0..random.random_range(1..12) {
        let rows = hostile(file * 1000, random.random_range(0..200), random)?;
        // Some files lack columns, so that there are several schemas.
        let columns: Vec<usize> =
            (0..rows.num_columns()).filter(|i| *i == 0 || random.random_bool(0.8)).collect();
        let rows = if random.random_bool(0.3) { rows.project(&columns)? } else { rows };
        let name = match hive {
            true => path.join(format!("year={}/part-{file}.parquet", 2000 + file % 3)),
            false => path.join(format!("part-{file}.parquet")),
        };
        write_with(&name, &rows, random_properties(random))?;
        files.push(name);
    }
    Ok(files)
}

#[tokio::test]
async fn a_table_by_its_snapshot_file_is_the_table_by_its_footers() -> Result<()> {
    for seed in 0..15 {
        let mut random = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir()?;
        random_dataset(dir.path(), &mut random)?;
        write_snapshot(dir.path()).await?;
        assert_same_table(dir.path()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn changed_files_are_read_again_missing_ones_dropped_new_ones_added() -> Result<()> {
    for seed in 100..112 {
        let mut random = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir()?;
        let files = random_dataset(dir.path(), &mut random)?;
        write_snapshot(dir.path()).await?;
        for (i, file) in files.iter().enumerate() {
            match random.random_range(0..4) {
                0 if files.len() > 1 && i > 0 => fs::remove_file(file)?,
                1 => write_with(file, &hostile(7, 80, &mut random)?, random_properties(&mut random))?,
                2 => {
                    let name = format!("part-{}-new.parquet", random.random_range(0..20));
                    let rows = hostile(9, 30, &mut random)?;
                    write_with(&file.with_file_name(name), &rows, random_properties(&mut random))?;
                }
                _ => {}
            }
        }
        assert_same_table(dir.path()).await?;
        // Written over, it knows all files again.
        write_snapshot(dir.path()).await?;
        assert_same_table(dir.path()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn public_files_are_described_alike() -> Result<()> {
    let root = corpora_dir();
    if !root.is_dir() {
        eprintln!("NOT TESTED: no corpora in {}", root.display());
        return Ok(());
    }
    let mut tried = 0;
    for corpus in ["apache_parquet-testing/data", "apache_sedona-testing", "geoarrow_geoarrow-data"] {
        let mut directories = vec![root.join(corpus)];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    directories.push(path);
                    continue;
                }
                if path.extension().is_none_or(|extension| extension != "parquet") {
                    continue;
                }
                let dir = tempfile::tempdir()?;
                fs::copy(&path, dir.path().join("a.parquet"))?;
                if open(dir.path(), MetadataFiles::None, BatchUnit::RowGroup).await.is_err() {
                    continue;
                }
                write_snapshot(dir.path()).await?;
                assert_same_table(dir.path()).await?;
                tried += 1;
            }
        }
    }
    assert!(tried > 50, "only {tried} files");
    Ok(())
}

/// A session over `store` under `memory:///`.
fn over(store: &Arc<RecordingStore>) -> Result<SessionContext> {
    let ctx = session(2, &[])?;
    let url = ObjectStoreUrl::parse("memory://")?;
    ctx.register_object_store(url.as_ref(), Arc::clone(store) as Arc<dyn ObjectStore>);
    Ok(ctx)
}

/// Puts `files` files into `d/` of a new store.
async fn stored(files: i64) -> Result<Arc<RecordingStore>> {
    let dir = tempfile::tempdir()?;
    let memory = InMemory::new();
    for file in 0..files {
        let path = dir.path().join("x.parquet");
        write(&path, &observations(file * 100, 100, 1)?, 20)?;
        memory.put(&format!("d/part-{file}.parquet").into(), PutPayload::from(fs::read(&path)?)).await?;
    }
    Ok(Arc::new(RecordingStore::new(Arc::new(memory))))
}

#[tokio::test]
async fn opening_costs_one_listing_and_one_read() -> Result<()> {
    let store = stored(30).await?;
    let table = OdpTableProvider::open(&over(&store)?, "memory:///d/").await?;
    assert_eq!(store.take().iter().filter(|request| request.starts_with("get")).count(), 30);
    table.write_snapshot(&over(&store)?).await?;
    store.take();
    let ctx = over(&store)?;
    let table = OdpTableProvider::open(&ctx, "memory:///d/").await?;
    assert_eq!(store.take(), ["list d", "get d/_odp_snapshot"]);
    let selection = table.select("id >= $first and depth != 3").bind("first", 2950_i64).plan(&ctx).await?;
    assert_eq!((selection.batch_count(), selection.total_batches()), (3, 150));
    assert_eq!(selection.batches().len(), 3);
    assert_eq!(selection.tickets()?.len(), 3);
    assert_eq!(store.take(), [""; 0], "no footer, no page");
    ctx.register_table("t", Arc::new(table))?;
    run(&ctx, "SELECT count(*), max(id) FROM t").await?;
    shown(&plan(&ctx, "SELECT * FROM t WHERE id > 2950").await?);
    assert_eq!(store.take(), [""; 0], "answered without a request");
    // Only the file that may match is opened.
    let (rows, _) = run(&ctx, "SELECT id FROM t WHERE id >= 2990").await?;
    assert_eq!(rows.iter().map(|rows| rows.num_rows()).sum::<usize>(), 10);
    let requests = store.take();
    assert!(requests.iter().all(|request| request.ends_with("d/part-29.parquet")), "{requests:?}");
    // One file changes: one footer is read.
    let bytes = store.get(&"d/part-3.parquet".into()).await?.bytes().await?;
    store.put(&"d/part-3.parquet".into(), bytes.into()).await?;
    store.take();
    let table = OdpTableProvider::open(&over(&store)?, "memory:///d/").await?;
    assert_eq!(table.snapshot().num_rows(), 3000);
    let gets: Vec<String> = store.take().into_iter().filter(|r| r.starts_with("get")).collect();
    assert_eq!(gets, ["get d/_odp_snapshot", "get d/part-3.parquet"]);
    // Not wanted, it is not read.
    let builder = OdpTableProvider::builder("memory:///d/")
        .with_options(options(MetadataFiles::None, BatchUnit::RowGroup));
    builder.open(&over(&store)?).await?;
    assert!(!store.take().iter().any(|request| request.contains("_odp_snapshot")));
    Ok(())
}

#[tokio::test]
async fn a_damaged_snapshot_file_is_ignored() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_observations(dir.path(), 3, 2, 50)?;
    write_snapshot(dir.path()).await?;
    let file = dir.path().join("_odp_snapshot");
    let whole = fs::read(&file)?;
    let expected = described(open(dir.path(), MetadataFiles::None, BatchUnit::RowGroup).await?).await?;
    let mut random = StdRng::seed_from_u64(3);
    let mut damaged =
        vec![vec![], whole[..7].to_vec(), whole[..whole.len() - 1].to_vec(), b"ODPSNAP9".repeat(9)];
    for _ in 0..60 {
        let mut bytes = whole.clone();
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
        damaged.push(bytes);
        damaged.push(whole[..random.random_range(0..whole.len())].to_vec());
    }
    for bytes in damaged {
        fs::write(&file, bytes)?;
        assert_eq!(
            described(open(dir.path(), MetadataFiles::Snapshot, BatchUnit::RowGroup).await?).await?,
            expected
        );
    }
    Ok(())
}

/// Calls `change` with each section that the header names, and puts what it gives in the place of the name.
fn for_each_section(
    header: &mut Value,
    change: &mut impl FnMut(usize, usize) -> Result<Value>,
) -> Result<()> {
    if let Some([start, length]) = header.as_array().map(Vec::as_slice)
        && let (Some(start), Some(length)) = (start.as_u64(), length.as_u64())
    {
        *header = change(usize::try_from(start)?, usize::try_from(length)?)?;
        return Ok(());
    }
    let parts: Vec<&mut Value> = match header {
        Value::Array(parts) => parts.iter_mut().collect(),
        Value::Object(parts) => parts.values_mut().collect(),
        _ => return Ok(()),
    };
    parts.into_iter().try_for_each(|part| for_each_section(part, change))
}

/// A snapshot file with other bytes at a few places inside its sections, which are compressed.
fn with_garbled_sections(file: &[u8], random: &mut StdRng) -> Result<Vec<u8>> {
    let (prefix, rest) = file.split_at(20);
    let (header, sections) = rest.split_at(usize::try_from(u64::from_le_bytes(prefix[12..].try_into()?))?);
    let mut header: Value = serde_json::from_slice(header)?;
    let mut garbled: Vec<u8> = vec![];
    for_each_section(&mut header, &mut |start, length| {
        let mut section = zstd::decode_all(&sections[start..start + length])?;
        for _ in 0..[0, 0, 1, 3][random.random_range(0..4)] {
            let at = random.random_range(0..section.len());
            match random.random_bool(0.5) {
                true => section[at] = random.random(),
                false => {
                    let number = [0, -1, 1, i64::MAX, i64::MIN, 1 << 32][random.random_range(0..6)];
                    let end = section.len().min(at / 8 * 8 + 8);
                    section[at / 8 * 8..end].copy_from_slice(&number.to_le_bytes()[..end - at / 8 * 8]);
                }
            }
        }
        let start = garbled.len();
        garbled.extend(zstd::encode_all(section.as_slice(), 1)?);
        Ok(json!([start, garbled.len() - start]))
    })?;
    let header = serde_json::to_vec(&header)?;
    let mut whole = [&file[..12], &(header.len() as u64).to_le_bytes(), &header, &garbled].concat();
    let checksum = crc32fast::hash(&whole[12..]);
    whole[8..12].copy_from_slice(&checksum.to_le_bytes());
    Ok(whole)
}

/// With a right checksum, whatever is in it: no panic, no hang, no abort.
///
/// `ODP_FORGED_CASES` sets the number of files of each kind.
#[tokio::test]
async fn a_forged_snapshot_file_does_no_harm() -> Result<()> {
    let cases = std::env::var("ODP_FORGED_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let dir = tempfile::tempdir()?;
    write_observations(dir.path(), 3, 2, 50)?;
    let mut random = StdRng::seed_from_u64(5);
    write_with(
        &dir.path().join("part-3.parquet"),
        &with_points(&observations(300, 40, 3)?)?,
        random_properties(&mut random),
    )?;
    let ctx = session(2, &[])?;
    let table = Arc::new(open(dir.path(), MetadataFiles::None, BatchUnit::RowGroup).await?);
    ctx.register_table("t", Arc::clone(&table) as _)?;
    let areas = "SELECT id FROM t WHERE st_intersects(point, 'POLYGON((0 0, 90 0, 90 90, 0 90, 0 0))')";
    run(&ctx, areas).await?;
    table.write_snapshot(&ctx).await?;
    let file = dir.path().join("_odp_snapshot");
    let whole = fs::read(&file)?;
    assert_ne!(with_garbled_sections(&whole, &mut random)?, whole);
    let mut opened = 0;
    for case in 0..2 * cases {
        let bytes = match case % 2 {
            0 => {
                let mut bytes = whole.clone();
                for _ in 0..random.random_range(1..4) {
                    let at = random.random_range(12..bytes.len());
                    bytes[at] = random.random();
                }
                let checksum = crc32fast::hash(&bytes[12..]);
                bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
                bytes
            }
            _ => with_garbled_sections(&whole, &mut random)?,
        };
        fs::write(&file, bytes)?;
        // A table, or an error: the schema, say, may be another one now.
        if let Ok(table) = open(dir.path(), MetadataFiles::Snapshot, BatchUnit::RowGroup).await {
            opened += 1;
            let ctx = session(2, &[])?;
            ctx.register_table("t", Arc::new(table))?;
            for sql in [
                "SELECT * FROM t WHERE depth > 100",
                areas,
                "SELECT count(*), min(id), max(time) FROM t",
                "SELECT * FROM odp_batches('t', 'id > 120 and station != \"s1\"')",
            ] {
                let _ = run(&ctx, sql).await;
            }
        }
    }
    assert!(opened > cases, "{opened}");
    Ok(())
}

/// With a column of points as WKT.
fn with_points(rows: &RecordBatch) -> Result<RecordBatch> {
    let points: StringArray = (0..rows.num_rows()).map(|i| Some(format!("POINT ({i} {i})"))).collect();
    let point = Field::new("point", DataType::Utf8, true)
        .with_metadata([("class".to_owned(), "geometry".to_owned())].into());
    let fields: Vec<_> = rows.schema().fields().iter().cloned().chain([Arc::new(point)]).collect();
    let columns = rows.columns().iter().cloned().chain([Arc::new(points) as ArrayRef]).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Two versions of a file of one size and time, in a store that has nothing else to tell them apart: the snapshot file is
/// of the first, the store has the second. Gives the error of reading it.
async fn read_by_facts_of_another(
    first: RecordBatch,
    second: RecordBatch,
    row_groups: [usize; 2],
) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("a.parquet");
    let mut versions = Vec::new();
    for (rows, row_group) in [&first, &second].into_iter().zip(row_groups) {
        write(&file, rows, row_group)?;
        versions.push(fs::read(&file)?);
    }
    let size = versions.iter().map(Vec::len).max().unwrap_or_default();
    for bytes in &mut versions {
        // Padding in front of the footer.
        let end = bytes.len() - 8;
        let length = usize::try_from(u32::from_le_bytes(bytes[end..end + 4].try_into()?))?;
        let padding = vec![0; size - bytes.len()];
        bytes.splice(end - length..end - length, padding);
    }
    fs::write(&file, &versions[0])?;
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    fs::File::options().write(true).open(&file)?.set_modified(time)?;
    write_snapshot(dir.path()).await?;
    let store = Arc::new(UntaggedStore::new(time));
    store.put(&"d/a.parquet".into(), versions.pop().unwrap_or_default().into()).await?;
    store.put(&"d/_odp_snapshot".into(), fs::read(dir.path().join("_odp_snapshot"))?.into()).await?;
    let ctx = session(2, &[])?;
    ctx.register_object_store(ObjectStoreUrl::parse("memory://")?.as_ref(), store);
    let table = OdpTableProvider::open(&ctx, "memory:///d/").await?;
    assert_eq!(table.snapshot().num_batches(), first.num_rows().div_ceil(row_groups[0]), "it is believed");
    ctx.register_table("t", Arc::new(table))?;
    match run(&ctx, "SELECT * FROM t").await {
        Ok(_) => Err("rows of another file".into()),
        Err(error) => Ok(error.to_string()),
    }
}

#[tokio::test]
async fn a_file_that_is_not_what_the_snapshot_says_is_an_error() -> Result<()> {
    let rows = |seed| observations(0, 100, seed);
    let other_counts = read_by_facts_of_another(rows(1)?, rows(1)?, [50, 100]).await?;
    // As many rows in as many row groups, which begin elsewhere: reading goes by where they begin.
    let narrow = rows(1)?.project(&[0, 1, 2, 3])?;
    let other_offsets = read_by_facts_of_another(rows(1)?, narrow, [50, 50]).await?;
    for error in [other_counts, other_offsets] {
        assert!(error.contains("a.parquet") && error.contains("metadata_files"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn names_of_directories_and_files_are_as_they_are() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let names =
        ["my data/50%/a b.parquet", "my data/50%25/ø.parquet", "x#y/z..z/a+b&c.parquet", "ü/(1)/[2].parquet"];
    for (i, name) in names.iter().enumerate() {
        write(&dir.path().join(name), &observations(i64::try_from(i)? * 10, 10, 1)?, 5)?;
    }
    write_snapshot(dir.path()).await?;
    assert_same_table(dir.path()).await?;
    let store = LocalFileSystem::new_with_prefix(dir.path())?;
    let store = Arc::new(RecordingStore::new(Arc::new(store)));
    let table = OdpTableProvider::open(&over(&store)?, "memory:///").await?;
    assert_eq!((table.snapshot().files().len(), table.snapshot().num_rows()), (4, 40));
    assert_eq!(store.take(), ["list ", "get _odp_snapshot"]);
    Ok(())
}

#[tokio::test]
async fn each_of_several_locations_has_its_own() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (i, name) in ["b/1.parquet", "b/2.parquet", "a/sub/3.parquet"].iter().enumerate() {
        write(&dir.path().join(name), &observations(i64::try_from(i)? * 10, 10, 1)?, 5)?;
    }
    let builder = |metadata_files| {
        let location = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        OdpTableProvider::builder(location("b"))
            .with_location(location("a"))
            // In two of the locations.
            .with_location(location("a/sub"))
            .with_options(options(metadata_files, BatchUnit::RowGroup))
    };
    let ctx = session(2, &[])?;
    let table = builder(MetadataFiles::None).open(&ctx).await?;
    let written = table.write_snapshot(&ctx).await?;
    assert_eq!(written.iter().map(|file| file.files).collect::<Vec<_>>(), [2, 1, 1]);
    let by_footers = described(table).await?;
    let by_snapshot = described(builder(MetadataFiles::Snapshot).open(&session(2, &[])?).await?).await?;
    assert_eq!(by_footers, by_snapshot);
    Ok(())
}

/// Timestamps of the old kind are read as the session says; what was learnt of them under another setting is not used.
#[tokio::test]
async fn int96_is_read_as_the_session_says() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let schema = Arc::new(parse_message_type("message m { optional int96 time; optional int32 n; }")?);
    let file = fs::File::create(dir.path().join("a.parquet"))?;
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default())?;
    let mut group = writer.next_row_group()?;
    let mut time = Int96::new();
    // Noon of a day in 2023.
    time.set_data(0, 0, 2_460_000);
    let mut column = group.next_column()?.ok_or("no column")?;
    column.typed::<Int96Type>().write_batch(&[time, time], Some(&[1, 1]), None)?;
    column.close()?;
    let mut column = group.next_column()?.ok_or("no column")?;
    column.typed::<Int32Type>().write_batch(&[4, 5], Some(&[1, 1]), None)?;
    column.close()?;
    group.close()?;
    writer.close()?;
    write_snapshot(dir.path()).await?;
    for unit in ["µs", "ns"] {
        let ctx = session(2, &[("datafusion.execution.parquet.coerce_int96", &unit.replace('µ', "u"))])?;
        let open = async |metadata_files| {
            let builder = OdpTableProvider::builder(dir.path().to_string_lossy());
            builder.with_options(options(metadata_files, BatchUnit::RowGroup)).open(&ctx).await
        };
        let by_snapshot = described(open(MetadataFiles::Snapshot).await?).await?;
        let (schema, _) = &by_snapshot;
        assert_eq!(by_snapshot, described(open(MetadataFiles::None).await?).await?, "{unit}");
        assert!(schema.field(0).data_type().to_string().contains(unit), "{schema:?}");
    }
    Ok(())
}

/// Gathers the footers of `files` below `dir` as PyArrow does: one footer, each row group with its file's path.
fn write_parquet_metadata(dir: &Path, files: &[&str]) -> Result<()> {
    let mut about = None;
    let mut groups = Vec::new();
    for name in files {
        let bytes = bytes::Bytes::from(fs::read(dir.join(name))?);
        let footer = ParquetMetaDataReader::new().parse_and_finish(&bytes)?;
        about.get_or_insert_with(|| footer.file_metadata().clone());
        for group in footer.row_groups() {
            let columns = group
                .columns()
                .iter()
                .map(|column| column.clone().into_builder().set_file_path((*name).to_owned()).build());
            let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
            let group = group.clone().into_builder().set_column_metadata(columns).build()?;
            groups.push(group);
        }
    }
    let gathered = ParquetMetaDataBuilder::new(about.ok_or("no files")?).set_row_groups(groups).build();
    let mut out = b"PAR1".to_vec();
    ParquetMetaDataWriter::new(&mut out, &gathered).finish()?;
    fs::write(dir.join("_metadata"), out)?;
    Ok(())
}

#[tokio::test]
async fn footers_are_taken_from_a_metadata_file_that_is_newer_than_the_files() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (i, name) in ["a/0.parquet", "a/1.parquet", "b/2.parquet"].into_iter().enumerate() {
        write(&dir.path().join(name), &observations(i64::try_from(i)? * 100, 100, 1)?, 20)?;
    }
    for name in ["a/0.parquet", "a/1.parquet", "b/2.parquet"] {
        // Not in the moment in which the next file is written: that would not be older.
        let file = fs::File::options().write(true).open(dir.path().join(name))?;
        file.set_modified(SystemTime::now() - Duration::from_secs(60))?;
    }
    write_parquet_metadata(dir.path(), &["a/0.parquet", "a/1.parquet", "b/2.parquet"])?;
    let assert_same = async || -> Result<()> {
        let by_footers = described(open(dir.path(), MetadataFiles::None, BatchUnit::RowGroup).await?).await?;
        let by_metadata = described(open(dir.path(), MetadataFiles::All, BatchUnit::RowGroup).await?).await?;
        assert_eq!(by_footers, by_metadata);
        Ok(())
    };
    assert_same().await?;
    let open_all = async |store: &Arc<RecordingStore>| -> Result<OdpTableProvider> {
        let builder = OdpTableProvider::builder("memory:///");
        let builder = builder.with_options(options(MetadataFiles::All, BatchUnit::RowGroup));
        Ok(builder.open(&over(store)?).await?)
    };
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(dir.path())?);
    let store = Arc::new(RecordingStore::new(store));
    let table = open_all(&store).await?;
    assert_eq!(table.snapshot().num_batches(), 15);
    assert_eq!(store.take(), ["list ", "get _metadata"]);
    // Only for who asks for it: it names no versions.
    OdpTableProvider::open(&over(&store)?, "memory:///").await?;
    assert_eq!(store.take(), ["list ", "get a/0.parquet", "get a/1.parquet", "get b/2.parquet"]);
    // What is written after it is read, and so is what it does not name.
    std::thread::sleep(Duration::from_millis(20));
    write(&dir.path().join("a/1.parquet"), &observations(5, 60, 1)?, 20)?;
    write(&dir.path().join("c.parquet"), &observations(7, 20, 1)?, 20)?;
    assert_same().await?;
    let table = open_all(&store).await?;
    assert_eq!(table.snapshot().num_rows(), 280);
    let gets: Vec<String> = store.take().into_iter().filter(|r| r.starts_with("get")).collect();
    assert_eq!(gets, ["get _metadata", "get a/1.parquet", "get c.parquet"]);
    // A snapshot file is believed first; it is of file versions.
    write_snapshot(dir.path()).await?;
    open_all(&store).await?;
    let gets: Vec<String> = store.take().into_iter().filter(|r| r.starts_with("get")).collect();
    assert_eq!(gets, ["get _odp_snapshot", "get _metadata"]);
    fs::remove_file(dir.path().join("_odp_snapshot"))?;
    // Damaged, it is ignored.
    fs::write(dir.path().join("_metadata"), b"PAR1 not a footer PAR1")?;
    assert_same().await?;
    Ok(())
}

#[tokio::test]
async fn a_metadata_file_that_says_other_row_groups_is_an_error_in_every_query() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("a.parquet");
    // Rows, and rows of a row group, as the metadata file says and as the file has them. A footer of many row groups is not compared
    // again if it was found to be right.
    for (said, found) in [((100, 20), (100, 25)), ((2_000, 20), (2_000, 21)), ((2_000, 20), (1_990, 20))] {
        write(&file, &observations(0, said.0, 1)?, said.1)?;
        write_parquet_metadata(dir.path(), &["a.parquet"])?;
        write(&file, &observations(0, found.0, 1)?, found.1)?;
        let ctx = session(1, &[])?;
        for modified in [Duration::from_secs(60), Duration::ZERO] {
            let opened = fs::File::options().write(true).open(&file)?;
            opened.set_modified(SystemTime::now() - modified + Duration::from_secs(1))?;
            let is_believed = modified > Duration::ZERO;
            let builder = OdpTableProvider::builder(dir.path().to_str().ok_or("path is not UTF-8")?);
            let table =
                builder.with_options(options(MetadataFiles::All, BatchUnit::RowGroup)).open(&ctx).await?;
            ctx.register_table("t", Arc::new(table))?;
            for sql in ["SELECT avg(depth) FROM t", "SELECT avg(depth) FROM t WHERE id > 50"] {
                for _ in 0..2 {
                    match ctx.sql(sql).await?.collect().await {
                        Ok(_) => assert!(!is_believed, "{sql}, {found:?}"),
                        Err(error) => {
                            let error = error.to_string();
                            assert!(
                                is_believed
                                    && error.contains("a.parquet")
                                    && error.contains("write that file anew"),
                                "{error}"
                            );
                        }
                    }
                }
            }
            ctx.deregister_table("t")?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_dataset_of_no_files_has_the_columns_of_its_common_metadata() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_string_lossy().into_owned();
    write(&dir.path().join("_common_metadata"), &observations(0, 0, 1)?, 20)?;
    let ctx = session(2, &[])?;
    ctx.sql(&format!("CREATE EXTERNAL TABLE t STORED AS ODP LOCATION '{path}/'")).await?;
    for (sql, expected) in [
        ("SELECT count(*) AS n FROM t", "0"),
        ("SELECT count(*) AS n, max(depth) FROM t WHERE depth > 4", "0"),
        ("SELECT count(*) AS n FROM odp_batches('t')", "0"),
        ("SELECT count(*) AS n FROM (SELECT * FROM t ORDER BY id LIMIT 5)", "0"),
    ] {
        let (rows, _) = run(&ctx, sql).await?;
        assert!(pretty_format_batches(&rows)?.to_string().contains(expected), "{sql}");
    }
    // Other files may be what was meant: not silently an empty table.
    fs::write(dir.path().join("data.csv"), "a,b")?;
    let error = OdpTableProvider::open(&ctx, path).await.expect_err("no Parquet files");
    assert!(matches!(error, OdpError::EmptyDataset { .. }), "{error}");
    Ok(())
}

#[tokio::test]
async fn learnt_extents_are_kept() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_string_lossy().into_owned();
    let ctx = session(2, &[])?;
    ctx.sql(&format!(
        "COPY (SELECT value AS id, concat('POINT(', value / 10.0, ' ', value % 50, ')') AS footprint \
         FROM generate_series(0, 999) ORDER BY 1) TO '{path}/a.parquet' STORED AS PARQUET \
         OPTIONS ('format.max_row_group_size' 100)"
    ))
    .await?
    .collect()
    .await?;
    let sql =
        "SELECT count(*) FROM t WHERE st_within(footprint, 'POLYGON((20 -1, 25 -1, 25 60, 20 60, 20 -1))')";
    let create = format!("CREATE EXTERNAL TABLE t STORED AS ODP LOCATION '{path}/'");
    ctx.sql(&create).await?;
    let cold = shown(&plan(&ctx, sql).await?);
    assert!(cold.contains("batches=10"), "{cold}");
    // EXPLAIN of it does nothing.
    ctx.sql("EXPLAIN SELECT * FROM odp_analyze('t', 'footprint')").await?.collect().await?;
    assert!(!dir.path().join("_odp_snapshot").exists());
    let rows = ctx.sql("SELECT * FROM odp_analyze('t', 'footprint')").await?.collect().await?;
    let text = pretty_format_batches(&rows)?.to_string();
    assert!(text.contains("footprint") && text.contains("1000") && rows[0].num_rows() == 1, "{text}");

    let fresh = session(2, &[])?;
    fresh.sql(&create).await?;
    let warm = shown(&plan(&fresh, sql).await?);
    assert!(warm.contains("batches=1 of 10") || warm.contains("batches=2 of 10"), "{warm}");
    let answer = |rows: Vec<_>| pretty_format_batches(&rows).map(|text| text.to_string());
    let (by_snapshot, _) = run(&fresh, sql).await?;
    fs::remove_file(dir.path().join("_odp_snapshot"))?;
    let again = session(2, &[])?;
    again.sql(&create).await?;
    let (by_rows, _) = run(&again, sql).await?;
    assert_eq!(answer(by_snapshot)?, answer(by_rows)?);

    // As another type the column may hold other geometries.
    run(&again, "SELECT * FROM odp_analyze('t', 'footprint')").await?;
    let text = |data_type| Arc::new(Schema::new(vec![Field::new("footprint", data_type, true)]));
    for (data_type, is_known) in [(DataType::Utf8View, true), (DataType::BinaryView, false)] {
        let table =
            OdpTableProvider::builder(path.as_str()).with_schema(text(data_type)).open(&fresh).await?;
        fresh.deregister_table("t")?;
        fresh.register_table("t", Arc::new(table))?;
        let plan = shown(&plan(&fresh, sql).await?);
        assert_eq!(plan.contains("batches=10 of 10"), !is_known, "{plan}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_directory_has_no_snapshot_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write_observations(dir.path(), 2, 1, 10)?;
    let ctx = session(2, &[])?;
    for location in ["part-0.parquet", "part-*.parquet"] {
        let location = dir.path().join(location).to_string_lossy().into_owned();
        let table = OdpTableProvider::open(&ctx, location).await?;
        let error = table.write_snapshot(&ctx).await.expect_err("no directory");
        assert!(matches!(error, OdpError::Unsupported { .. }), "{error}");
    }
    let message = |sql: &'static str| {
        let ctx = ctx.clone();
        async move {
            match ctx.sql(sql).await {
                Ok(frame) => frame.collect().await.expect_err(sql).to_string(),
                Err(error) => error.to_string(),
            }
        }
    };
    assert!(message("SELECT * FROM odp_analyze('nowhere')").await.contains("nowhere"));
    assert!(message("SELECT * FROM odp_analyze()").await.contains("name of a table"));
    Ok(())
}
