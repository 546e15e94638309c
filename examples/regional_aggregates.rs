//! Statistics of ocean observations by region, station and month, over a Parquet dataset larger than one file.
//!
//! ```sh
//! cargo run --example regional_aggregates
//! cargo run --example regional_aggregates -- --data DIR --rows N --region 'NAME=WKT' --region …
//! ```
//!
//! `--data DIR` is a dataset of yours: Parquet files with longitude and latitude, and where they exist station,
//! time, temperature and oxygen. If `DIR` is absent or empty, `--rows N` synthetic observations (1,000,000) are
//! written there first; without `--data`, to a folder below the system's temporary directory. `--region` replaces
//! the three built-in areas; coordinates are longitude, then latitude, in degrees.
//!
//! Every answer over synthetic data is compared with the sums that the generator kept beside the data; if one
//! differs, the program says so and ends with exit code 1.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{
    ArrayRef, AsArray, Float64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::temporal_conversions::timestamp_us_to_datetime;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::metadata::SortingColumn;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::SessionContext;
use datafusion_odp::OdpTableProvider;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Normal};
use serde_json::{Value, json};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const REGIONS: [(&str, &str); 3] = [
    ("north_sea", "POLYGON((-5 51, 9 51, 9 62, -5 62, -5 51))"),
    ("norwegian_sea", "POLYGON((-5 62, 15 62, 15 72, -5 72, -5 62))"),
    ("barents_sea", "POLYGON((15 68, 40 68, 40 80, 15 80, 15 68))"),
];

/// The sums of the generator; the leading `_` keeps the file out of the dataset.
const TOTALS_FILE: &str = "_totals.json";

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let Some(flags) = Flags::parse(std::env::args().skip(1))? else {
        println!("usage: regional_aggregates [--data DIR] [--rows N] [--region NAME=WKT]…");
        return Ok(());
    };
    let totals = prepare(&flags)?;

    let started = Instant::now();
    let ctx = SessionContext::new();
    datafusion_odp::register(&ctx)?;
    let table = OdpTableProvider::open(&ctx, flags.data.to_string_lossy()).await?;
    let snapshot = table.snapshot();
    println!(
        "{}: {} rows in {} batches of {} files, opened in {} ms",
        flags.data.display(),
        snapshot.num_rows(),
        snapshot.num_batches(),
        snapshot.files().len(),
        started.elapsed().as_millis()
    );
    let columns = Columns::find(&snapshot.schema());
    ctx.register_table("observations", Arc::new(table))?;

    let mut answers = Answers::default();
    if let Some((longitude, latitude)) = columns.longitude.as_ref().zip(columns.latitude.as_ref()) {
        print_heading("region");
        for (name, wkt) in &flags.regions {
            let text = wkt.replace('\'', "''");
            let filter = format!("WHERE st_within(st_point({longitude}, {latitude}), '{text}')");
            let sql = columns.query("''", &filter);
            let (rows, kept, elapsed) = query(&ctx, &sql).await?;
            for (_, group) in rows {
                print_group(name, &group, &format!("batches={kept}, {elapsed} ms"));
                answers.regions.insert(wkt.clone(), group);
            }
        }
    }
    for (title, key, groups) in [
        ("station", columns.station.clone(), &mut answers.stations),
        ("month", columns.month(), &mut answers.months),
    ] {
        let Some(key) = key else { continue };
        let (rows, _, elapsed) = query(&ctx, &columns.query(&key, "GROUP BY 1 ORDER BY 1")).await?;
        print_heading(title);
        for (name, group) in rows {
            print_group(&name, &group, "");
            groups.insert(name, group);
        }
        println!("{} groups in {elapsed} ms", groups.len());
    }
    println!();
    match totals {
        Some(totals) => check(&totals, &answers),
        None => {
            println!("the dataset is not of this program: there are no sums to check the answers with");
            Ok(())
        }
    }
}

// ---------------------------------------------------------------------------------------------------- flags

