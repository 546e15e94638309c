//! Files are written and read back: what the reader makes of them is what counts.

use std::collections::HashMap;
use std::fs::File;

use datafusion::arrow::array::{
    BinaryArray, FixedSizeListArray, Float32Array, LargeBinaryArray, ListArray, StringArray, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::LogicalType;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::dataset::{DatasetSnapshot, GeometryDescription};
use crate::discover::{Request, open_snapshot};
use crate::geo::scalar_functions;
use crate::options::TableOptions;

/// A file that was written, and how it reads.
struct Written {
    geo: Value,
    footer: Arc<ParquetMetaData>,
    rows: Vec<RecordBatch>,
    snapshot: DatasetSnapshot,
    _folder: TempDir,
}

impl Written {
    fn column(&self, name: &str) -> &Value {
        &self.geo["columns"][name]
    }

    fn description(&self, name: &str) -> &GeometryDescription {
        let column = self.snapshot.geometry_columns().iter().find(|column| column.name == name).unwrap();
        &column.files[0].as_ref().unwrap().description
    }

    /// The extents of the row groups.
    fn extents(&self, name: &str) -> Vec<Option<[f64; 4]>> {
        let column = self.snapshot.geometry_columns().iter().find(|column| column.name == name).unwrap();
        column.extents.iter().map(|found| found.map(|b| [b.xmin, b.ymin, b.xmax, b.ymax])).collect()
    }

    fn logical_type(&self, leaf: usize) -> Option<LogicalType> {
        self.footer.file_metadata().schema_descr().column(leaf).logical_type_ref().cloned()
    }
}

/// Writes a file with a row group per record batch.
async fn write(rows: &[RecordBatch], options: &GeometryOptions) -> Written {
    let writer = GeometryWriter::try_new(&rows[0].schema(), options).unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let mut file =
        ArrowWriter::try_new(File::create(&path).unwrap(), Arc::clone(writer.file_schema()), None).unwrap();
    let mut summary = GeometrySummary::default();
    for rows in rows {
        let (rows, said) = writer.prepare(rows).unwrap();
        assert_eq!(rows.schema(), *writer.file_schema());
        summary.merge(&said);
        file.write(&rows).unwrap();
        file.flush().unwrap();
    }
    let geo = writer.metadata(&summary);
    file.append_key_value_metadata(KeyValue::new("geo".to_owned(), geo.clone()));
    file.close().unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    let footer = Arc::clone(reader.metadata());
    let rows = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
    let request = Request {
        locations: vec![format!("{}/", folder.path().display())],
        options: TableOptions::default(),
        partitions: None,
        schema: None,
        range: None,
    };
    let snapshot = open_snapshot(&SessionContext::new().state(), request).await.unwrap();
    Written { geo: serde_json::from_str(&geo).unwrap(), footer, rows, snapshot, _folder: folder }
}

async fn query(sql: &str) -> RecordBatch {
    let ctx = SessionContext::new();
    scalar_functions().into_iter().for_each(|function| ctx.register_udf(function));
    let frame = ctx.sql(sql).await.unwrap();
    let batches = frame.collect().await.unwrap();
    datafusion::arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// Geometries of WKT as a column of WKB.
async fn geometries(texts: &[&str]) -> RecordBatch {
    let rows: Vec<String> = texts
        .iter()
        .enumerate()
        .map(|(row, text)| match *text {
            "NULL" => format!("({row}, NULL)"),
            text => format!("({row}, '{text}')"),
        })
        .collect();
    let values = rows.join(", ");
    query(&format!("SELECT id, st_geomfromtext(wkt) AS geometry FROM (VALUES {values}) AS t(id, wkt)")).await
}

fn with_metadata(rows: &RecordBatch, index: usize, metadata: &[(&str, &str)]) -> RecordBatch {
    let mut fields: Vec<FieldRef> = rows.schema().fields().to_vec();
    let metadata: HashMap<_, _> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    fields[index] = Arc::new(fields[index].as_ref().clone().with_metadata(metadata));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), rows.columns().to_vec()).unwrap()
}

fn column(name: &str, array: ArrayRef, metadata: &[(&str, &str)]) -> RecordBatch {
    let field = Field::new(name, array.data_type().clone(), true);
    let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
    with_metadata(&rows, 0, metadata)
}

const WKB: (&str, &str) = (EXTENSION_NAME, "geoarrow.wkb");

