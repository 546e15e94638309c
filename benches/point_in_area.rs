//! How many points a second does `st_within` locate in an area, against what memory allows?
//!
//! Data: closed coasts of 10 to 1,000,000 vertices (a circle whose radius is displaced at every scale, so that it is
//! rough but never crosses itself) as WKT constants, and 1,000,000 random points, 8,192 to a record batch:
//! - `inside`: all in the interior, away from the coast;
//! - `boundary`: all within 1 % of a vertex;
//! - `outside`: over the whole globe, of which the area is 1 %.
//!
//! Called is the SQL function as DataFusion calls it, with a copy of the constant for each record batch. `limit` sums
//! up the same coordinates: no test of a point can be faster than to read it. `wkb` and `wkt` are `inside` and
//! `boundary` points, half and half, in other forms, against 10,000 vertices. `prepare` is the first call with an
//! area, of one row.
//!
//! ```sh
//! cargo bench --features cli --bench point_in_area
//! ```
//!
//! Result of the kernel alone (2026-11-21, one core of an AMD EPYC that others used too, without SQL and constants),
//! in ns a point, before and with the raster: `inside` 73 and 6, `boundary` 60 to 160 and 50 to 80, `outside` 10 and 1.7,
//! at any number of vertices. 1,000,000 vertices take 40 ms to prepare, and 80 ms more once many points are asked about.
//!
//! Result of this bench (2026-11-30, one core of an AMD EPYC), in ns a point, with 10, 100 and 10,000 vertices: `inside` 4.5, 4.1 and 6.2,
//! `boundary` 21, 25 and 42, `outside` 1.1, 1.1 and 3.3. Areas of up to 4,096 vertices have a finer raster from half a million points on.

use std::error::Error;
use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float64Array, StringArray, StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::config::ConfigOptions;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const POINTS: usize = 1_000_000;
const BATCH_SIZE: usize = 8_192;

type Point = (f64, f64);

fn main() -> Result<(), Box<dyn Error>> {
    let ctx = SessionContext::new();
    datafusion_odp::register(&ctx)?;
    let within = ctx.udf("st_within")?;
    let mut random = StdRng::seed_from_u64(1);
    let mut criterion = Criterion::default().configure_from_args();

    for vertices in [10, 100, 10_000, 1_000_000] {
        let coast = coast(&mut random, vertices);
        let area = polygon(&coast)?;
        let mut group = criterion.benchmark_group(format!("point_in_area/{vertices}"));
        group.sample_size(10).throughput(Throughput::Elements(u64::try_from(POINTS)?));
        for (name, points) in workloads(&mut random, &coast) {
            let batches: Vec<ArrayRef> = points.chunks(BATCH_SIZE).map(structs).collect::<Result<_, _>>()?;
            // Fails here, with its message, rather than while it is measured.
            let matches = call(&within, &batches, &area)?;
            let plausible = match name {
                "inside" => matches == POINTS,
                "outside" => matches < POINTS / 50,
                _ => (POINTS / 10..POINTS / 10 * 9).contains(&matches),
            };
            if !plausible {
                return Err(format!("{matches} points match of {name}").into());
            }
            group.bench_function(name, |bencher| bencher.iter(|| call(&within, &batches, &area)));
            if name == "outside" {
                group.bench_function("limit", |bencher| bencher.iter(|| sum(&batches)));
            }
        }
        group.finish();

        let mut group = criterion.benchmark_group("point_in_area/prepare");
        group.sample_size(10);
        let row = vec![structs(&[(0.0, 0.0)])?];
        let mut call_number = 0;
        group.bench_function(BenchmarkId::from_parameter(vertices), |bencher| {
            bencher.iter(|| {
                // Another text each time, so that it is not found in the cache.
                call_number += 1;
                let text = format!("SRID={call_number};{area}");
                call(&within, &row, &text)
            });
        });
        group.finish();
    }
    encodings(&mut criterion, &within, &mut random)?;
    criterion.final_summary();
    Ok(())
}

/// The same points as structs, as WKB and as WKT.
fn encodings(
    criterion: &mut Criterion,
    within: &ScalarUDF,
    random: &mut StdRng,
) -> Result<(), Box<dyn Error>> {
    let coast = coast(random, 10_000);
    let area = polygon(&coast)?;
    let [(_, inside), (_, boundary), _] = workloads(random, &coast);
    let points: Vec<Point> =
        inside.into_iter().zip(boundary).flat_map(|(a, b)| [a, b]).take(POINTS).collect();
    let structs: Vec<ArrayRef> = points.chunks(BATCH_SIZE).map(structs).collect::<Result<_, _>>()?;
    let wkb: Vec<ArrayRef> = points.chunks(BATCH_SIZE).map(wkb).collect();
    let wkt: Vec<ArrayRef> = points.chunks(BATCH_SIZE).map(wkt).collect();
    let expected = call(within, &structs, &area)?;
    let mut group = criterion.benchmark_group("point_in_area/encoding");
    group.sample_size(10).throughput(Throughput::Elements(u64::try_from(POINTS)?));
    for (name, batches) in [("struct", structs), ("wkb", wkb), ("wkt", wkt)] {
        if call(within, &batches, &area)? != expected {
            return Err(format!("{name} gives another answer").into());
        }
        group.bench_function(name, |bencher| bencher.iter(|| call(within, &batches, &area)));
    }
    group.finish();
    Ok(())
}

