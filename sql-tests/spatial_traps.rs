//! Data and filters that an extent could get wrong: each is asked with and without pruning, twice.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, ListArray, MapBuilder, RecordBatch,
    StringArray, StringBuilder, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion_odp::{OdpTableBuilder, OdpTableProvider};

use crate::fixtures::{Result, metric, run, session, write, write_with};

fn ids(rows: &[RecordBatch]) -> Vec<i64> {
    rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn text(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or("path is not UTF-8")?)
}

/// The answer of `SELECT id FROM t WHERE {filter} ORDER BY id`, or the error's text, the same each way of asking.
async fn ask(
    builder: OdpTableBuilder,
    filter: &str,
    settings: &[(&str, &str)],
) -> Result<Result<Vec<i64>, String>> {
    let mut answers = vec![];
    for switch in ["", "odp.pruning", "odp.pushdown_filters"] {
        let mut all = settings.to_vec();
        if !switch.is_empty() {
            all.push((switch, "false"));
        }
        let ctx = session(2, &all)?;
        ctx.register_table("t", Arc::new(builder.clone().open(&ctx).await?))?;
        for turn in 0..2 {
            let answer = run(&ctx, &format!("SELECT id FROM t WHERE {filter} ORDER BY id")).await;
            let answer = match answer {
                Ok((rows, _)) => Ok(ids(&rows)),
                Err(error) => Err(error.to_string()),
            };
            answers.push((switch, turn, answer));
        }
    }
    let first = answers[0].2.clone();
    for (switch, turn, answer) in answers {
        match (&first, &answer) {
            (Err(_), Err(_)) => {}
            _ => assert_eq!(answer, first, "{filter} without {switch:?}, query {turn}"),
        }
    }
    Ok(first)
}

fn table(columns: Vec<(Field, ArrayRef)>) -> Result<RecordBatch> {
    let rows = columns[0].1.len();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((0..).take(rows)));
    let (mut fields, mut arrays) = (vec![Field::new("id", DataType::Int64, false)], vec![ids]);
    for (field, array) in columns {
        fields.push(field);
        arrays.push(array);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

fn floats(name: &str, values: &[f64]) -> (Field, ArrayRef) {
    (Field::new(name, DataType::Float64, true), Arc::new(Float64Array::from(values.to_vec())))
}

const SQUARE: &str = "'POLYGON((0 0, 10.5 0, 10.5 5, 0 5, 0 0))'";

#[tokio::test]
async fn a_key_of_a_map_is_no_field() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut tags = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for (quality, place) in [("good", "POINT(1 1)"), ("bad", "POINT(2 2)"), ("good", "POINT(50 50)")] {
        tags.keys().append_value("quality");
        tags.values().append_value(quality);
        tags.keys().append_value("place");
        tags.values().append_value(place);
        tags.append(true)?;
    }
    let tags: ArrayRef = Arc::new(tags.finish());
    let tags = (Field::new("tags", tags.data_type().clone(), true), tags);
    let rows = table(vec![floats("lon", &[1.0, 2.0, 50.0]), floats("lat", &[1.0, 2.0, 50.0]), tags])?;
    write(&dir.path().join("a.parquet"), &rows, 1)?;
    let open = || OdpTableProvider::builder(text(dir.path()).unwrap_or_default());
    let either = format!("st_within(st_point(lon, lat), {SQUARE}) OR tags['quality'] = 'good'");
    assert_eq!(ask(open(), &either, &[]).await?, Ok(vec![0, 1, 2]));
    let of_key = format!("st_within(tags['place'], {SQUARE})");
    assert_eq!(ask(open(), &of_key, &[]).await?, Ok(vec![0, 1]));
    Ok(())
}

