//! What files say of their geometry columns: extents from every source, CRS, edges; and what they should not say.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::SessionContext;
use datafusion_odp::{OdpError, OdpTableProvider};

use crate::fixtures::{Result, metric, run, session, write_with};

/// Columns of a file, with their fields.
type Columns = Vec<(Field, ArrayRef)>;

/// A coordinate of row `i`.
type Ordinate = fn(usize) -> f64;

/// Rows of a file; row groups have 10.
const ROWS: usize = 40;

/// Longitude and latitude of row `i`: row groups are 10 degrees wide, and follow each other eastward from 20 west.
fn position(i: usize) -> (f64, f64) {
    (i as f64 - 20.0 + 0.1, (i % 10) as f64 / 3.0)
}

/// Holds the positions of rows 12 to 16 alone.
const AREA: &str = "'POLYGON((-8 -1, -3 -1, -3 4, -8 4, -8 -1))'";

fn wkb_point((x, y): (f64, f64)) -> Vec<u8> {
    [&[1, 1, 0, 0, 0][..], &x.to_le_bytes(), &y.to_le_bytes()].concat()
}

fn wkb() -> ArrayRef {
    Arc::new((0..ROWS).map(|i| Some(wkb_point(position(i)))).collect::<BinaryArray>())
}

fn floats(value: impl Fn(usize) -> f64) -> ArrayRef {
    Arc::new((0..ROWS).map(|i| Some(value(i))).collect::<Float64Array>())
}

#[expect(clippy::cast_possible_truncation, reason = "rounds to nearest, as a careless writer does")]
fn floats_of_32_bits(value: impl Fn(usize) -> f64) -> ArrayRef {
    Arc::new((0..ROWS).map(|i| Some(value(i) as f32)).collect::<Float32Array>())
}

fn group(columns: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let field = |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
    Arc::new(StructArray::from(
        columns.into_iter().map(|(name, array)| (field(name, &array), array)).collect::<Vec<_>>(),
    ))
}

/// A column, with metadata of its field.
fn column(name: &str, array: ArrayRef, metadata: &[(&str, &str)]) -> (Field, ArrayRef) {
    let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    (Field::new(name, array.data_type().clone(), true).with_metadata(metadata.collect()), array)
}

/// Writes `columns` behind a column `id`, in row groups of 10; `geo` is an entry of the footer.
fn write(path: &Path, columns: Columns, geo: &[&str]) -> Result<()> {
    let ids = Int64Array::from_iter_values(0..i64::try_from(columns[0].1.len())?);
    let mut all = vec![(Field::new("id", DataType::Int64, false), Arc::new(ids) as ArrayRef)];
    all.extend(columns);
    let (fields, arrays): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let entries = geo.iter().map(|text| KeyValue::new("geo".to_owned(), text.to_string())).collect();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(10))
        .set_key_value_metadata(Some(entries))
        .build();
    write_with(path, &RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?, properties)
}

/// GeoParquet metadata of column `g`, with `more` in it.
fn geo(more: &str) -> String {
    format!(
        r#"{{"version": "1.1.0", "primary_column": "g", "columns": {{"g": {{"encoding": "WKB", {more}}}}}}}"#
    )
}

const COVERING: &str = r#""geometry_types": ["Point"], "covering": {"bbox": {"xmin": ["box", "xmin"],
    "ymin": ["box", "ymin"], "xmax": ["box", "xmax"], "ymax": ["box", "ymax"]}}"#;

async fn open(directory: &Path, settings: &[(&str, &str)]) -> Result<SessionContext> {
    let ctx = session(2, settings)?;
    let table = OdpTableProvider::open(&ctx, directory.to_string_lossy()).await?;
    ctx.register_table("t", Arc::new(table))?;
    Ok(ctx)
}

async fn count(ctx: &SessionContext, filter: &str) -> Result<i64> {
    let rows = ctx.sql(&format!("SELECT count(*) FROM t WHERE {filter}")).await?.collect().await?;
    Ok(rows[0].column(0).as_primitive::<Int64Type>().value(0))
}

async fn shown(ctx: &SessionContext, sql: &str) -> Result<String> {
    Ok(pretty_format_batches(&ctx.sql(sql).await?.collect().await?)?.to_string())
}