struct Flags {
    data: PathBuf,
    rows: u64,
    /// `--rows` was given, not assumed.
    rows_given: bool,
    /// Name and WKT.
    regions: Vec<(String, String)>,
}

impl Flags {
    /// `None` if the user asks for help.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let (mut data, mut rows, mut regions) = (None, None, Vec::new());
        while let Some(flag) = arguments.next() {
            if flag == "--help" || flag == "-h" {
                return Ok(None);
            }
            let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--data" => data = Some(PathBuf::from(value()?)),
                "--rows" => {
                    let text = value()?.replace(['_', ','], "");
                    let parsed = text.parse::<u64>().ok().filter(|rows| *rows > 0);
                    rows = Some(parsed.ok_or_else(|| format!("--rows {text}: expected a number above 0"))?);
                }
                "--region" => {
                    let text = value()?;
                    let Some((name, wkt)) = text.split_once('=') else {
                        return Err(format!("--region {text}: expected NAME=WKT").into());
                    };
                    regions.push((name.to_owned(), wkt.to_owned()));
                }
                _ => return Err(format!("unknown flag {flag}: expected --data, --rows or --region").into()),
            }
        }
        if regions.is_empty() {
            regions = REGIONS.map(|(name, wkt)| (name.to_owned(), wkt.to_owned())).to_vec();
        }
        let (rows_given, rows) = (rows.is_some(), rows.unwrap_or(1_000_000));
        let data = data.unwrap_or_else(|| std::env::temp_dir().join(format!("odp-observations-{rows}")));
        Ok(Some(Self { data, rows, rows_given, regions }))
    }
}

// -------------------------------------------------------------------------------------------------- queries

/// The columns of the dataset that the queries use, as quoted identifiers.
struct Columns {
    longitude: Option<String>,
    latitude: Option<String>,
    station: Option<String>,
    time: Option<String>,
    temperature: Option<String>,
    oxygen: Option<String>,
}

impl Columns {
    /// Looks for usual names, in any case; says which columns are missing.
    fn find(schema: &Schema) -> Self {
        let find = |what: &str, names: &[&str], fits: fn(&DataType) -> bool| {
            let named = names.iter().find_map(|name| {
                schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name))
            });
            match named {
                Some(field) if fits(field.data_type()) => {
                    Some(format!("\"{}\"", field.name().replace('"', "\"\"")))
                }
                Some(field) => {
                    println!("note: {what} is left out: column {:?} is {}", field.name(), field.data_type());
                    None
                }
                None => {
                    println!("note: {what} is left out: there is no column {}", names.join(" or "));
                    None
                }
            }
        };
        Self {
            longitude: find("region", &["longitude", "lon", "decimalLongitude"], DataType::is_numeric),
            latitude: find("region", &["latitude", "lat", "decimalLatitude"], DataType::is_numeric),
            station: find("station", &["station_id", "station", "platform", "platform_id"], |_| true),
            time: find(
                "month",
                &["timestamp", "time", "datetime", "date", "eventDate"],
                DataType::is_temporal,
            ),
            temperature: find("temperature", &["temperature_c", "temperature", "temp"], DataType::is_numeric),
            oxygen: find("oxygen", &["dissolved_oxygen", "oxygen", "doxy"], DataType::is_numeric),
        }
    }

    /// The text `2020-01` of the time column.
    fn month(&self) -> Option<String> {
        let time = self.time.as_ref()?;
        Some(format!("substr(CAST(date_trunc('month', {time}) AS VARCHAR), 1, 7)"))
    }

    fn query(&self, key: &str, clauses: &str) -> String {
        let number = |column: &Option<String>| match column {
            Some(column) => format!("CAST({column} AS DOUBLE)"),
            None => "CAST(NULL AS DOUBLE)".to_owned(),
        };
        let (temperature, oxygen) = (number(&self.temperature), number(&self.oxygen));
        format!(
            "SELECT {key}, count(*), avg({temperature}) AS average, min({temperature}) AS least, \
             max({temperature}) AS greatest, avg({oxygen}) AS oxygen FROM observations {clauses}"
        )
    }
}

