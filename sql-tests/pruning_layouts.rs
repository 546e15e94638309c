//! One question over one set of points in every layout: how many files, row groups and pages are read for it.
//!
//! 10 files of 4 row groups of 5,000 rows, sorted by longitude, pages of 500 rows; the area meets 3 row groups of
//! one file.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    StructArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_odp::OdpTableProvider;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fixtures::{Result, metric, run, session};

const AREA: &str = "POLYGON((10 10, 30 10, 30 40, 10 40, 10 10))";
const FILES: usize = 10;
const GROUPS: usize = 4;
const ROWS: usize = 5_000;
const PAGE_ROWS: usize = 500;

/// Points of one file: longitudes ascend through all files, latitudes do not.
struct Points {
    first_id: i64,
    x: Vec<f64>,
    y: Vec<f64>,
}

fn points() -> Vec<Points> {
    let mut random = StdRng::seed_from_u64(3);
    let per_file = GROUPS * ROWS;
    let total = (FILES * per_file) as f64;
    (0..FILES)
        .map(|file| {
            let first = file * per_file;
            Points {
                first_id: i64::try_from(first).unwrap_or_default(),
                x: (first..first + per_file).map(|i| -180.0 + 360.0 * i as f64 / total).collect(),
                y: (0..per_file).map(|_| random.random_range(-90.0..90.0)).collect(),
            }
        })
        .collect()
}

fn wkb(x: f64, y: f64) -> Vec<u8> {
    let mut bytes = vec![1, 1, 0, 0, 0];
    bytes.extend(x.to_le_bytes());
    bytes.extend(y.to_le_bytes());
    bytes
}

/// How the points of a file are stored: columns besides `id`, and the `geo` entry of the footer.
type Layout = fn(&Points) -> (Vec<(Field, ArrayRef)>, Option<String>);