#[tokio::test]
async fn a_cast_between_text_and_binary_is_another_geometry() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["POINT(1 1)", "POINT(2 2)", "POINT(50 50)"]));
    write(&dir.path().join("a.parquet"), &table(vec![(Field::new("w", DataType::Utf8, true), texts)])?, 3)?;
    let ctx = session(2, &[])?;
    ctx.register_table("t", Arc::new(OdpTableProvider::open(&ctx, text(dir.path())?).await?))?;
    let plain = format!("SELECT id FROM t WHERE st_within(w, {SQUARE})");
    for _ in 0..2 {
        assert_eq!(ids(&run(&ctx, &plain).await?.0), [0, 1]);
    }
    // Text is no WKB, whatever was learnt of it.
    ctx.sql("SET odp.on_invalid_geometry = 'no_match'").await?.collect().await?;
    let cast = format!("SELECT id FROM t WHERE st_within(CAST(w AS BYTEA), {SQUARE})");
    for _ in 0..2 {
        assert!(ids(&run(&ctx, &cast).await?.0).is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn bounds_of_values_do_not_bound_what_they_are_cast_to() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rows = table(vec![floats("lon", &[10.7, 10.6, 3.0, 99.0]), floats("lat", &[1.0, 2.0, 3.0, 4.0])])?;
    write(&dir.path().join("a.parquet"), &rows, 2)?;
    let declared = |lon: DataType| {
        let fields = vec![
            Field::new("id", DataType::Int64, true),
            Field::new("lon", lon, true),
            Field::new("lat", DataType::Float64, true),
        ];
        OdpTableProvider::builder(text(dir.path()).unwrap_or_default())
            .with_schema(Arc::new(Schema::new(fields)))
    };
    let filter = format!("st_within(st_point(lon, lat), {SQUARE})");
    assert_eq!(ask(declared(DataType::Int32), &filter, &[]).await?, Ok(vec![0, 1, 2]));
    assert_eq!(ask(declared(DataType::Float64), &filter, &[]).await?, Ok(vec![2]));
    Ok(())
}

#[tokio::test]
async fn a_malformed_geometry_is_no_match_of_the_negation_either() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let point = |x: f64, y: f64| {
        let mut bytes = vec![1, 1, 0, 0, 0];
        bytes.extend(x.to_le_bytes());
        bytes.extend(y.to_le_bytes());
        bytes
    };
    // A polygon whose ring is not closed: other writers write it, with its box.
    let mut open_ring = vec![1, 3, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0];
    for (x, y) in [(50.0f64, 50.0f64), (51.0, 50.0), (51.0, 51.0), (50.0, 51.0)] {
        open_ring.extend(x.to_le_bytes());
        open_ring.extend(y.to_le_bytes());
    }
    let values = [point(1.0, 1.0), point(60.0, 60.0), open_ring, point(70.0, 70.0)];
    let extension = [
        ("ARROW:extension:name".to_owned(), "geoarrow.wkb".to_owned()),
        ("ARROW:extension:metadata".to_owned(), "{}".to_owned()),
    ];
    let field = Field::new("g", DataType::Binary, true).with_metadata(extension.into());
    let rows = table(vec![(field, Arc::new(BinaryArray::from_iter_values(values)) as ArrayRef)])?;
    write(&dir.path().join("a.parquet"), &rows, 2)?;
    let open = || OdpTableProvider::builder(text(dir.path()).unwrap_or_default());
    for filter in ["st_disjoint(g, $)", "NOT st_within(g, $)", "NOT st_intersects(g, $)"] {
        let filter = filter.replace('$', SQUARE);
        let found = ask(open(), &filter, &[("odp.on_invalid_geometry", "no_match")]).await?;
        assert_eq!(found, Ok(vec![1, 3]), "{filter}");
        let error = ask(open(), &filter, &[]).await?.unwrap_err();
        assert!(error.contains("closed"), "{filter}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_box_with_a_centre_lies_where_its_edges_are() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let names = ["xmin", "ymin", "xmax", "ymax", "x", "y"];
    let fields: Fields = names.iter().map(|name| Field::new(*name, DataType::Float64, true)).collect();
    let edges = [[9.0, 40.0], [1.0, 40.0], [99.0, 50.0], [2.0, 50.0], [54.0, 45.0], [1.5, 45.0]];
    let arrays =
        edges.iter().map(|values| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef).collect();
    let boxes: ArrayRef = Arc::new(StructArray::new(fields.clone(), arrays, None));
    write(
        &dir.path().join("a.parquet"),
        &table(vec![(Field::new("b", DataType::Struct(fields), true), boxes)])?,
        1,
    )?;
    let open = || OdpTableProvider::builder(text(dir.path()).unwrap_or_default());
    assert_eq!(ask(open(), &format!("st_intersects(b, {SQUARE})"), &[]).await?, Ok(vec![0]));
    Ok(())
}

/// Lines of two points each.
fn lines(names: &[&str], at: f64) -> (Field, ArrayRef) {
    let fields: Fields = names.iter().map(|name| Field::new(*name, DataType::Float64, false)).collect();
    let values =
        |offset: f64| Arc::new(Float64Array::from(vec![at, at + offset, at, at + offset])) as ArrayRef;
    let points = StructArray::new(fields.clone(), names.iter().map(|_| values(1.0)).collect(), None);
    let item = Arc::new(Field::new("vertices", DataType::Struct(fields), false));
    let array = ListArray::new(Arc::clone(&item), OffsetBuffer::from_lengths([2, 2]), Arc::new(points), None);
    (Field::new("line", DataType::List(item), true), Arc::new(array))
}

#[tokio::test]
async fn lines_of_files_with_other_dimensions_are_read() -> Result<()> {
    let dir = tempfile::tempdir()?;
    write(&dir.path().join("a.parquet"), &table(vec![lines(&["x", "y"], 1.0)])?, 2)?;
    write(&dir.path().join("b.parquet"), &table(vec![lines(&["x", "y", "z"], 2.0)])?, 2)?;
    let open = || OdpTableProvider::builder(text(dir.path()).unwrap_or_default());
    let found = ask(open(), &format!("st_intersects(line, {SQUARE})"), &[]).await?;
    assert_eq!(found, Ok(vec![0, 0, 1, 1]));
    Ok(())
}

#[tokio::test]
async fn the_row_of_a_malformed_geometry_is_right_under_any_logic() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut texts = vec!["POINT(1 1)"; 100];
    texts[63] = "POINT(1";
    let depths: Vec<f64> = (0..100).map(f64::from).collect();
    let texts: ArrayRef = Arc::new(StringArray::from(texts));
    let rows = table(vec![(Field::new("w", DataType::Utf8, true), texts), floats("depth", &depths)])?;
    write(&dir.path().join("a.parquet"), &rows, 40)?;
    let ctx = session(2, &[])?;
    ctx.register_table("t", Arc::new(OdpTableProvider::open(&ctx, text(dir.path())?).await?))?;
    for filter in ["st_within(w, $)", "(depth > 60 AND st_within(w, $)) OR depth = 5"] {
        let sql = format!("SELECT id FROM t WHERE {}", filter.replace('$', SQUARE));
        let error = run(&ctx, &sql).await.unwrap_err().to_string();
        assert!(error.contains("a.parquet, batch 1, row 63 of the file"), "{filter}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn other_filters_keep_rows_from_the_spatial_test() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let count = 20_000;
    let depths: Vec<f64> = (0..count).map(f64::from).collect();
    let lon: Vec<f64> = (0..count).map(|i| f64::from(i % 100)).collect();
    let lat: Vec<f64> = (0..count).map(|i| f64::from(i % 7)).collect();
    let rows = table(vec![floats("depth", &depths), floats("lon", &lon), floats("lat", &lat)])?;
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(10_000))
        .set_data_page_row_count_limit(500)
        .set_write_batch_size(500)
        .set_dictionary_enabled(false)
        .build();
    write_with(&dir.path().join("a.parquet"), &rows, properties)?;
    let ctx = session(2, &[])?;
    let table = OdpTableProvider::builder(text(dir.path())?).open(&ctx).await?;
    ctx.register_table("t", Arc::new(table))?;
    let area = format!("st_within(st_point(lon, lat), {SQUARE})");
    let sql = format!("SELECT id FROM t WHERE {area} AND depth BETWEEN 700 AND 900");
    let (rows, plan) = run(&ctx, &sql).await?;
    assert!(ids(&rows).iter().all(|id| (700..=900).contains(id)) && !rows.is_empty());
    assert_eq!(metric(&plan, "area_rows_tested"), 500, "one page of 500 rows");
    Ok(())
}

#[tokio::test]
async fn a_join_with_constant_areas_reads_what_lies_in_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let count = 10_000;
    let lon: Vec<f64> = (0..count).map(|i| f64::from(i) / 50.0).collect();
    let rows = table(vec![floats("lon", &lon), floats("lat", &vec![1.0; lon.len()])])?;
    write(&dir.path().join("a.parquet"), &rows, 500)?;
    let areas =
        "(VALUES ('a', 'POLYGON((1 0, 5 0, 5 5, 1 5, 1 0))'), ('b', 'POLYGON((4 0, 9 0, 9 5, 4 5, 4 0))'))";
    for (from, filter) in [
        (format!("t JOIN {areas} AS r(name, area) ON st_within(st_point(t.lon, t.lat), r.area)"), ""),
        (format!("t, {areas} AS r(name, area)"), "WHERE st_contains(r.area, st_point(t.lon, t.lat))"),
        (format!("{areas} AS r(name, area) JOIN t ON st_dwithin(r.area, st_point(t.lon, t.lat), 0.001)"), ""),
    ] {
        let sql = format!(
            "SELECT r.name, count(*), min(t.id), max(t.id) FROM {from} {filter} GROUP BY 1 ORDER BY 1"
        );
        let mut answers = vec![];
        for pruning in ["true", "false"] {
            let ctx = session(2, &[("odp.pruning", pruning)])?;
            ctx.register_table("t", Arc::new(OdpTableProvider::open(&ctx, text(dir.path())?).await?))?;
            let (rows, plan) = run(&ctx, &sql).await?;
            answers.push(pretty_format_batches(&rows)?.to_string());
            // 400 rows a degree: 1..9 lies in one batch of 500 rows, of 20.
            assert_eq!(
                metric(&plan, "batches_pruned_extent"),
                if pruning == "true" { 19 } else { 0 },
                "{sql}"
            );
        }
        assert_eq!(answers[0], answers[1], "{sql}");
        assert!(answers[0].contains("| a ") && answers[0].contains("| b "), "{}", answers[0]);
    }
    Ok(())
}