/// What is known of one group of observations.
#[derive(Debug, Default, Clone, PartialEq)]
struct Group {
    count: i64,
    /// Average, least and greatest temperature, average oxygen; `None` without values.
    numbers: [Option<f64>; 4],
}

const NUMBERS: [&str; 4] =
    ["average temperature", "least temperature", "greatest temperature", "average oxygen"];

#[derive(Default)]
struct Answers {
    /// By WKT: names are the user's.
    regions: BTreeMap<String, Group>,
    stations: BTreeMap<String, Group>,
    months: BTreeMap<String, Group>,
}

/// Runs `sql`; gives its groups, the batches that its plan keeps (`K of N`), and milliseconds.
async fn query(ctx: &SessionContext, sql: &str) -> Result<(Vec<(String, Group)>, String, u128)> {
    let started = Instant::now();
    let plan = ctx.sql(sql).await?.create_physical_plan().await?;
    let text = displayable(plan.as_ref()).indent(false).to_string();
    let kept = match text.split_once("file_type=odp, batches=") {
        Some((_, rest)) => rest.split([',', '\n']).next().unwrap_or_default().to_owned(),
        None => "none".to_owned(),
    };
    let batches = collect(plan, ctx.task_ctx()).await?;
    let elapsed = started.elapsed().as_millis();
    let options = FormatOptions::default().with_null("(none)");
    let mut groups = Vec::new();
    for batch in &batches {
        let keys = ArrayFormatter::try_new(batch.column(0), &options)?;
        let counts = batch.column(1).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let numbers = [2, 3, 4, 5].map(|i| {
                let column: &ArrayRef = batch.column(i);
                column.is_valid(row).then(|| column.as_primitive::<Float64Type>().value(row))
            });
            groups.push((keys.value(row).to_string(), Group { count: counts.value(row), numbers }));
        }
    }
    Ok((groups, kept, elapsed))
}

fn print_heading(title: &str) {
    println!("\n{title:<16} {:>10} {:>9} {:>9} {:>9} {:>10}", "rows", "temp avg", "min", "max", "oxygen avg");
}

fn print_group(name: &str, group: &Group, note: &str) {
    let [average, least, greatest, oxygen] =
        group.numbers.map(|number| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.3}")));
    let line =
        format!("{name:<16} {:>10} {average:>9} {least:>9} {greatest:>9} {oxygen:>10}  {note}", group.count);
    println!("{}", line.trim_end());
}

// -------------------------------------------------------------------------------------------- synthetic data

/// Rows of one batch (row group), at most.
const BATCH_ROWS: u64 = 100_000;
/// Batches of one file, and files of one delivery.
const FILE_BATCHES: u64 = 2;
const DELIVERY_FILES: u64 = 5;
const STATIONS: u64 = 50;
const DEPTHS_M: [f64; 6] = [5.0, 10.0, 25.0, 50.0, 100.0, 200.0];

/// Stations from south to north: how many, between which longitudes and latitudes. The first and the last group
/// lie outside the regions.
const GROUPS: [(u64, [f64; 2], [f64; 2]); 5] = [
    (5, [-14.0, -6.0], [44.0, 50.0]),
    (15, [-4.0, 8.0], [52.0, 61.0]),
    (15, [-4.0, 14.0], [63.0, 71.0]),
    (10, [16.0, 39.0], [69.0, 79.0]),
    (5, [-20.0, -6.0], [74.0, 79.0]),
];

