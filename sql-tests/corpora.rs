//! Public corpora: files of other projects, good and bad, read as tables.
//!
//! They lie beside the project, see [`corpora_dir`]; where they are absent the trials are ignored. Every file has
//! an expectation in [`EXPECTATIONS`].

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::common::DataFusionError;
use datafusion::common::runtime::SpawnedTask;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use datafusion_odp::OdpTableProvider;
use geo::{Contains, LineString, Point, Polygon};
use libtest_mimic::{Failed, Trial};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use tempfile::TempDir;

use crate::{TestResult, runtime, session};

/// The longest that opening and reading one file may take.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    /// The rows that DataFusion reads from the file, in its order.
    Reads,
    /// This number of rows, from a file that DataFusion gives up on.
    ReadsAlone(usize),
    /// An error, of opening or of reading; no panic, no hang.
    Errors,
}

use Expectation::{Errors, Reads, ReadsAlone};

/// What is expected of each file: that of the first entry which is a part of its path.
const EXPECTATIONS: &[(&str, Expectation)] = &[
    // A bit width of 0 in an index of a dictionary of one value: odd, but legal.
    ("apache_parquet-testing/bad_data/ARROW-GH-43605.parquet", Reads),
    ("apache_parquet-testing/bad_data/", Errors),
    // The decoder of the crate `parquet` accepts neither.
    ("apache_parquet-testing/data/dict-page-offset-zero.parquet", Errors),
    ("apache_parquet-testing/data/nation.dict-malformed.parquet", Errors),
    ("apache_parquet-testing/data/geospatial/", Reads),
    ("apache_parquet-testing/data/", Reads),
    // Its page index lies behind the end of the file; the rows are whole.
    ("fuzzing/clusterfuzz-testcase-minimized-parquet-arrow-fuzz-5382863341289472", ReadsAlone(5120)),
    ("fuzzing/crash-649c71a618ae2fd80cec177a9676eb3e280fc1fa", Reads),
    ("apache_arrow-testing/data/parquet/fuzzing/", Errors),
    ("apache_sedona-testing/data/parquet/", Reads),
    ("geoarrow_geoarrow-data/example/files/", Reads),
    ("geoarrow_geoarrow-data/natural-earth/files/", Reads),
    ("geoparquet_geoparquet-io/tests/data/", Reads),
    ("opengeospatial_geoparquet/examples/", Reads),
    ("opengeospatial_geoparquet/test_data/", Reads),
    ("planetlabs_gpq/internal/testdata/cases/", Reads),
];

/// Where recorded answers of the OBIS service lie.
const OBIS: &str = "iobis_pyobis/pyobis/occurrences/cassettes";

pub(crate) fn trials() -> TestResult<Vec<Trial>> {
    let directory = corpora_dir();
    if !directory.is_dir() {
        let reason = format!("corpora (ignored: no folder {}, set ODP_CORPORA)", directory.display());
        return Ok(vec![Trial::test(reason, || Ok(())).with_ignored_flag(true)]);
    }
    let mut files = Vec::new();
    find_parquet(&directory, &mut files)?;
    files.sort();
    let mut trials: Vec<Trial> = files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&directory).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            let expected = EXPECTATIONS.iter().find(|(part, _)| name.contains(part)).map(|(_, e)| *e);
            Trial::test(format!("corpora::{name}"), move || match expected {
                Some(expected) => {
                    check_file(&path, expected).map_err(|error| Failed::from(error.to_string()))
                }
                None => Err("no expectation in sql-tests/corpora.rs".into()),
            })
        })
        .collect();
    let obis = directory.join(OBIS);
    // The recorded answers are gzip; DataFusion's reader for it comes with the feature `cli`.
    let is_ignored = !cfg!(feature = "cli") || !obis.is_dir();
    let name = match is_ignored {
        true => "corpora::obis_regions (ignored: needs the feature cli and the folder iobis_pyobis)",
        false => "corpora::obis_regions",
    };
    let run = move || check_obis(&obis).map_err(|error| Failed::from(error.to_string()));
    trials.push(Trial::test(name, run).with_ignored_flag(is_ignored));
    Ok(trials)
}

/// `ODP_CORPORA`, else `../shared/corpora` beside the project.
fn corpora_dir() -> PathBuf {
    match std::env::var_os("ODP_CORPORA") {
        Some(directory) => directory.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora"),
    }
}

/// Adds the files below `directory` that are Parquet, or are meant to be taken for it.
fn find_parquet(directory: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            find_parquet(&path, found)?;
            continue;
        }
        let is_named =
            path.extension().is_some_and(|e| ["parquet", "parq", "geoparquet"].iter().any(|p| e == *p));
        if is_named || directory.ends_with("parquet/fuzzing") {
            found.push(path);
        }
    }
    Ok(())
}