fn floats(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn float_field(name: &str) -> Field {
    Field::new(name, DataType::Float64, true)
}

fn structure(name: &str, fields: Vec<(Field, ArrayRef)>) -> (Field, ArrayRef) {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = fields.into_iter().unzip();
    let fields = Fields::from(fields);
    let array = StructArray::new(fields.clone(), arrays, None);
    (Field::new(name, DataType::Struct(fields), true), Arc::new(array))
}

fn wkb_column(points: &Points) -> (Field, ArrayRef) {
    let values: Vec<Vec<u8>> = points.x.iter().zip(&points.y).map(|(x, y)| wkb(*x, *y)).collect();
    let array = BinaryArray::from_iter_values(values);
    (Field::new("geometry", DataType::Binary, true), Arc::new(array))
}

fn file_bbox(points: &Points) -> String {
    let (west, east) = (points.x[0], points.x[points.x.len() - 1]);
    format!("[{west},-90,{east},90]")
}

fn plain(points: &Points) -> (Vec<(Field, ArrayRef)>, Option<String>) {
    (vec![(float_field("lon"), floats(&points.x)), (float_field("lat"), floats(&points.y))], None)
}

fn struct_leaves(points: &Points) -> (Vec<(Field, ArrayRef)>, Option<String>) {
    let leaves = vec![
        (
            Field::new("remarks", DataType::Utf8, true),
            Arc::new(StringArray::from(vec!["-"; points.x.len()])) as _,
        ),
        (float_field("decimalLongitude"), floats(&points.x)),
        (float_field("decimalLatitude"), floats(&points.y)),
    ];
    (vec![structure("interpreted", leaves)], None)
}

fn geoparquet_1_0(points: &Points) -> (Vec<(Field, ArrayRef)>, Option<String>) {
    let geo = format!(
        r#"{{"version":"1.0.0","primary_column":"geometry","columns":{{"geometry":{{"encoding":"WKB","geometry_types":["Point"],"bbox":{}}}}}}}"#,
        file_bbox(points)
    );
    (vec![wkb_column(points)], Some(geo))
}

fn geoparquet_covering(points: &Points) -> (Vec<(Field, ArrayRef)>, Option<String>) {
    let floats = |values: &[f64], step: fn(f32) -> f32| -> ArrayRef {
        #[expect(clippy::cast_possible_truncation, reason = "rounded outward")]
        let values = values.iter().map(|v| step(*v as f32));
        Arc::new(Float32Array::from_iter_values(values))
    };
    let edge = |name: &str| Field::new(name, DataType::Float32, true);
    let bbox = structure(
        "bbox",
        vec![
            (edge("xmin"), floats(&points.x, f32::next_down)),
            (edge("ymin"), floats(&points.y, f32::next_down)),
            (edge("xmax"), floats(&points.x, f32::next_up)),
            (edge("ymax"), floats(&points.y, f32::next_up)),
        ],
    );
    let geo = format!(
        r#"{{"version":"1.1.0","primary_column":"geometry","columns":{{"geometry":{{"encoding":"WKB","geometry_types":["Point"],"bbox":{},"covering":{{"bbox":{{"xmin":["bbox","xmin"],"ymin":["bbox","ymin"],"xmax":["bbox","xmax"],"ymax":["bbox","ymax"]}}}}}}}}}}"#,
        file_bbox(points)
    );
    (vec![bbox, wkb_column(points)], Some(geo))
}

fn geoarrow_point(points: &Points) -> (Vec<(Field, ArrayRef)>, Option<String>) {
    let leaves = vec![(float_field("x"), floats(&points.x)), (float_field("y"), floats(&points.y))];
    let (field, array) = structure("geometry", leaves);
    let name = [("ARROW:extension:name".to_owned(), "geoarrow.point".to_owned())];
    (vec![(field.with_metadata(name.into()), array)], None)
}

/// Parquet's own GEOMETRY: the writer takes the type from the extension of the Arrow field.
fn parquet_geometry(points: &Points) -> (Vec<(Field, ArrayRef)>, Option<String>) {
    let (field, array) = wkb_column(points);
    let extension = [
        ("ARROW:extension:name".to_owned(), "geoarrow.wkb".to_owned()),
        ("ARROW:extension:metadata".to_owned(), "{}".to_owned()),
    ];
    (vec![(field.with_metadata(extension.into()), array)], None)
}

fn struct_before_geometry(points: &Points) -> (Vec<(Field, ArrayRef)>, Option<String>) {
    let (mut columns, _) = parquet_geometry(points);
    let inner = structure(
        "inner",
        vec![(float_field("a"), floats(&points.y)), (float_field("b"), floats(&points.y))],
    );
    columns.insert(0, structure("before", vec![inner]));
    (columns, None)
}

fn wkb_only(points: &Points) -> (Vec<(Field, ArrayRef)>, Option<String>) {
    (vec![wkb_column(points)], None)
}

fn wkt(points: &Points) -> (Vec<(Field, ArrayRef)>, Option<String>) {
    let texts = points.x.iter().zip(&points.y).map(|(x, y)| Some(format!("POINT ({x} {y})")));
    let array: StringArray = texts.collect();
    (vec![(Field::new("footprintWKT", DataType::Utf8, true), Arc::new(array))], None)
}

fn write(path: &Path, points: &Points, layout: Layout) -> Result<()> {
    let (columns, geo) = layout(points);
    let ids = Int64Array::from_iter_values((points.first_id..).take(points.x.len()));
    let (mut fields, mut arrays) =
        (vec![Field::new("id", DataType::Int64, false)], vec![Arc::new(ids) as ArrayRef]);
    for (field, array) in columns {
        fields.push(field);
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    // Geometries have no bounds of their own in any of these: what a writer says of bytes is not where they lie.
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_dictionary_enabled(false)
        .set_column_statistics_enabled(ColumnPath::from("footprintWKT"), EnabledStatistics::None)
        .set_key_value_metadata(geo.map(|geo| vec![KeyValue::new("geo".to_owned(), geo)]))
        .build();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path)?, Arc::clone(&schema), Some(properties))?;
    writer.write(&RecordBatch::try_new(schema, arrays)?)?;
    writer.close()?;
    Ok(())
}

/// What a query read.
#[derive(Debug, PartialEq)]
struct Work {
    files: usize,
    row_groups: usize,
    /// Pages of the row groups that were read, and of those the ones with rows to test or to give.
    pages: usize,
    pages_read: usize,
}

/// The files that a plan reads.
fn files(plan: &Arc<dyn ExecutionPlan>) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = plan.children().into_iter().flat_map(files).collect();
    let source = plan.downcast_ref::<DataSourceExec>().map(|scan| scan.data_source());
    if let Some(config) = source.and_then(|source| source.downcast_ref::<FileScanConfig>()) {
        let read = config.file_groups.iter().flat_map(|group| group.files());
        found.extend(read.map(|file| file.object_meta.location.to_string()));
    }
    found
}