/// Calls `st_within(batch, area)` for each record batch and counts the matches.
fn call(within: &ScalarUDF, batches: &[ArrayRef], area: &str) -> Result<usize, Box<dyn Error>> {
    let options = Arc::new(ConfigOptions::new());
    let return_field = Arc::new(Field::new("within", DataType::Boolean, true));
    let mut matches = 0;
    for batch in batches {
        let geometry = Arc::new(Field::new("geometry", batch.data_type().clone(), true));
        let constant = Arc::new(Field::new("area", DataType::Utf8, true));
        let answer = within.invoke_with_args(ScalarFunctionArgs {
            args: vec![
                ColumnarValue::Array(Arc::clone(batch)),
                ColumnarValue::Scalar(ScalarValue::Utf8(Some(area.to_owned()))),
            ],
            arg_fields: vec![geometry, constant],
            number_rows: batch.len(),
            return_field: Arc::clone(&return_field),
            config_options: Arc::clone(&options),
        })?;
        let answer = answer.into_array(batch.len())?;
        matches += answer.as_boolean().true_count();
    }
    Ok(matches)
}

/// Reads every coordinate once, eight sums at a time so that additions do not wait for each other.
fn sum(batches: &[ArrayRef]) -> f64 {
    let mut sums = [0.0; 8];
    for batch in batches {
        let points = batch.as_struct();
        for column in points.columns() {
            let values = column.as_primitive::<Float64Type>();
            for eight in values.values().chunks_exact(8) {
                for (sum, value) in sums.iter_mut().zip(eight) {
                    *sum += value;
                }
            }
        }
    }
    black_box(sums.iter().sum())
}

/// A ring about the origin, roughly 10 degrees wide: radii displaced halfway between neighbours, less at each scale.
fn coast(random: &mut StdRng, vertices: usize) -> Vec<Point> {
    let mut radii = vec![5.0];
    let mut amplitude = 1.5;
    while radii.len() < vertices {
        let next = radii.iter().cycle().skip(1);
        let displaced =
            |(a, b): (&f64, &f64)| [*a, f64::midpoint(*a, *b) + amplitude * random.random_range(-1.0..1.0)];
        radii = radii.iter().zip(next).flat_map(displaced).collect();
        amplitude *= 0.55;
    }
    let ring = (0..vertices).map(|vertex| {
        let angle = TAU * vertex as f64 / vertices as f64;
        let radius = radii[vertex * radii.len() / vertices].max(2.0);
        (radius * angle.cos(), radius * angle.sin())
    });
    ring.collect()
}

fn workloads(random: &mut StdRng, coast: &[Point]) -> [(&'static str, Vec<Point>); 3] {
    let mut points = |make: &mut dyn FnMut(&mut StdRng) -> Point| (0..POINTS).map(|_| make(random)).collect();
    let inside = points(&mut |random| (random.random_range(-1.0..1.0), random.random_range(-1.0..1.0)));
    let boundary = points(&mut |random| {
        let (x, y) = coast[random.random_range(0..coast.len())];
        let scale = random.random_range(0.99..1.01);
        (x * scale, y * scale)
    });
    let outside =
        points(&mut |random| (random.random_range(-180.0..180.0), random.random_range(-90.0..90.0)));
    [("inside", inside), ("boundary", boundary), ("outside", outside)]
}

fn polygon(coast: &[Point]) -> Result<String, Box<dyn Error>> {
    let mut text = String::from("POLYGON((");
    for (x, y) in coast {
        write!(text, "{x} {y},")?;
    }
    let (x, y) = coast.first().ok_or("no vertices")?;
    write!(text, "{x} {y}))")?;
    Ok(text)
}

fn structs(points: &[Point]) -> Result<ArrayRef, Box<dyn Error>> {
    let (x, y): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
    let columns: [(&str, ArrayRef); 2] =
        [("x", Arc::new(Float64Array::from(x))), ("y", Arc::new(Float64Array::from(y)))];
    Ok(Arc::new(StructArray::try_from(columns.to_vec())?))
}

fn wkb(points: &[Point]) -> ArrayRef {
    let bytes = points.iter().map(|(x, y)| {
        let mut bytes = vec![1, 1, 0, 0, 0];
        bytes.extend(x.to_le_bytes());
        bytes.extend(y.to_le_bytes());
        bytes
    });
    Arc::new(BinaryArray::from_iter_values(bytes))
}

fn wkt(points: &[Point]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(points.iter().map(|(x, y)| format!("POINT ({x} {y})"))))
}