/// What came of reading a file.
enum Outcome {
    Rows(RecordBatch),
    Failed(String),
    Panicked(String),
    Hung,
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{} rows", rows.num_rows()),
            Self::Failed(error) => write!(f, "the error {error:?}"),
            Self::Panicked(message) => write!(f, "a panic, {message:?}"),
            Self::Hung => write!(f, "nothing in {DEADLINE:?}"),
        }
    }
}

fn check_file(path: &Path, expected: Expectation) -> TestResult<()> {
    let runtime = runtime()?;
    let text = path.to_string_lossy().into_owned();
    let ours = runtime.block_on(outcome(read_as_odp(text.clone())));
    let theirs = runtime.block_on(outcome(read_as_parquet(text)));
    // A task that hangs is left behind.
    runtime.shutdown_background();
    match (expected, ours, theirs) {
        (Reads, Outcome::Rows(ours), Outcome::Rows(theirs)) => same_rows(&ours, &theirs),
        (ReadsAlone(rows), Outcome::Rows(ours), Outcome::Failed(_)) if ours.num_rows() == rows => Ok(()),
        (Errors, Outcome::Failed(_), _) => Ok(()),
        (_, ours, theirs) => Err(format!("expected {expected:?}, got {ours}; DataFusion: {theirs}").into()),
    }
}

async fn outcome(
    read: impl Future<Output = Result<RecordBatch, DataFusionError>> + Send + 'static,
) -> Outcome {
    let task = SpawnedTask::spawn(read);
    match tokio::time::timeout(DEADLINE, task.join()).await {
        Ok(Ok(Ok(rows))) => Outcome::Rows(rows),
        Ok(Ok(Err(error))) => Outcome::Failed(error.strip_backtrace()),
        Ok(Err(panic)) => Outcome::Panicked(panic.to_string()),
        Err(_) => Outcome::Hung,
    }
}

async fn read_as_odp(path: String) -> Result<RecordBatch, DataFusionError> {
    let ctx = session()?;
    let table = OdpTableProvider::open(&ctx, path).await?;
    let frame = ctx.read_table(Arc::new(table))?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    Ok(concat_batches(&schema, &frame.collect().await?)?)
}

/// As DataFusion alone reads it, in one partition so that its order is that of the file.
async fn read_as_parquet(path: String) -> Result<RecordBatch, DataFusionError> {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let frame = ctx.read_parquet(path, ParquetReadOptions::default().file_extension("")).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    Ok(concat_batches(&schema, &frame.collect().await?)?)
}

/// Names, types and values; metadata of fields is left out.
fn same_rows(ours: &RecordBatch, theirs: &RecordBatch) -> TestResult<()> {
    let shape = |batch: &RecordBatch| -> Vec<(String, String)> {
        let fields = batch.schema();
        fields.fields().iter().map(|f| (f.name().clone(), f.data_type().to_string())).collect()
    };
    if shape(ours) != shape(theirs) {
        return Err(format!("columns {:?}, DataFusion has {:?}", shape(ours), shape(theirs)).into());
    }
    if ours.num_rows() != theirs.num_rows() {
        return Err(format!("{} rows, DataFusion has {}", ours.num_rows(), theirs.num_rows()).into());
    }
    let fields = ours.schema();
    match (0..ours.num_columns()).find(|&i| ours.column(i).as_ref() != theirs.column(i).as_ref()) {
        Some(i) => Err(format!("column {:?} differs from DataFusion's", fields.field(i).name()).into()),
        None => Ok(()),
    }
}