async fn check(name: &str, layout: Layout, geometry: &str, first: Work, second: Work) -> Result<()> {
    let points = points();
    let dir = tempfile::tempdir()?;
    for (i, points) in points.iter().enumerate() {
        write(&dir.path().join(format!("part-{i}.parquet")), points, layout)?;
    }
    let expected: Vec<i64> = points
        .iter()
        .flat_map(|p| (p.first_id..).zip(p.x.iter().zip(&p.y)))
        .filter(|(_, (x, y))| **x > 10.0 && **x < 30.0 && **y > 10.0 && **y < 40.0)
        .map(|(id, _)| id)
        .collect();
    let ctx = session(2, &[])?;
    let path = dir.path().to_str().ok_or("temp dir is not UTF-8")?;
    let table = Arc::new(OdpTableProvider::open(&ctx, path).await?);
    ctx.register_table("t", Arc::clone(&table) as _)?;
    let sql = format!("SELECT id FROM t WHERE st_within({geometry}, '{AREA}')");
    for (turn, wanted) in [first, second].into_iter().enumerate() {
        let (rows, plan) = run(&ctx, &sql).await?;
        let ids: Vec<i64> = rows
            .iter()
            .flat_map(|batch| {
                let ids = batch.column(0).as_any().downcast_ref::<Int64Array>();
                ids.map(|ids| ids.values().to_vec()).unwrap_or_default()
            })
            .collect();
        assert_eq!(ids, expected, "{name}, query {turn}");
        let row_groups = metric(&plan, "area_row_groups_boundary") + metric(&plan, "area_row_groups_inside");
        let (inside, boundary) = (metric(&plan, "area_pages_inside"), metric(&plan, "area_pages_boundary"));
        let outside = metric(&plan, "area_pages_outside");
        let work = Work {
            files: files(&plan).len(),
            row_groups,
            pages: inside + boundary + outside,
            pages_read: inside + boundary,
        };
        assert_eq!(work, wanted, "{name}, query {turn}");
        // The same without pruning, and with the filter above the scan.
        for settings in [("odp.pruning", "false"), ("odp.pushdown_filters", "false")] {
            let plain = session(2, &[settings])?;
            plain.register_table("t", Arc::clone(&table) as _)?;
            let (rows, _) = run(&plain, &sql).await?;
            let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
            assert_eq!(count, expected.len(), "{name}, {settings:?}");
        }
    }
    Ok(())
}

const POINT: &str = "st_point(lon, lat)";
const LEAVES: &str = r#"st_point(interpreted."decimalLongitude", interpreted."decimalLatitude")"#;

/// Longitudes ascend from 0 to 36 through the file, 0.9 a page: 22 full pages of 500 rows and one more lie in 10..30.
const PRUNED: Work = Work { files: 1, row_groups: 3, pages: 30, pages_read: 23 };
/// Row groups are known, pages are learnt.
const ROW_GROUPS_ONLY: Work = Work { files: 1, row_groups: 3, pages: 30, pages_read: 30 };
/// Nothing is known.
const ALL: Work = Work { files: 10, row_groups: 40, pages: 400, pages_read: 400 };

#[tokio::test]
async fn plain_longitude_and_latitude() -> Result<()> {
    check("plain", plain, POINT, PRUNED, PRUNED).await
}

#[tokio::test]
async fn longitude_and_latitude_in_a_struct() -> Result<()> {
    check("struct leaves", struct_leaves, LEAVES, PRUNED, PRUNED).await
}

#[tokio::test]
async fn geoparquet_1_0_knows_files_then_pages() -> Result<()> {
    let file_only = Work { files: 1, row_groups: 4, pages: 40, pages_read: 40 };
    check("GeoParquet 1.0", geoparquet_1_0, "geometry", file_only, PRUNED).await
}

#[tokio::test]
async fn geoparquet_1_1_covering() -> Result<()> {
    check("covering", geoparquet_covering, "geometry", PRUNED, PRUNED).await
}

#[tokio::test]
async fn geoarrow_points() -> Result<()> {
    check("GeoArrow", geoarrow_point, "geometry", PRUNED, PRUNED).await
}

#[tokio::test]
async fn parquet_geometry_knows_row_groups_then_pages() -> Result<()> {
    check("GEOMETRY", parquet_geometry, "geometry", ROW_GROUPS_ONLY, PRUNED).await
}

#[tokio::test]
async fn parquet_geometry_behind_a_struct() -> Result<()> {
    check("GEOMETRY", struct_before_geometry, "geometry", ROW_GROUPS_ONLY, PRUNED).await
}

#[tokio::test]
async fn wkb_without_statistics_is_learnt() -> Result<()> {
    check("WKB", wkb_only, "geometry", ALL, PRUNED).await
}

#[tokio::test]
async fn wkt_is_learnt() -> Result<()> {
    check("WKT", wkt, "\"footprintWKT\"", ALL, PRUNED).await
}