#[tokio::test]
async fn areas_get_boxes_and_the_reader_knows_the_extent_of_each_row_group() {
    let first = geometries(&["POLYGON((0 0,4 0,4 4,0 0))", "POINT(1 9)", "NULL", "POLYGON EMPTY"]).await;
    let second = geometries(&["MULTIPOLYGON(((-5 -5,-4 -5,-4 -4,-5 -5)))", "NULL"]).await;
    let written = write(&[first.clone(), second], &GeometryOptions::default()).await;
    assert_eq!(
        written.geo,
        json!({
            "version": "1.1.0",
            "primary_column": "geometry",
            "columns": {"geometry": {
                "encoding": "WKB",
                "geometry_types": ["Point", "Polygon", "MultiPolygon"],
                "bbox": [-5.0, -5.0, 4.0, 9.0],
                "covering": {"bbox": {
                    "xmin": ["bbox", "xmin"], "ymin": ["bbox", "ymin"],
                    "xmax": ["bbox", "xmax"], "ymax": ["bbox", "ymax"]
                }}
            }}
        })
    );
    // The first row group has an empty geometry without a box: of it only the file's box is known.
    let [first_extent, second_extent] = written.extents("geometry")[..] else { panic!() };
    assert!(first_extent.is_some_and(|found| found[0] <= -5.0 && found[3] >= 9.0));
    assert_eq!(second_extent, Some([-5.0, -5.0, -4.0, -4.0]));
    let described = written.description("geometry");
    assert_eq!(described.crs.as_deref(), Some("OGC:CRS84"));
    assert_eq!(described.geometry_types, ["Point", "Polygon", "MultiPolygon"]);
    assert_eq!(written.logical_type(1), None);
    let boxes = written.rows[0].column_by_name("bbox").unwrap();
    assert_eq!([0, 1, 2, 3].map(|row| boxes.is_valid(row)), [true, true, false, false]);
    assert_eq!(written.rows[0].column(1).slice(0, 4).as_ref(), first.column(1).as_ref());
    // As a table: WKB by its extension, and nothing of how it was made.
    let field = written.snapshot.schema().field(1).clone();
    assert_eq!(field.metadata().get(EXTENSION_NAME).map(String::as_str), Some("geoarrow.wkb"));
    assert!(!field.metadata().contains_key(MADE_GEOMETRY));
}

#[tokio::test]
async fn points_of_st_point_stay_structs_and_need_no_boxes() {
    let rows = query(
        "SELECT st_point(x, y) AS geometry, st_centroid(st_point(y, x)) AS other
         FROM (VALUES (1.0, 2.0), (3.0, 4.0), (NULL, 1.0)) AS t(x, y)",
    )
    .await;
    let written = write(std::slice::from_ref(&rows), &GeometryOptions::default()).await;
    let expected = json!({"encoding": "point", "geometry_types": ["Point"], "bbox": [1.0, 2.0, 3.0, 4.0]});
    assert_eq!(*written.column("geometry"), expected);
    assert_eq!(written.column("other")["bbox"], json!([2.0, 1.0, 4.0, 3.0]));
    assert_eq!(written.rows[0].num_columns(), 2);
    assert_eq!(written.extents("geometry"), [Some([1.0, 2.0, 3.0, 4.0])]);
    assert_eq!(written.description("geometry").encoding.as_deref(), Some("point"));
    assert_eq!(written.rows[0].columns(), rows.columns());

    let options = GeometryOptions { encoding: GeometryEncoding::Parquet, ..GeometryOptions::default() };
    let written = write(&[rows], &options).await;
    assert_eq!(written.column("geometry")["encoding"], "WKB");
    assert_eq!(written.logical_type(0), Some(LogicalType::geometry(None)));
    assert_eq!(written.extents("other"), [Some([2.0, 1.0, 4.0, 3.0])]);
}