/// Real occurrences, written as Parquet, queried by region: the rows that `geo` finds in the JSON.
fn check_obis(directory: &Path) -> TestResult<()> {
    let points = obis_points(directory)?;
    if points.len() < 500 {
        return Err(format!("only {} occurrences with a position, expected 500 or more", points.len()).into());
    }
    let work_dir = TempDir::with_prefix("odp-obis-")?;
    for (i, part) in points.chunks(200).enumerate() {
        write_points(&work_dir.path().join(format!("{i}.parquet")), i * 200, part)?;
    }
    let (x, y) = points[points.len() / 2];
    let boxed = |west: f64, south: f64, east: f64, north: f64| {
        LineString::from(vec![(west, south), (east, south), (east, north), (west, north), (west, south)])
    };
    let regions = [
        ("North Sea", Polygon::new(boxed(-5.0, 51.0, 9.0, 62.0), vec![])),
        (
            "North Atlantic without a hole",
            Polygon::new(boxed(-80.0, 0.0, 20.0, 75.0), vec![boxed(-20.0, 40.0, 5.0, 55.0)]),
        ),
        ("all but the south", Polygon::new(boxed(-180.0, -50.0, 180.0, 90.0), vec![])),
        (
            "concave",
            Polygon::new(
                LineString::from(vec![
                    (-70.0, 60.0),
                    (-40.0, 30.0),
                    (-20.0, 65.0),
                    (0.0, 30.0),
                    (25.0, 70.0),
                    (-20.0, 75.0),
                    (-70.0, 60.0),
                ]),
                vec![],
            ),
        ),
        ("corner on an occurrence", Polygon::new(boxed(x, y, x + 10.0, y + 10.0), vec![])),
        ("edge through an occurrence", Polygon::new(boxed(x - 5.0, y - 5.0, x, y + 5.0), vec![])),
        ("nowhere", Polygon::new(boxed(80.0, -85.0, 80.5, -84.5), vec![])),
    ];
    let location = work_dir.path().to_string_lossy().into_owned();
    runtime()?.block_on(async {
        let ctx = session()?;
        let sql = format!(
            "CREATE EXTERNAL TABLE obis STORED AS ODP LOCATION '{location}/' OPTIONS ('batch_rows' '25')"
        );
        ctx.sql(&sql).await?.collect().await?;
        let mut found_any = 0;
        for (name, region) in regions {
            let expected: Vec<i64> =
                (0..).zip(&points).filter(|(_, (x, y))| region.contains(&Point::new(*x, *y))).map(|(i, _)| i).collect();
            let area = wkt(&region);
            let sql = format!(
                "SELECT id FROM obis WHERE st_within(st_point(\"decimalLongitude\", \"decimalLatitude\"), '{area}')"
            );
            for pruning in [true, false] {
                ctx.sql(&format!("SET odp.pruning = {pruning}")).await?.collect().await?;
                let found = ids(&ctx.sql(&sql).await?.collect().await?)?;
                if found != expected {
                    let counts = format!("{} rows, {} by geo", found.len(), expected.len());
                    return Err(format!("{name} ({area}), pruning {pruning}: {counts}").into());
                }
            }
            found_any += expected.len();
        }
        if found_any == 0 { Err("no region holds an occurrence".into()) } else { Ok(()) }
    })
}

fn ids(batches: &[RecordBatch]) -> TestResult<Vec<i64>> {
    let mut ids = Vec::new();
    for batch in batches {
        let column = batch.column(0).as_any().downcast_ref::<Int64Array>().ok_or("id is not Int64")?;
        ids.extend(column.values());
    }
    Ok(ids)
}

fn wkt(polygon: &Polygon) -> String {
    let ring = |line: &LineString| {
        let corners: Vec<String> = line.coords().map(|c| format!("{} {}", c.x, c.y)).collect();
        format!("({})", corners.join(", "))
    };
    let rings: Vec<String> =
        std::iter::once(polygon.exterior()).chain(polygon.interiors()).map(ring).collect();
    format!("POLYGON({})", rings.join(", "))
}

fn write_points(path: &Path, first_id: usize, points: &[(f64, f64)]) -> TestResult<()> {
    let first_id = i64::try_from(first_id)?;
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new((first_id..).take(points.len()).collect::<Int64Array>())),
        ("decimalLongitude", Arc::new(points.iter().map(|(x, _)| Some(*x)).collect::<Float64Array>())),
        ("decimalLatitude", Arc::new(points.iter().map(|(_, y)| Some(*y)).collect::<Float64Array>())),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(50)).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), Some(properties))?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

/// Longitude and latitude of every recorded occurrence.
fn obis_points(directory: &Path) -> TestResult<Vec<(f64, f64)>> {
    let mut cassettes: Vec<PathBuf> =
        std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    cassettes.sort();
    let mut points = Vec::new();
    for cassette in cassettes {
        for body in binary_bodies(&std::fs::read_to_string(cassette)?) {
            let Some(answer) = gzipped_json(body)? else { continue };
            let records = answer.get("results").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            points.extend(records.iter().filter_map(|record| {
                Some((record.get("decimalLongitude")?.as_f64()?, record.get("decimalLatitude")?.as_f64()?))
            }));
        }
    }
    Ok(points)
}

/// The `!!binary` answers of a recorded session: base64 in indented lines.
fn binary_bodies(cassette: &str) -> Vec<Vec<u8>> {
    let blocks = cassette.split("string: !!binary |\n").skip(1);
    blocks.map(|block| base64(block.lines().take_while(|line| !line.contains(':')))).collect()
}

fn base64<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = lines.flat_map(str::bytes).filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte));
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for digit in digits {
        bits = bits << 6 | u32::try_from(digit).unwrap_or_default();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.extend(u8::try_from(bits >> held & 0xff));
        }
    }
    bytes
}

/// `None` for an answer in another coding, and for one that is not JSON.
fn gzipped_json(body: Vec<u8>) -> TestResult<Option<Value>> {
    if !body.starts_with(&[0x1f, 0x8b]) {
        return Ok(None);
    }
    let mut text = String::new();
    FileCompressionType::GZIP.convert_read(Cursor::new(body))?.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text).ok())
}