/// xmin, ymin, xmax, ymax of each batch.
async fn extents(ctx: &SessionContext) -> Result<Vec<Option<[f64; 4]>>> {
    let rows = ctx.sql("SELECT xmin, ymin, xmax, ymax FROM odp_batches('t')").await?.collect().await?;
    let mut extents = Vec::new();
    for batch in &rows {
        for row in 0..batch.num_rows() {
            let edge = |i: usize| {
                let column = batch.column(i).as_primitive::<Float64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            extents.push(match (edge(0), edge(1), edge(2), edge(3)) {
                (Some(xmin), Some(ymin), Some(xmax), Some(ymax)) => Some([xmin, ymin, xmax, ymax]),
                _ => None,
            });
        }
    }
    Ok(extents)
}

/// Whether each extent holds the positions of its row group, and exceeds them by at most `slack`.
fn assert_tight(extents: &[Option<[f64; 4]>], slack: f64, context: &str) -> Result<()> {
    assert_eq!(extents.len(), ROWS / 10, "{context}");
    for (i, extent) in extents.iter().enumerate() {
        let [xmin, ymin, xmax, ymax] = extent.ok_or_else(|| format!("{context}: batch {i} has no extent"))?;
        let ((west, south), (east, north)) = (position(i * 10), position(i * 10 + 9));
        for (outer, inner) in [(west, xmin), (south, ymin), (xmax, east), (ymax, north)] {
            let excess = outer - inner;
            assert!((0.0..=slack).contains(&excess), "{context}: batch {i} exceeds by {excess}: {extent:?}");
        }
    }
    Ok(())
}

/// Box columns of the positions, `floats` making each.
fn boxes(floats: impl Fn(Ordinate) -> ArrayRef) -> (Field, ArrayRef) {
    let (x, y): (Ordinate, Ordinate) = (|i| position(i).0, |i| position(i).1);
    let columns = vec![("xmin", floats(x)), ("ymin", floats(y)), ("xmax", floats(x)), ("ymax", floats(y))];
    column("box", group(columns), &[])
}

const GEOARROW_WKB: (&str, &str) = ("ARROW:extension:name", "geoarrow.wkb");

#[tokio::test]
async fn extents_come_from_whatever_the_file_has() -> Result<()> {
    let plain = || column("g", wkb(), &[]);
    let point = || group(vec![("x", floats(|i| position(i).0)), ("y", floats(|i| position(i).1))]);
    let geoarrow = ("ARROW:extension:name", "geoarrow.point");
    let native = geo("").replace("WKB\", ", "point\"");
    let square = |name: &str, value: Ordinate| column(name, floats(value), &[]);
    let text = (0..ROWS).map(|i| Some(format!("POINT({} {})", position(i).0, position(i).1)));
    let text = Arc::new(text.collect::<StringArray>()) as ArrayRef;
    let covering = geo(COVERING);
    let cases: Vec<(&str, Columns, Option<&str>, f64)> = vec![
        ("covering", vec![plain(), boxes(|edge| floats(edge))], Some(&covering), 0.0),
        ("covering of 32 bits", vec![plain(), boxes(|edge| floats_of_32_bits(edge))], Some(&covering), 1e-5),
        ("Parquet GEOMETRY", vec![column("g", wkb(), &[GEOARROW_WKB])], None, 0.0),
        (
            "Parquet GEOMETRY behind a struct",
            vec![column("s", point(), &[]), column("g", wkb(), &[GEOARROW_WKB])],
            None,
            0.0,
        ),
        ("GeoArrow point", vec![column("g", point(), &[geoarrow])], None, 0.0),
        ("GeoParquet point", vec![column("g", point(), &[])], Some(&native), 0.0),
        (
            "ODP squares",
            vec![
                column("g", text, &[("class", "geometry")]),
                square("g.x", |i| position(i).0),
                square("g.y", |i| position(i).1),
                square("g.q", |_| 0.25),
            ],
            None,
            0.2501,
        ),
    ];
    for (context, columns, geo, slack) in cases {
        let dir = tempfile::tempdir()?;
        write(&dir.path().join("a.parquet"), columns, geo.as_slice())?;
        let ctx = open(dir.path(), &[]).await?;
        let extents = extents(&ctx).await?;
        assert_tight(&extents, slack, context)?;
        let (rows, plan) = run(&ctx, &format!("SELECT id FROM t WHERE st_within(g, {AREA})")).await?;
        let ids: Vec<i64> = rows
            .iter()
            .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
            .collect();
        assert_eq!(ids, [12, 13, 14, 15, 16], "{context}");
        assert_eq!(metric(&plan, "batches_opened"), 1, "{context}");
        let unpruned = open(dir.path(), &[("odp.pruning", "false")]).await?;
        assert_eq!(count(&unpruned, &format!("st_within(g, {AREA})")).await?, 5, "{context}");
    }
    Ok(())
}

#[tokio::test]
async fn lists_of_coordinates_and_file_boxes_are_extents_too() -> Result<()> {
    // Each row a line from its position to half a degree west and south of it.
    let point = group(vec![
        (
            "x",
            Arc::new(
                (0..2 * ROWS)
                    .map(|i| Some(position(i / 2).0 - (i % 2) as f64 / 2.0))
                    .collect::<Float64Array>(),
            ),
        ),
        (
            "y",
            Arc::new(
                (0..2 * ROWS)
                    .map(|i| Some(position(i / 2).1 - (i % 2) as f64 / 2.0))
                    .collect::<Float64Array>(),
            ),
        ),
    ]);
    let vertices = Field::new("vertices", point.data_type().clone(), false);
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(2, ROWS));
    let lines: ArrayRef = Arc::new(ListArray::try_new(Arc::new(vertices), offsets, point, None)?);
    let dir = tempfile::tempdir()?;
    let extension = ("ARROW:extension:name", "geoarrow.linestring");
    write(&dir.path().join("a.parquet"), vec![column("g", lines, &[extension])], &[])?;
    let ctx = open(dir.path(), &[]).await?;
    assert_tight(&extents(&ctx).await?, 0.5001, "GeoArrow linestring")?;

    // A file is skipped as a whole by its own box; of 6 numbers, as of 4.
    let dir = tempfile::tempdir()?;
    let inside = geo(r#""geometry_types": [], "bbox": [-19.9, 0, 19.1, 3]"#);
    let beside = geo(r#""geometry_types": [], "bbox": [-19.9, 10, -5, 19.1, 13, 5]"#);
    let shifted = (0..ROWS).map(|i| Some(wkb_point((position(i).0, position(i).1 + 10.0))));
    let shifted = Arc::new(shifted.collect::<BinaryArray>()) as ArrayRef;
    write(&dir.path().join("a.parquet"), vec![column("g", wkb(), &[])], &[&inside])?;
    write(&dir.path().join("b.parquet"), vec![column("g", shifted, &[])], &[&beside])?;
    let ctx = open(dir.path(), &[]).await?;
    let (rows, plan) = run(&ctx, &format!("SELECT id FROM t WHERE st_within(g, {AREA})")).await?;
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 5);
    assert_eq!(metric(&plan, "batches_opened"), 4, "those of one file");
    let extents = extents(&ctx).await?;
    assert!(extents[..4].iter().all(|extent| extent.is_some_and(|e| e[3] < 3.1)), "{extents:?}");
    assert!(
        extents[4..].iter().all(|extent| extent.is_some_and(|e| e[1] > 9.9 && e[3] < 13.1)),
        "{extents:?}"
    );
    Ok(())
}

#[tokio::test]
async fn coordinates_in_structs_are_the_extent_of_their_batches() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let interpreted = group(vec![
        ("decimalLatitude", floats(|i| position(i).1)),
        ("decimalLongitude", floats(|i| position(i).0)),
    ]);
    write(&dir.path().join("a.parquet"), vec![column("interpreted", interpreted, &[])], &[])?;
    let ctx = open(dir.path(), &[]).await?;
    assert_tight(&extents(&ctx).await?, 0.0, "interpreted.decimalLongitude")?;

    // What a field says of itself goes before names.
    let dir = tempfile::tempdir()?;
    let columns = vec![
        column("longitude", floats(|_| 500.0), &[]),
        column("latitude", floats(|_| 500.0), &[]),
        column("x", floats(|i| position(i).0), &[("class", "longitude")]),
        column("y", floats(|i| position(i).1), &[("class", "latitude")]),
    ];
    write(&dir.path().join("a.parquet"), columns, &[])?;
    let ctx = open(dir.path(), &[]).await?;
    assert_tight(&extents(&ctx).await?, 0.0, "class")?;
    Ok(())
}