/// Writes the dataset if there is none. Gives the sums of its generator; `None` for a dataset of the user.
fn prepare(flags: &Flags) -> Result<Option<Value>> {
    let is_empty = match fs::read_dir(&flags.data) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !flags.data.exists(),
    };
    if is_empty {
        let started = Instant::now();
        generate_into(&flags.data, flags.rows)?;
        println!("wrote {} observations in {} ms", flags.rows, started.elapsed().as_millis());
    }
    let path = flags.data.join(TOTALS_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let totals: Value = serde_json::from_reader(File::open(&path)?)?;
    if flags.rows_given && totals["rows"] != flags.rows {
        let message = format!("{} has {} rows, not {}", flags.data.display(), totals["rows"], flags.rows);
        return Err(format!("{message}: remove it, or give another --data").into());
    }
    Ok(Some(totals))
}

/// Writes to a temporary directory beside `dir` and renames it: `dir` is a whole dataset, or does not exist.
fn generate_into(dir: &Path, rows: u64) -> Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let partial = tempfile::Builder::new().prefix(".odp-partial-").tempdir_in(parent)?;
    let totals = generate(partial.path(), rows)?;
    fs::write(partial.path().join(TOTALS_FILE), format!("{totals:#}\n"))?;
    fs::rename(partial.path(), dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
    // There is nothing left to remove.
    let _ = partial.keep();
    Ok(())
}

/// Writes `rows` observations, one a minute, the stations in turn; gives their sums.
///
/// The layout is that of an archive: observations arrive in deliveries of 1,000,000 (about two years), in a
/// delivery they lie by station, then by time, and stations are numbered from south to north. So a batch holds a
/// few neighbouring stations over a long time, and its bounds of longitude and latitude tell regions apart. (Kept
/// in the order of arrival, each batch would hold all stations, and only filters by time could skip batches.)
fn generate(dir: &Path, rows: u64) -> Result<Value> {
    let batch_rows = rows.div_ceil(FILE_BATCHES * DELIVERY_FILES).min(BATCH_ROWS);
    let delivery_rows = batch_rows * FILE_BATCHES * DELIVERY_FILES;
    let mut random = StdRng::seed_from_u64(20_200_101);
    let stations = stations(&mut random);
    let normal = |mean, deviation| Normal::new(mean, deviation);
    let distributions = [normal(8.0, 4.0)?, normal(35.0, 1.0)?, normal(7.0, 1.0)?];

    let mut totals = Totals::default();
    let mut files = Files::new(dir, batch_rows)?;
    for start in (0..rows).step_by(usize::try_from(delivery_rows)?) {
        let end = rows.min(start + delivery_rows);
        for (station, number) in stations.iter().zip(0..) {
            for minute in (start + number..end).step_by(usize::try_from(STATIONS)?) {
                let [temperature_c, salinity_psu, dissolved_oxygen] =
                    distributions.map(|distribution| distribution.sample(&mut random));
                let observation = Observation {
                    timestamp: (1_577_836_800 + i64::try_from(minute)? * 60) * 1_000_000,
                    // Buoys swing around their anchors.
                    longitude: station.longitude + random.random_range(-0.02..0.02),
                    latitude: station.latitude + random.random_range(-0.02..0.02),
                    temperature_c,
                    salinity_psu,
                    depth_m: DEPTHS_M[random.random_range(0..DEPTHS_M.len())],
                    dissolved_oxygen,
                };
                totals.add(&station.id, &observation)?;
                files.push(&station.id, &observation)?;
            }
        }
    }
    files.finish()?;
    Ok(totals.to_json(rows))
}

struct Station {
    id: String,
    longitude: f64,
    latitude: f64,
}

fn stations(random: &mut StdRng) -> Vec<Station> {
    let mut stations = Vec::new();
    for (count, longitudes, latitudes) in GROUPS {
        for _ in 0..count {
            stations.push(Station {
                id: format!("STATION-{:03}", stations.len()),
                longitude: random.random_range(longitudes[0]..longitudes[1]),
                latitude: random.random_range(latitudes[0]..latitudes[1]),
            });
        }
    }
    stations
}