#[tokio::test]
async fn parquet_geometry_has_statistics_the_crs_and_no_malformed_rows() {
    let options = GeometryOptions {
        encoding: GeometryEncoding::Parquet,
        covering: false,
        ..GeometryOptions::default()
    };
    let rows = geometries(&["LINESTRING(0 0,1 5)", "NULL"]).await;
    let written = write(std::slice::from_ref(&rows), &options).await;
    assert_eq!(written.logical_type(1), Some(LogicalType::geometry(None)));
    assert_eq!(written.extents("geometry"), [Some([0.0, 0.0, 1.0, 5.0])]);
    let statistics = written.footer.row_group(0).column(1).geo_statistics().unwrap();
    assert_eq!(statistics.geospatial_types(), Some(&vec![2]));
    assert!(written.column("geometry").get("covering").is_none());

    let mercator = with_metadata(&rows, 1, &[WKB, (EXTENSION_METADATA, r#"{"crs":"EPSG:3857"}"#)]);
    let written = write(&[mercator], &options).await;
    assert_eq!(written.logical_type(1), Some(LogicalType::geometry(Some("EPSG:3857".into()))));
    assert_eq!(written.description("geometry").crs.as_deref(), Some("EPSG:3857"));
    let sphere = with_metadata(&rows, 1, &[WKB, (EXTENSION_METADATA, r#"{"edges":"vincenty"}"#)]);
    let written = write(&[sphere], &options).await;
    assert!(matches!(written.logical_type(1), Some(LogicalType::Geography(_))));
    assert_eq!(written.description("geometry").edges.as_deref(), Some("vincenty"));

    let bad = column("geometry", Arc::new(BinaryArray::from(vec![&[1u8, 9][..]])), &[WKB]);
    let writer = GeometryWriter::try_new(&bad.schema(), &options).unwrap().unwrap();
    let message = writer.prepare(&bad).unwrap_err().to_string();
    assert!(message.contains("row 0"), "{message}");
}

#[tokio::test]
async fn malformed_rows_are_kept_and_nothing_is_said_of_the_file() {
    let good = geometries(&["POINT(1 2)"]).await;
    let bytes = good.column(1).as_binary::<i32>().value(0).to_vec();
    let nan_line = [&[1u8, 2, 0, 0, 0, 2, 0, 0, 0][..], &f64::NAN.to_le_bytes().repeat(4)].concat();
    let huge = [&[1u8, 1, 0, 0, 0][..], &1e200f64.to_le_bytes().repeat(2)].concat();
    for bad in [&[1u8, 9][..], b"", &nan_line, &huge, &bytes[..20]] {
        let rows: ArrayRef =
            Arc::new(LargeBinaryArray::from(vec![Some(&bytes[..]), Some(bad), None, Some(&bytes)]));
        let rows = column("g", rows, &[WKB]);
        let others = column("g", Arc::new(LargeBinaryArray::from(vec![&bytes[..]])), &[WKB]);
        let written = write(&[rows.clone(), others], &GeometryOptions::default()).await;
        assert_eq!(
            *written.column("g"),
            json!({"encoding": "WKB", "geometry_types": [], "crs": null}),
            "{bad:?}"
        );
        assert_eq!(written.geo["primary_column"], "g");
        assert_eq!(written.extents("g"), [None, None]);
        assert_eq!(written.rows[0].column(0).slice(0, 4).as_ref(), rows.column(0).as_ref());
        let boxes = written.rows[0].column_by_name("bbox").unwrap();
        assert_eq!([0, 1, 2, 3].map(|row| boxes.is_valid(row)), [true, false, false, true]);
    }
}

#[tokio::test]
async fn a_point_of_nan_is_empty_and_says_only_its_type() {
    let nan = [&[1u8, 1, 0, 0, 0][..], &f64::NAN.to_le_bytes().repeat(2)].concat();
    let rows = column("geometry", Arc::new(BinaryArray::from(vec![Some(&nan[..]), None])), &[WKB]);
    let written = write(&[rows], &GeometryOptions::default()).await;
    let entry = written.column("geometry");
    assert_eq!((&entry["geometry_types"], entry.get("bbox")), (&json!(["Point"]), None));
    assert_eq!(written.extents("geometry"), [None]);
}

#[tokio::test]
async fn coverings_that_are_there_are_declared_just_if_they_hold() {
    let sql = |boxes: &str| {
        format!(
            "SELECT st_geomfromtext(wkt) AS geometry, {boxes} AS bbox, 1 AS geometry_bbox
             FROM (VALUES ('POINT(1.1 2)', 1.1), ('LINESTRING(0 0,3 3)', 3.0), (NULL, 50.0)) AS t(wkt, x)"
        )
    };
    for (boxes, is_declared) in [
        ("named_struct('xmin', -9.0, 'ymin', -9.0, 'xmax', x, 'ymax', 3.0)", true),
        ("named_struct('xmin', -9.0, 'ymin', -9.0, 'xmax', x, 'ymax', 3.0, 'zmin', 0.0)", true),
        ("named_struct('xmin', 0.5, 'ymin', -9.0, 'xmax', x, 'ymax', 3.0)", false),
        ("named_struct('xmin', -9.0, 'ymin', -9.0, 'xmax', x, 'ymax', CAST('NaN' AS DOUBLE))", false),
        ("named_struct('xmin', -9.0, 'ymin', -9.0, 'xmax', nullif(x, 3.0), 'ymax', 9.0)", false),
        ("named_struct('xmin', 9.0, 'ymin', -9.0, 'xmax', -x, 'ymax', 9.0)", false),
        // 1.1 is not a number of 32 bits; the nearest is above it.
        (
            "arrow_cast(named_struct('xmin', -9.0, 'ymin', -9.0, 'xmax', x, 'ymax', 3.0),
          'Struct(\"xmin\": Float32, \"ymin\": Float32, \"xmax\": Float32, \"ymax\": Float32)')",
            true,
        ),
        (
            "arrow_cast(named_struct('xmin', x - 3.0, 'ymin', -9.0, 'xmax', 3.0, 'ymax', 3.0),
          'Struct(\"xmin\": Float32, \"ymin\": Float32, \"xmax\": Float32, \"ymax\": Float32)')",
            true,
        ),
        ("x", false),
        ("named_struct('xmin', 0, 'ymin', 0, 'xmax', 9, 'ymax', 9)", false),
        ("named_struct('XMIN', 0.0, 'ymin', 0.0, 'xmax', 9.0, 'ymax', 9.0)", false),
    ] {
        let rows = query(&sql(boxes)).await;
        let written = write(std::slice::from_ref(&rows), &GeometryOptions::default()).await;
        let covering = written.column("geometry").get("covering");
        assert_eq!(covering.is_some(), is_declared, "{boxes}");
        assert_eq!(written.rows[0].num_columns(), 3, "{boxes}");
        assert_eq!(written.rows[0].columns(), rows.columns());
        // One lie is enough, in whatever row group.
        if is_declared {
            let lie = query(&sql(boxes).replace("1.1 2", "1.1 99")).await;
            let written = write(&[rows.clone(), lie, rows], &GeometryOptions::default()).await;
            assert_eq!(written.column("geometry").get("covering"), None, "{boxes}");
            assert_eq!(written.column("geometry")["bbox"], json!([0.0, 0.0, 3.0, 99.0]));
        }
    }
}

#[tokio::test]
async fn boxes_of_32_bits_that_were_rounded_inward_are_not_declared() {
    let point = geometries(&["POINT(0.1 0.3)"]).await;
    // The nearest of 32 bits to 0.1 is above it.
    let edges = [0.1f32, 0.0, 1.0, 1.0];
    for (west, is_declared) in [(0.1f32, false), (0.1f32.next_down(), true)] {
        let columns = ["xmin", "ymin", "xmax", "ymax"].into_iter().zip(edges).map(|(name, edge)| {
            let edge = if name == "xmin" { west } else { edge };
            let field = Arc::new(Field::new(name, DataType::Float32, true));
            (field, Arc::new(Float32Array::from(vec![edge])) as ArrayRef)
        });
        let boxes: ArrayRef = Arc::new(StructArray::from(columns.collect::<Vec<_>>()));
        let fields =
            [point.schema().field(1).clone(), Field::new("geometry_bbox", boxes.data_type().clone(), true)];
        let rows = RecordBatch::try_new(
            Arc::new(Schema::new(fields.to_vec())),
            vec![Arc::clone(point.column(1)), boxes],
        );
        let written = write(&[rows.unwrap()], &GeometryOptions::default()).await;
        let covering = written.column("geometry").pointer("/covering/bbox/xmin");
        assert_eq!(covering, is_declared.then_some(&json!(["geometry_bbox", "xmin"])));
    }
}

#[tokio::test]
async fn further_geometries_have_coverings_of_their_own_name() {
    let sql = "SELECT st_makeenvelope(0, 0, 1, 1) AS area, st_geomfromtext('POINT(5 6)') AS geometry,
               st_envelope(st_geomfromtext('LINESTRING(7 7,8 8)')) AS track, 'x' AS track_bbox, 'POINT(1 1)' AS wkt";
    let written = write(&[query(sql).await], &GeometryOptions::default()).await;
    assert_eq!(written.geo["primary_column"], "geometry");
    let names = written.geo["columns"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names, ["area", "geometry", "track"]);
    assert_eq!(written.column("area")["covering"]["bbox"]["xmin"], json!(["area_bbox", "xmin"]));
    assert_eq!(written.column("geometry")["covering"]["bbox"]["ymax"], json!(["bbox", "ymax"]));
    assert!(written.column("track").get("covering").is_none());
    assert_eq!(written.extents("area"), [Some([0.0, 0.0, 1.0, 1.0])]);
    let schema = written.rows[0].schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["area", "geometry", "track", "track_bbox", "wkt", "area_bbox", "bbox"]);
}

#[tokio::test]
async fn fixed_schemas_get_no_columns_and_keep_types() {
    let options = GeometryOptions { may_add_columns: false, ..GeometryOptions::default() };
    let written = write(&[geometries(&["POINT(1 2)"]).await], &options).await;
    assert_eq!(written.rows[0].num_columns(), 2);
    assert_eq!(written.column("geometry")["bbox"], json!([1.0, 2.0, 1.0, 2.0]));
    let points: ArrayRef = Arc::new(interleaved(&[1.0, 2.0], 2));
    let rows = column("geometry", points, &[(EXTENSION_NAME, "geoarrow.point")]);
    assert!(GeometryWriter::try_new(&rows.schema(), &options).unwrap().is_none());
}

#[tokio::test]
async fn points_are_made_of_longitudes_and_latitudes() {
    let rows = query(
        "SELECT * FROM (VALUES (1, 10.5), (NULL, 1.0), (3, CAST('NaN' AS DOUBLE)), (-4, -20.0)) AS t(lon, lat)",
    )
    .await;
    let point_from = |lon: &str, lat: &str| GeometryOptions {
        point_from: Some((lon.to_owned(), lat.to_owned())),
        ..GeometryOptions::default()
    };
    let written = write(std::slice::from_ref(&rows), &point_from("lon", "lat")).await;
    let entry = written.column("geometry");
    assert_eq!(entry["bbox"], json!([-4.0, -20.0, 1.0, 10.5]));
    assert_eq!((&entry["geometry_types"], entry.get("crs")), (&json!(["Point"]), None));
    assert_eq!(written.extents("geometry"), [Some([-4.0, -20.0, 1.0, 10.5])]);
    let wkb = written.rows[0].column_by_name("geometry").unwrap();
    assert_eq!([0, 1, 2, 3].map(|row| wkb.is_valid(row)), [true, false, false, true]);
    assert_eq!(wkb.as_binary::<i32>().value(3)[5..13], (-4.0f64).to_le_bytes());

    let schema = rows.schema();
    let error = |options| GeometryWriter::try_new(&schema, &options).unwrap_err().to_string();
    assert!(error(point_from("lon", "height")).contains("no \"height\""));
    let fixed = GeometryOptions { may_add_columns: false, ..point_from("lon", "lat") };
    assert!(error(fixed).contains("fixed"));
    let taken = geometries(&["POINT(1 2)"]).await;
    let error = GeometryWriter::try_new(&taken.schema(), &point_from("id", "id")).unwrap_err();
    assert!(error.to_string().contains("there is one"), "{error}");
}

fn interleaved(numbers: &[f64], size: i32) -> FixedSizeListArray {
    let item = Arc::new(Field::new("xyz", DataType::Float64, true));
    FixedSizeListArray::new(item, size, Arc::new(Float64Array::from(numbers.to_vec())), None)
}

#[tokio::test]
async fn other_encodings_of_geoarrow_become_wkb_with_their_heights() {
    let coordinates = [[0., 0., 9.], [1., 5., 8.], [4., 4., 7.], [4., 5., 6.]].concat();
    let coordinates: ArrayRef = Arc::new(interleaved(&coordinates, 3));
    let item = Arc::new(Field::new("item", coordinates.data_type().clone(), true));
    let lines = ListArray::new(item, OffsetBuffer::from_lengths([2, 2]), Arc::clone(&coordinates), None);
    for (name, array, kind, bytes) in [
        ("geoarrow.point", coordinates, "Point Z", 29),
        ("geoarrow.linestring", Arc::new(lines.clone()) as ArrayRef, "LineString Z", 9 + 48),
        ("geoarrow.multipoint", Arc::new(lines) as ArrayRef, "MultiPoint Z", 9 + 58),
    ] {
        let rows = column("geometry", array, &[(EXTENSION_NAME, name)]);
        let written = write(&[rows], &GeometryOptions::default()).await;
        let entry = written.column("geometry");
        assert_eq!(entry["encoding"], "WKB");
        assert_eq!(entry["geometry_types"], json!([kind]));
        assert_eq!(entry["bbox"], json!([0.0, 0.0, 4.0, 5.0]));
        let wkb = written.rows[0].column(0).as_binary::<i32>();
        assert_eq!(wkb.value(0).len(), bytes, "{name}");
        assert_eq!(written.extents("geometry"), [Some([0.0, 0.0, 4.0, 5.0])]);
        assert_eq!(written.snapshot.schema().field(0).data_type(), &DataType::BinaryView);
    }
}

#[tokio::test]
async fn text_boxes_and_numbers_are_no_geometries_of_geoparquet() {
    let text = column(
        "geometry",
        Arc::new(StringArray::from(vec!["POINT(1 2)"])),
        &[(EXTENSION_NAME, "geoarrow.wkt")],
    );
    let plain =
        query("SELECT X'01' AS geometry, st_astext('POINT(1 2)') AS text, st_x('POINT(1 2)') AS x").await;
    for rows in [text, plain] {
        assert!(GeometryWriter::try_new(&rows.schema(), &GeometryOptions::default()).unwrap().is_none());
    }
}

#[tokio::test]
async fn columns_that_odp_marks_are_geometries() {
    let rows = geometries(&["POINT(1 2)"]).await;
    let rows = with_metadata(&rows, 1, &[("class", "geometry")]);
    let written = write(&[rows], &GeometryOptions::default()).await;
    assert_eq!(written.extents("geometry"), [Some([1.0, 2.0, 1.0, 2.0])]);
}

#[tokio::test]
async fn the_crs_is_kept_as_projjson_or_by_its_name() {
    let rows = geometries(&["POINT(1 2)"]).await;
    let projjson = r#"{"type":"ProjectedCRS","name":"Here","id":{"authority":"EPSG","code":25832}}"#;
    for (metadata, written, read) in [
        (r#"{"crs":"OGC:CRS84"}"#.to_owned(), None, Some("OGC:CRS84")),
        (r#"{"crs":"EPSG:4326"}"#.to_owned(), None, Some("OGC:CRS84")),
        ("{}".to_owned(), Some(Value::Null), None),
        (r#"{"crs":"EPSG:25832"}"#.to_owned(), Some(Value::Null), Some("EPSG:25832")),
        (format!(r#"{{"crs":{projjson}}}"#), serde_json::from_str(projjson).ok(), Some("EPSG:25832")),
        (
            format!(r#"{{"crs":{}}}"#, json!(projjson)),
            serde_json::from_str(projjson).ok(),
            Some("EPSG:25832"),
        ),
    ] {
        let rows = with_metadata(&rows, 1, &[WKB, (EXTENSION_METADATA, &metadata)]);
        let file = write(&[rows], &GeometryOptions::default()).await;
        assert_eq!(file.column("geometry").get("crs"), written.as_ref(), "{metadata}");
        assert_eq!(file.description("geometry").crs.as_deref(), read, "{metadata}");
    }
}

#[tokio::test]
async fn curved_edges_are_told_and_their_boxes_are_not() {
    let sphere = [WKB, (EXTENSION_METADATA, r#"{"edges":"spherical","crs":"OGC:CRS84"}"#)];
    let line = with_metadata(&geometries(&["LINESTRING(0 60,90 60)"]).await, 1, &sphere);
    let written = write(&[line], &GeometryOptions::default()).await;
    let expected = json!({"encoding": "WKB", "geometry_types": ["LineString"], "edges": "spherical"});
    assert_eq!(*written.column("geometry"), expected);
    let points = with_metadata(&geometries(&["POINT(0 60)"]).await, 1, &sphere);
    let written = write(&[points], &GeometryOptions::default()).await;
    assert_eq!(written.column("geometry")["bbox"], json!([0.0, 60.0, 0.0, 60.0]));
    assert_eq!(written.description("geometry").edges.as_deref(), Some("spherical"));
}

#[tokio::test]
async fn a_file_that_is_written_again_says_the_same() {
    let first = write(
        &[geometries(&["POLYGON((0 0,4 0,4 4,0 0))", "POINT(1 9)"]).await],
        &GeometryOptions::default(),
    )
    .await;
    let annotated = first.snapshot.schema();
    let rows = &first.rows[0];
    let columns = rows
        .columns()
        .iter()
        .zip(annotated.fields())
        .map(|(array, field)| cast(array, field.data_type()).unwrap());
    let rows = RecordBatch::try_new(Arc::clone(&annotated), columns.collect()).unwrap();
    let second = write(&[rows], &GeometryOptions::default()).await;
    assert_eq!(first.geo, second.geo);
    assert_eq!(
        pretty_format_batches(&first.rows).unwrap().to_string(),
        pretty_format_batches(&second.rows).unwrap().to_string()
    );
}