/// Metadata that is wrong in some way never loses a row; where it says nothing that can be trusted, no batch is
/// skipped.
#[tokio::test]
async fn hostile_geo_metadata_never_loses_rows() -> Result<()> {
    let deep = format!(r#"{{"columns": {{"g": {{"x": {}"#, "[".repeat(10_000));
    let long = geo(&format!(r#""bbox": [100, 50, 101, 51], "x": "{}""#, "y".repeat(20 << 20)));
    let twice = r#""bbox": [-20, 0, 20, 4], "bbox": [100, 50, 101, 51]"#;
    let covering = |leaf: &str| COVERING.replace(r#"["box", "xmin"]"#, leaf);
    let mut cases: Vec<String> = [
        r#""bbox": [20, 0, -20, 4]"#,
        r#""bbox": ["100", "50", "101", "51"]"#,
        r#""bbox": [100, 50, 101]"#,
        r#""bbox": [100, 50, 101, 51, 7]"#,
        r#""bbox": [100, 50, NaN, 51]"#,
        r#""bbox": [100, 50, 1e999, 51]"#,
        r#""bbox": {"xmin": 100}"#,
        r#""bbox": null"#,
        twice,
        r#""crs": 5, "edges": {}, "geometry_types": 3"#,
        r#""covering": {"bbox": [1, 2]}"#,
        r#""covering": 5"#,
        &covering(r#"["box", "absent"]"#),
        &covering(r#"["id"]"#),
        &covering(r#"["g"]"#),
        &covering("[]"),
        &covering("[1, 2]"),
        &covering(r#""box.xmin""#),
    ]
    .map(geo)
    .to_vec();
    cases.extend([deep, long, "null".into(), "[]".into(), r#"{"columns": 5}"#.into(), "\u{0}".into()]);
    cases.push(
        r#"{"columns": {"absent": {"bbox": [100, 50, 101, 51]}, "id": {"bbox": [100, 50, 101, 51]}}}"#.into(),
    );
    for case in cases {
        let shown = case.chars().take(200).collect::<String>();
        let dir = tempfile::tempdir()?;
        let columns = vec![column("g", wkb(), &[]), boxes(|edge| floats(edge))];
        write(&dir.path().join("a.parquet"), columns, &[&case])?;
        let ctx = open(dir.path(), &[]).await.map_err(|error| format!("{shown}: {error}"))?;
        let extents = extents(&ctx).await?;
        assert!(extents.iter().all(Option::is_none), "{shown}: {extents:?}");
        let (rows, plan) = run(&ctx, &format!("SELECT id FROM t WHERE st_within(g, {AREA})")).await?;
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 5, "{shown}");
        assert_eq!(metric(&plan, "batches_opened"), 4, "{shown}");
    }
    // Two entries that differ.
    let dir = tempfile::tempdir()?;
    let entries = [geo(r#""bbox": [-20, 0, 20, 4]"#), geo(r#""bbox": [100, 50, 101, 51]"#)];
    write(
        &dir.path().join("a.parquet"),
        vec![column("g", wkb(), &[])],
        &entries.each_ref().map(String::as_str),
    )?;
    let ctx = open(dir.path(), &[]).await?;
    assert_eq!(count(&ctx, &format!("st_within(g, {AREA})")).await?, 5);
    Ok(())
}

/// Geometries without a box, boxes that are NULL, and boxes across the antimeridian that others hide.
#[tokio::test]
async fn coverings_that_hide_geometries_skip_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let missing = |edge: Ordinate| -> ArrayRef {
        Arc::new(
            (0..ROWS)
                .map(|i| (i != 15).then(|| if i / 10 == 1 { 170.0 } else { edge(i) }))
                .collect::<Float64Array>(),
        )
    };
    let covering = geo(COVERING);
    write(&dir.path().join("a.parquet"), vec![column("g", wkb(), &[]), boxes(missing)], &[&covering])?;
    let ctx = open(dir.path(), &[]).await?;
    assert_eq!(extents(&ctx).await?[1], None);
    assert_eq!(count(&ctx, &format!("st_within(g, {AREA})")).await?, 5);

    // In every row group one box from 175 to -175, another from 170 to 179.
    let dir = tempfile::tempdir()?;
    let polygon = |i: usize| if i % 10 == 4 { (175.0, -175.0) } else { (170.0, 179.0) };
    let edges = vec![
        ("xmin", floats(|i| polygon(i).0)),
        ("ymin", floats(|i| position(i).1)),
        ("xmax", floats(|i| polygon(i).1)),
        ("ymax", floats(|i| position(i).1)),
    ];
    let points =
        (0..ROWS).map(|i| Some(wkb_point((if i % 10 == 4 { -178.0 } else { 172.0 }, position(i).1))));
    let points = Arc::new(points.collect::<BinaryArray>()) as ArrayRef;
    for bbox in ["", r#""bbox": [-180, 0, 180, 3],"#, r#""bbox": [170, 0, -170, 3],"#] {
        let covering = geo(&format!("{bbox} {}", COVERING.replace("\"Point\"", "")));
        let columns = vec![column("g", Arc::clone(&points), &[]), column("box", group(edges.clone()), &[])];
        write(&dir.path().join("a.parquet"), columns, &[&covering])?;
        let ctx = open(dir.path(), &[]).await?;
        let area = "'POLYGON((-179 0, -177 0, -177 4, -179 4, -179 0))'";
        assert_eq!(count(&ctx, &format!("st_intersects(g, {area})")).await?, 4, "{bbox}");
        let other = "'POLYGON((-179 20, -177 20, -177 24, -179 24, -179 20))'";
        assert_eq!(count(&ctx, &format!("st_intersects(g, {other})")).await?, 0, "{bbox}");
    }
    Ok(())
}

#[tokio::test]
async fn squares_with_holes_skip_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let q: Float64Array = (0..ROWS).map(|i| (i != 15).then_some(0.0)).collect();
    let text = (0..ROWS).map(|i| Some(format!("POINT({} {})", position(i).0, position(i).1)));
    let columns = vec![
        column("g", Arc::new(text.collect::<StringArray>()), &[("isGeometry", "0")]),
        column("g.x", floats(|i| position(i).0), &[]),
        column("g.y", floats(|i| position(i).1), &[]),
        column("g.q", Arc::new(q), &[]),
    ];
    write(&dir.path().join("a.parquet"), columns, &[])?;
    let ctx = open(dir.path(), &[]).await?;
    let known: Vec<bool> = extents(&ctx).await?.iter().map(Option::is_some).collect();
    assert_eq!(known, [true, false, true, true]);
    assert_eq!(count(&ctx, &format!("st_within(g, {AREA})")).await?, 5);
    let files = shown(&ctx, "SELECT geometry_columns[1]['name'] AS name FROM odp_files('t')").await?;
    assert!(files.contains("| g "), "{files}");
    Ok(())
}

fn metadata_of(ctx_schema: &Schema, name: &str) -> Result<HashMap<String, String>> {
    Ok(ctx_schema.field_with_name(name)?.metadata().clone())
}

#[tokio::test]
async fn crs_and_edges_are_in_the_schema_and_in_odp_files() -> Result<()> {
    let projjson =
        r#""crs": {"type": "ProjectedCRS", "name": "MGI", "id": {"authority": "EPSG", "code": 31287}}"#;
    for (more, extension, listed) in [
        (r#""geometry_types": ["Point"]"#, r#"{"crs":"OGC:CRS84"}"#, "WKB | OGC:CRS84 | planar | Point"),
        (r#""crs": null"#, "{}", "WKB | | planar |"),
        (projjson, "EPSG", "WKB | EPSG:31287 | planar |"),
        (r#""edges": "spherical""#, r#""edges":"spherical""#, "WKB | OGC:CRS84 | spherical |"),
    ] {
        let dir = tempfile::tempdir()?;
        write(&dir.path().join("a.parquet"), vec![column("g", wkb(), &[])], &[&geo(more)])?;
        let ctx = open(dir.path(), &[]).await?;
        let metadata = metadata_of(ctx.table("t").await?.schema().as_arrow(), "g")?;
        assert_eq!(metadata["ARROW:extension:name"], "geoarrow.wkb");
        assert!(metadata["ARROW:extension:metadata"].contains(extension), "{more}: {metadata:?}");
        let rows = ctx.sql("SELECT * FROM t WHERE id < 15").await?.collect().await?;
        assert_eq!(metadata_of(&rows[0].schema(), "g")?, metadata);
        let sql = "SELECT c['encoding'], c['crs'], c['edges'], c['geometry_types']
                   FROM (SELECT unnest(geometry_columns) AS c FROM odp_files('t'))";
        let files = shown(&ctx, sql).await?.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(files.contains(&format!("| {listed}")), "{more}: {files}");
        // Written anew it is a Parquet GEOMETRY or GEOGRAPHY, in the same CRS.
        let copy = dir.path().join("copy");
        ctx.sql(&format!("COPY t TO '{}/' STORED AS PARQUET", copy.display())).await?.collect().await?;
        let again = open(&copy, &[]).await?;
        let kept = metadata_of(again.table("t").await?.schema().as_arrow(), "g")?;
        assert_eq!(kept.get("ARROW:extension:name"), metadata.get("ARROW:extension:name"), "{more}");
        assert_eq!(kept["ARROW:extension:metadata"], metadata["ARROW:extension:metadata"], "{more}");
        assert!(extents(&again).await?[0].is_some() || more.contains("spherical"), "{more}");
    }
    Ok(())
}

#[tokio::test]
async fn files_and_columns_in_different_systems_do_not_fit_together() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (a, b) = (dir.path().join("a.parquet"), dir.path().join("b.parquet"));
    write(&a, vec![column("g", wkb(), &[])], &[&geo(r#""crs": "EPSG:4326""#)])?;
    write(&b, vec![column("g", wkb(), &[])], &[&geo(r#""geometry_types": []"#)])?;
    let ctx = open(dir.path(), &[]).await?;
    assert_eq!(count(&ctx, &format!("st_within(g, {AREA})")).await?, 10, "the same system");
    write(&b, vec![column("g", wkb(), &[])], &[])?;
    open(dir.path(), &[]).await?;
    write(&b, vec![column("g", wkb(), &[])], &[&geo(r#""crs": "EPSG:3857""#)])?;
    let ctx = session(2, &[])?;
    let error = OdpTableProvider::open(&ctx, dir.path().to_string_lossy()).await.err().ok_or("no error")?;
    assert!(matches!(error, OdpError::SchemaMismatch { .. }), "{error}");
    let message = error.to_string();
    for part in ["a.parquet", "b.parquet", "\"g\"", "EPSG:4326", "EPSG:3857"] {
        assert!(message.contains(part), "{message}");
    }

    // Two columns of one predicate; a constant is in the system of the column.
    for (name, file) in [("t", &a), ("u", &b)] {
        let table = OdpTableProvider::open(&ctx, file.to_string_lossy()).await?;
        ctx.register_table(name, Arc::new(table))?;
    }
    assert_eq!(count(&ctx, &format!("st_within(g, {AREA})")).await?, 5);
    for left in ["t.g", "st_geomfromwkb(t.g)"] {
        let sql = format!("SELECT count(*) FROM t, u WHERE t.id = u.id AND st_intersects({left}, u.g)");
        let error = match ctx.sql(&sql).await {
            Ok(frame) => frame.collect().await.err().ok_or("no error")?,
            Err(error) => error,
        };
        let message = error.to_string();
        assert!(message.contains("EPSG:4326") && message.contains("EPSG:3857"), "{left}: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn curved_edges_are_refused_before_anything_is_read() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let spherical = ("ARROW:extension:metadata", r#"{"crs":"OGC:CRS84","edges":"spherical"}"#);
    let bbox = r#""edges": "spherical", "bbox": [-20, 0, 20, 4]"#;
    for (context, metadata, geo) in
        [("GeoParquet", &[][..], Some(geo(bbox))), ("Parquet GEOGRAPHY", &[GEOARROW_WKB, spherical], None)]
    {
        let geo: Vec<&str> = geo.iter().map(String::as_str).collect();
        write(&dir.path().join("a.parquet"), vec![column("g", wkb(), metadata)], &geo)?;
        let ctx = open(dir.path(), &[]).await?;
        for area in [AREA, "'POLYGON((100 50, 101 50, 101 51, 100 50))'"] {
            let filter = format!("st_within(g, {area})");
            let message = count(&ctx, &filter).await.err().ok_or("no error")?.to_string();
            assert!(message.contains("spherical"), "{context}: {message}");
            assert!(message.contains("SET odp.planar_geography = true"), "{context}: {message}");
        }
        let message =
            count(&ctx, "st_dwithin(g, 'POINT(0 0)', 1.0)").await.err().ok_or("no error")?.to_string();
        assert!(message.contains("st_dwithin") && message.contains("spherical"), "{context}: {message}");
        assert_eq!(count(&ctx, "st_x(g) > -8 AND st_x(g) < -3").await?, 5, "{context}: not a predicate");
        ctx.sql("SET odp.planar_geography = true").await?.collect().await?;
        assert_eq!(count(&ctx, &format!("st_within(g, {AREA})")).await?, 5, "{context}");
    }
    Ok(())
}

/// Every file of the corpora that has extents: pruned and unpruned counts agree over a grid of areas.
#[tokio::test]
#[cfg_attr(not(has_corpora), ignore = "needs ../shared/corpora, or ODP_CORPORA")]
async fn extents_of_public_files_hold_their_geometries() -> Result<()> {
    let corpora: PathBuf = match std::env::var_os("ODP_CORPORA") {
        Some(directory) => directory.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora"),
    };
    let (mut with_extents, mut matches) = (0, 0);
    for (folder, num_columns) in [
        ("opengeospatial_geoparquet/examples", 1),
        ("opengeospatial_geoparquet/test_data", 1),
        ("planetlabs_gpq/internal/testdata/cases", 1),
        ("apache_sedona-testing/data/parquet", 1),
        ("apache_parquet-testing/data/geospatial", 1),
        ("geoparquet_geoparquet-io/tests/data", 1),
        ("geoparquet_geoparquet-io/tests/data/country_partition", 1),
    ] {
        let mut files: Vec<_> = std::fs::read_dir(corpora.join(folder))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<std::io::Result<_>>()?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
        files.sort();
        for file in files {
            let shown = file.display();
            let ctx = open(&file, &[("odp.planar_geography", "true")]).await?;
            let sql =
                "SELECT c['name'] AS name FROM (SELECT unnest(geometry_columns) AS c FROM odp_files('t'))";
            let rows = ctx.sql(sql).await?.collect().await?;
            let names: Vec<String> = rows
                .iter()
                .flat_map(|batch| {
                    batch.column(0).as_string::<i32>().iter().flatten().map(String::from).collect::<Vec<_>>()
                })
                .collect();
            assert_eq!(names.len(), num_columns, "{shown}");
            let extents = extents(&ctx).await?;
            let Some(bounds) = extents
                .iter()
                .flatten()
                .copied()
                .reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])])
            else {
                continue;
            };
            with_extents += 1;
            let step = |low: f64, high: f64, i: i32| low + (high - low) * f64::from(i) / 2.0;
            for cell in [0, 1, 4, 8] {
                let (column, row) = (cell % 3, cell / 3);
                let (west, east) =
                    (step(bounds[0], bounds[2], column), step(bounds[0], bounds[2], column + 1));
                let (south, north) = (step(bounds[1], bounds[3], row), step(bounds[1], bounds[3], row + 1));
                let area = format!(
                    "st_intersects(\"{}\", 'POLYGON(({west} {south}, {east} {south}, {east} {north}, {west} {north}, {west} {south}))')",
                    names[0]
                );
                ctx.sql("SET odp.pruning = true").await?.collect().await?;
                let pruned = count(&ctx, &area).await.map_err(|error| format!("{shown}: {error}"))?;
                ctx.sql("SET odp.pruning = false").await?.collect().await?;
                assert_eq!(pruned, count(&ctx, &area).await?, "{shown}: {area}");
                matches += pruned;
            }
        }
    }
    assert!(with_extents >= 12 && matches > 250, "{with_extents} files, {matches} matches");
    Ok(())
}