struct Observation {
    /// Microseconds since 1970.
    timestamp: i64,
    longitude: f64,
    latitude: f64,
    temperature_c: f64,
    salinity_psu: f64,
    depth_m: f64,
    dissolved_oxygen: f64,
}

/// Writes observations to `part-0000.parquet` and so on.
struct Files {
    dir: PathBuf,
    batch_rows: usize,
    schema: Arc<Schema>,
    number: usize,
    writer: Option<ArrowWriter<File>>,
    timestamps: TimestampMicrosecondBuilder,
    stations: StringBuilder,
    numbers: [Float64Builder; 6],
}

impl Files {
    fn new(dir: &Path, batch_rows: u64) -> Result<Self> {
        let mut fields = vec![
            Field::new("timestamp", DataType::Timestamp(TimeUnit::Microsecond, None), false),
            Field::new("station_id", DataType::Utf8, false),
        ];
        let numbers =
            ["latitude", "longitude", "temperature_c", "salinity_psu", "depth_m", "dissolved_oxygen"];
        fields.extend(numbers.map(|name| Field::new(name, DataType::Float64, false)));
        Ok(Self {
            dir: dir.to_owned(),
            batch_rows: usize::try_from(batch_rows)?,
            schema: Arc::new(Schema::new(fields)),
            number: 0,
            writer: None,
            timestamps: TimestampMicrosecondBuilder::new(),
            stations: StringBuilder::new(),
            numbers: Default::default(),
        })
    }

    fn push(&mut self, station: &str, observation: &Observation) -> Result<()> {
        self.timestamps.append_value(observation.timestamp);
        self.stations.append_value(station);
        let values = [
            observation.latitude,
            observation.longitude,
            observation.temperature_c,
            observation.salinity_psu,
            observation.depth_m,
            observation.dissolved_oxygen,
        ];
        for (builder, value) in self.numbers.iter_mut().zip(values) {
            builder.append_value(value);
        }
        if self.timestamps.values_slice().len() == self.batch_rows {
            self.write_batch()?;
        }
        Ok(())
    }

    /// Writes the observations so far as one row group, and ends the file if it is full.
    fn write_batch(&mut self) -> Result<()> {
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(self.timestamps.finish()), Arc::new(self.stations.finish())];
        columns.extend(self.numbers.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.open()?,
        };
        writer.write(&batch)?;
        writer.flush()?;
        if writer.flushed_row_groups().len() as u64 == FILE_BATCHES {
            writer.close()?;
        } else {
            self.writer = Some(writer);
        }
        Ok(())
    }

    fn open(&mut self) -> Result<ArrowWriter<File>> {
        let file = File::create(self.dir.join(format!("part-{:04}.parquet", self.number)))?;
        self.number += 1;
        let ascending = |column_idx| SortingColumn { column_idx, descending: false, nulls_first: false };
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(self.batch_rows))
            // By station, then by time.
            .set_sorting_columns(Some(vec![ascending(1), ascending(0)]))
            .build();
        Ok(ArrowWriter::try_new(file, Arc::clone(&self.schema), Some(properties))?)
    }

    fn finish(mut self) -> Result<()> {
        if !self.timestamps.values_slice().is_empty() {
            self.write_batch()?;
        }
        if let Some(writer) = self.writer {
            writer.close()?;
        }
        Ok(())
    }
}

// ---------------------------------------------------------------------------------------------------- checks

#[derive(Default)]
struct Totals {
    regions: BTreeMap<String, Sums>,
    stations: BTreeMap<String, Sums>,
    months: BTreeMap<String, Sums>,
}

struct Sums {
    count: u64,
    temperature: f64,
    least: f64,
    greatest: f64,
    oxygen: f64,
}

impl Default for Sums {
    fn default() -> Self {
        Self { count: 0, temperature: 0.0, least: f64::INFINITY, greatest: f64::NEG_INFINITY, oxygen: 0.0 }
    }
}

impl Sums {
    fn add(&mut self, observation: &Observation) {
        self.count += 1;
        self.temperature += observation.temperature_c;
        self.least = self.least.min(observation.temperature_c);
        self.greatest = self.greatest.max(observation.temperature_c);
        self.oxygen += observation.dissolved_oxygen;
    }

    fn to_json(&self) -> Value {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let count = self.count as f64;
        json!({
            "count": self.count,
            "numbers": [self.temperature / count, self.least, self.greatest, self.oxygen / count],
        })
    }
}

impl Totals {
    fn add(&mut self, station: &str, observation: &Observation) -> Result<()> {
        // The regions are boxes: see `REGIONS`. A point on an edge is not within.
        let boxes = [[-5.0, 51.0, 9.0, 62.0], [-5.0, 62.0, 15.0, 72.0], [15.0, 68.0, 40.0, 80.0]];
        for ((_, wkt), [xmin, ymin, xmax, ymax]) in REGIONS.iter().zip(boxes) {
            let sums = entry(&mut self.regions, wkt);
            let (x, y) = (observation.longitude, observation.latitude);
            if xmin < x && x < xmax && ymin < y && y < ymax {
                sums.add(observation);
            }
        }
        let time = timestamp_us_to_datetime(observation.timestamp).ok_or("time out of range")?;
        entry(&mut self.stations, station).add(observation);
        entry(&mut self.months, &time.format("%Y-%m").to_string()).add(observation);
        Ok(())
    }

    fn to_json(&self, rows: u64) -> Value {
        let groups = |groups: &BTreeMap<String, Sums>| -> Value {
            groups.iter().map(|(name, sums)| (name.clone(), sums.to_json())).collect()
        };
        json!({
            "rows": rows,
            "regions": groups(&self.regions),
            "stations": groups(&self.stations),
            "months": groups(&self.months),
        })
    }
}

fn entry<'a>(groups: &'a mut BTreeMap<String, Sums>, name: &str) -> &'a mut Sums {
    groups.entry(name.to_owned()).or_default()
}

/// Compares the answers with the generator's; regions that are not the generator's are not compared.
fn check(totals: &Value, answers: &Answers) -> Result<()> {
    let mut differences = Vec::new();
    let mut compared = Vec::new();
    for (what, groups, all) in [
        ("regions", &answers.regions, false),
        ("stations", &answers.stations, true),
        ("months", &answers.months, true),
    ] {
        let expected = totals[what].as_object().ok_or_else(|| format!("{TOTALS_FILE} has no {what}"))?;
        if all && expected.len() != groups.len() {
            differences.push(format!("{} {what} instead of {}", groups.len(), expected.len()));
        }
        let mut count = 0;
        for (name, group) in groups {
            match expected.get(name) {
                Some(expected) => {
                    count += 1;
                    differences
                        .extend(difference(expected, group).map(|text| format!("{what}: {name}: {text}")));
                }
                None if all => differences.push(format!("{what}: {name} is not in the data")),
                None => {}
            }
        }
        compared.push(format!("{count} {what}"));
    }
    if differences.is_empty() {
        println!("checked: {} agree with the sums kept while the data was written", compared.join(", "));
        return Ok(());
    }
    Err(format!("answers differ from the generator's sums:\n  {}", differences.join("\n  ")).into())
}

fn difference(expected: &Value, group: &Group) -> Option<String> {
    if expected["count"] != group.count {
        return Some(format!("{} rows instead of {}", group.count, expected["count"]));
    }
    NUMBERS.iter().zip(group.numbers).enumerate().find_map(|(i, (name, found))| {
        let wanted = expected["numbers"][i].as_f64();
        let is_same = match (wanted, found) {
            // The order of a sum changes its last digits.
            (Some(wanted), Some(found)) => (wanted - found).abs() <= 1e-9 * wanted.abs().max(1.0),
            (wanted, found) => wanted.is_none() && found.is_none(),
        };
        (!is_same).then(|| format!("{name} {found:?} instead of {wanted:?}"))
    })
}
