//! Spatial filters over random geometries in every layout: whatever prunes, the rows are those of the predicates.
//!
//! `ODP_SPATIAL_CASES` sets the number of queries; a failure prints the seed, the layout and the query. The truth is
//! the same predicate as a column of a table in memory, where nothing prunes, and for points in polygons what the
//! crate `geo` says.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, StructArray,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::runtime::SpawnedTask;
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;
use datafusion::prelude::SessionContext;
use datafusion_odp::{BatchUnit, OdpTableProvider};
use geo::coordinate_position::{CoordPos, CoordinatePosition};
use geo::{Coord, MultiPolygon, Validation};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fixtures::{Result, random_properties, session, write_with};
use crate::planner::{Planner, int64s};
use crate::shapes::{PREDICATES, Position, Shape, Wkb, any_area, any_shape, on_lattice};

/// How the geometries of a dataset are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    PlainDouble,
    PlainFloat,
    PlainInteger,
    /// Another type of number in each file.
    PlainMixed,
    StructLeaves,
    /// The struct as a whole.
    StructPoint,
    GeoArrowPoint,
    Wkb,
    /// GeoParquet 1.0: the footer tells the box of the file.
    GeoParquet,
    /// GeoParquet 1.1.
    Covering,
    /// Parquet's own type.
    ParquetGeometry,
    Wkt,
}

const LAYOUTS: [Layout; 12] = [
    Layout::PlainDouble,
    Layout::PlainFloat,
    Layout::PlainInteger,
    Layout::PlainMixed,
    Layout::StructLeaves,
    Layout::StructPoint,
    Layout::GeoArrowPoint,
    Layout::Wkb,
    Layout::GeoParquet,
    Layout::Covering,
    Layout::ParquetGeometry,
    Layout::Wkt,
];

impl Layout {
    /// Whether it stores two coordinates, each of which may be NULL or not finite.
    fn is_pair(self) -> bool {
        self.is_plain() || matches!(self, Self::StructLeaves | Self::StructPoint | Self::GeoArrowPoint)
    }

    fn is_plain(self) -> bool {
        matches!(self, Self::PlainDouble | Self::PlainFloat | Self::PlainInteger | Self::PlainMixed)
    }

    /// SQL of the geometry.
    fn target(self, random: &mut StdRng) -> &'static str {
        match self {
            Self::PlainDouble | Self::PlainFloat | Self::PlainInteger | Self::PlainMixed => {
                "st_point(lon, lat)"
            }
            Self::StructLeaves => ["st_point(place.lon, place.lat)", "st_point(place['lon'], place['lat'])"]
                [random.random_range(0..2)],
            Self::StructPoint => ["place", "st_point(place.lon, place.lat)"][random.random_range(0..2)],
            Self::GeoArrowPoint => "geometry",
            Self::Wkt => ["geometry", "st_geomfromtext(geometry)"][random.random_range(0..2)],
            _ => ["geometry", "st_geomfromwkb(geometry)"][random.random_range(0..2)],
        }
    }
}

/// The geometry of a row.
#[derive(Debug, Clone, PartialEq)]
enum Row {
    Null,
    /// Coordinates that may be missing or not finite.
    Pair(Option<f64>, Option<f64>),
    Shape(Shape),
}

impl Row {
    fn shape(&self) -> Option<Shape> {
        match self {
            Self::Null => None,
            Self::Pair(x, y) => Some(Shape::Point(Some([(*x)?, (*y)?]))),
            Self::Shape(shape) => Some(shape.clone()),
        }
    }

    /// The coordinates, of a point that has them.
    fn point(&self) -> Option<Position> {
        match self.shape()? {
            Shape::Point(Some([x, y])) if x.abs() < 1e99 && y.abs() < 1e99 => Some([x, y]),
            _ => None,
        }
    }

    /// Whether it has coordinates, all of them finite.
    fn is_finite(&self) -> bool {
        fn has_empty(shape: &Shape) -> bool {
            match shape {
                Shape::Collection(parts) => parts.is_empty() || parts.iter().any(has_empty),
                other => other.positions().is_empty(),
            }
        }
        match self {
            Self::Null => true,
            Self::Pair(x, y) => {
                [x, y].iter().all(|value| value.is_none_or(|value| value.is_finite() && value.abs() < 1e99))
            }
            Self::Shape(shape) => !has_empty(shape),
        }
    }
}

/// Everything about the rows of a dataset.
struct Data {
    layout: Layout,
    /// Rows of each file.
    files: Vec<Vec<Row>>,
    span: (f64, f64),
    /// Shapes of all types, not points alone.
    has_shapes: bool,
    /// Another point in each row, in columns of its own.
    has_second: bool,
    /// Each file lies in a directory that says so.
    has_partitions: bool,
}

const SPANS: [(f64, f64); 5] =
    [(-180.0, 180.0), (-180.0, 180.0), (0.0, 360.0), (-180.0, 360.0), (-400.0, 800.0)];

impl Data {
    fn random(random: &mut StdRng, layout: Layout) -> Self {
        let span = SPANS[random.random_range(0..SPANS.len())];
        let has_shapes = !layout.is_pair() && random.random_bool(0.6);
        let is_clean = random.random_bool(0.3);
        let largest = if has_shapes { 40 } else { 80 };
        let order = random.random_range(0..3);
        let files = (0..random.random_range(1..4))
            .map(|_| {
                let count = random.random_range(0..largest);
                let mut rows = Vec::with_capacity(count);
                while rows.len() < count {
                    // A run of rows: close to each other, repeated, all NULL, or anywhere.
                    let center: Position =
                        [random.random_range(span.0..span.1), random.random_range(-90.0..90.0)];
                    let spread = [0.0, 1.0, 10.0, 200.0][random.random_range(0..4)];
                    let is_null = !is_clean && random.random_bool(0.1);
                    for _ in 0..random.random_range(1..40).min(count - rows.len()) {
                        let near = |random: &mut StdRng, axis: usize| {
                            let at: f64 = center[axis] + spread * random.random_range(-1.0..1.0);
                            let at = at.clamp([span.0, -90.0][axis], [span.1, 90.0][axis]);
                            if random.random_bool(0.6) { on_lattice(at) } else { at }
                        };
                        let at = [near(random, 0), near(random, 1)];
                        rows.push(if is_null {
                            Row::Null
                        } else {
                            row(random, layout, at, has_shapes, is_clean)
                        });
                    }
                }
                let west = |row: &Row| {
                    row.shape().and_then(|shape| shape.bounds()).map_or(f64::MAX, |bounds| bounds[0])
                };
                match order {
                    0 => rows.sort_by(|a, b| west(a).total_cmp(&west(b))),
                    1 => (1..rows.len()).for_each(|i| rows.swap(i, random.random_range(0..=i))),
                    _ => {}
                }
                rows
            })
            .collect();
        let (has_second, has_partitions) = (random.random_bool(0.3), random.random_bool(0.3));
        Self { layout, files, span, has_shapes, has_second, has_partitions }
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.files.iter().flatten()
    }
}

fn row(random: &mut StdRng, layout: Layout, [x, y]: Position, has_shapes: bool, is_clean: bool) -> Row {
    let odd = |random: &mut StdRng, value: f64| match random.random_range(0..60) {
        0 => None,
        1 => Some(f64::NAN),
        2 => Some(f64::INFINITY),
        3 => Some(f64::NEG_INFINITY),
        4 => Some([1e30, 1e200][random.random_range(0..2)]),
        5 => Some(-0.0),
        _ => Some(value),
    };
    match layout {
        Layout::PlainInteger | Layout::PlainMixed if is_clean => Row::Pair(Some(x.round()), Some(y.round())),
        _ if is_clean && !has_shapes => Row::Pair(Some(x), Some(y)),
        Layout::PlainInteger | Layout::PlainMixed => {
            let round = |value: f64| value.round();
            let missing = |random: &mut StdRng, value| random.random_bool(0.97).then_some(value);
            Row::Pair(missing(random, round(x)), missing(random, round(y)))
        }
        _ if layout.is_pair() => Row::Pair(odd(random, x), odd(random, y)),
        _ if random.random_bool(0.04) => Row::Null,
        _ if has_shapes => Row::Shape(any_shape(random, [x, y])),
        _ => match (odd(random, x), odd(random, y)) {
            (Some(x), Some(y)) if x.is_finite() && y.is_finite() && x.abs() < 1e99 && y.abs() < 1e99 => {
                Row::Shape(Shape::Point(Some([x, y])))
            }
            // In WKB a coordinate is a number, or the point is empty.
            _ => Row::Shape(Shape::Point(None)),
        },
    }
}

/// Columns with their fields.
type Columns = Vec<(Field, ArrayRef)>;

fn nullable(name: &str, array: ArrayRef) -> (Field, ArrayRef) {
    (Field::new(name, array.data_type().clone(), true), array)
}

fn structure(name: &str, columns: Columns, nulls: Option<NullBuffer>) -> (Field, ArrayRef) {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    nullable(name, Arc::new(StructArray::new(Fields::from(fields), arrays, nulls)))
}

fn numbers(values: impl Iterator<Item = Option<f64>>, data_type: &DataType) -> Result<ArrayRef> {
    Ok(cast(&(Arc::new(values.collect::<Float64Array>()) as ArrayRef), data_type)?)
}

/// The geometry columns of a file, and the `geo` entry of its footer.
fn geometry_columns(
    random: &mut StdRng,
    layout: Layout,
    file: usize,
    rows: &[Row],
) -> Result<(Columns, Option<String>)> {
    let x = || rows.iter().map(|row| if let Row::Pair(x, _) = row { *x } else { None });
    let y = || rows.iter().map(|row| if let Row::Pair(_, y) = row { *y } else { None });
    let pair = |names: [&str; 2], types: [DataType; 2]| -> Result<Columns> {
        Ok(vec![nullable(names[0], numbers(x(), &types[0])?), nullable(names[1], numbers(y(), &types[1])?)])
    };
    let doubles = [DataType::Float64, DataType::Float64];
    let wkb = |form: fn(usize) -> Wkb| -> (Field, ArrayRef) {
        let values = rows.iter().enumerate().map(|(i, row)| row.shape().map(|shape| shape.wkb(form(i))));
        nullable("geometry", Arc::new(values.collect::<BinaryArray>()))
    };
    let forms: fn(usize) -> Wkb = |row| [Wkb::Little, Wkb::Big, Wkb::Extended][row % 3];
    let plain: fn(usize) -> Wkb = |_| Wkb::Little;
    Ok(match layout {
        Layout::PlainDouble => (pair(["lon", "lat"], doubles)?, None),
        Layout::PlainFloat => (pair(["lon", "lat"], [DataType::Float32, DataType::Float32])?, None),
        Layout::PlainInteger => (pair(["lon", "lat"], [DataType::Int32, DataType::Int64])?, None),
        Layout::PlainMixed => {
            let types = [DataType::Float32, DataType::Int32, DataType::Float64, DataType::Int16];
            (pair(["lon", "lat"], [types[file % 4].clone(), types[(file + 1) % 4].clone()])?, None)
        }
        Layout::StructLeaves | Layout::StructPoint => {
            let mut columns = pair(["lon", "lat"], doubles)?;
            if layout == Layout::StructLeaves {
                columns.insert(0, nullable("remarks", Arc::new(StringArray::from(vec!["-"; rows.len()]))));
            }
            let nulls = rows.iter().map(|row| *row != Row::Null).collect::<Vec<_>>();
            (vec![structure("place", columns, Some(nulls.into()))], None)
        }
        Layout::GeoArrowPoint => {
            let nulls = rows.iter().map(|row| *row != Row::Null).collect::<Vec<_>>();
            let (field, array) = structure("geometry", pair(["x", "y"], doubles)?, Some(nulls.into()));
            (vec![(field.with_metadata(extension("geoarrow.point")), array)], None)
        }
        Layout::Wkb => (vec![wkb(forms)], None),
        Layout::GeoParquet => (vec![wkb(plain)], Some(geo_entry(rows, ""))),
        Layout::Covering => {
            const COVERING: &str = r#","covering":{"bbox":{"xmin":["bbox","xmin"],"ymin":["bbox","ymin"],"xmax":["bbox","xmax"],"ymax":["bbox","ymax"]}}"#;
            (vec![covering(random, rows), wkb(plain)], Some(geo_entry(rows, COVERING)))
        }
        Layout::ParquetGeometry => {
            let (field, array) = wkb(plain);
            (vec![(field.with_metadata(extension("geoarrow.wkb")), array)], None)
        }
        Layout::Wkt => {
            let texts: StringArray = rows.iter().map(|row| row.shape().map(|shape| shape.wkt())).collect();
            (vec![nullable("geometry", Arc::new(texts))], None)
        }
    })
}

fn extension(name: &str) -> std::collections::HashMap<String, String> {
    [("ARROW:extension:name", name), ("ARROW:extension:metadata", "{}")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Boxes of 32 bits, rounded outward, some of them missing.
fn covering(random: &mut StdRng, rows: &[Row]) -> (Field, ArrayRef) {
    let has_gaps = random.random_bool(0.3);
    let boxes: Vec<Option<[f64; 4]>> = rows
        .iter()
        .map(|row| row.shape()?.bounds().filter(|_| !(has_gaps && random.random_bool(0.05))))
        .collect();
    #[expect(clippy::cast_possible_truncation, reason = "rounded outward")]
    let edge = |at: usize, step: fn(f32) -> f32| -> ArrayRef {
        let values = boxes.iter().map(|bounds| bounds.map(|bounds| step(bounds[at] as f32)));
        Arc::new(values.collect::<Float32Array>())
    };
    let columns = vec![
        nullable("xmin", edge(0, f32::next_down)),
        nullable("ymin", edge(1, f32::next_down)),
        nullable("xmax", edge(2, f32::next_up)),
        nullable("ymax", edge(3, f32::next_up)),
    ];
    let nulls = boxes.iter().map(Option::is_some).collect::<Vec<_>>();
    structure("bbox", columns, Some(nulls.into()))
}

/// GeoParquet metadata with the box of the file.
fn geo_entry(rows: &[Row], covering: &str) -> String {
    let bounds = rows.iter().filter_map(|row| row.shape()?.bounds());
    let all = bounds.reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]);
    let bbox = all.map_or(String::new(), |b| format!(r#","bbox":[{},{},{},{}]"#, b[0], b[1], b[2], b[3]));
    format!(
        r#"{{"version":"1.1.0","primary_column":"geometry","columns":{{"geometry":{{"encoding":"WKB","geometry_types":[]{bbox}{covering}}}}}}}"#
    )
}

/// Properties at random, with statistics of some columns and page indexes missing.
fn properties(random: &mut StdRng, geo: Option<String>) -> WriterProperties {
    let mut builder = random_properties(random).into_builder();
    if random.random_bool(0.2) {
        let path =
            ["lon", "lat", "geometry", "place.lon", "geometry.x", "bbox.xmin"][random.random_range(0..6)];
        let path = ColumnPath::new(path.split('.').map(str::to_owned).collect());
        builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
    }
    if random.random_bool(0.1) {
        builder = builder.set_statistics_enabled(EnabledStatistics::None).set_offset_index_disabled(true);
    }
    let entries = geo.map(|geo| vec![KeyValue::new("geo".to_owned(), geo)]);
    builder.set_key_value_metadata(entries).build()
}

/// Writes the files; gives the rows as one batch each, with the columns that a file lacks left out.
fn write_files(dir: &Path, data: &Data, random: &mut StdRng) -> Result<Vec<RecordBatch>> {
    let mut first = 0;
    let mut batches = vec![];
    for (file, rows) in data.files.iter().enumerate() {
        let count = i64::try_from(rows.len())?;
        let ids = Int64Array::from_iter_values(first..first + count);
        let depths: Int32Array =
            rows.iter().map(|_| random.random_bool(0.9).then(|| random.random_range(0..100))).collect();
        let kinds: StringArray = rows.iter().map(|_| Some(["a", "b"][random.random_range(0..2)])).collect();
        let (columns, geo) = geometry_columns(random, data.layout, file, rows)?;
        let mut all = vec![(Field::new("id", DataType::Int64, false), Arc::new(ids) as ArrayRef)];
        all.push(nullable("depth", Arc::new(depths)));
        all.extend(columns);
        all.push(nullable("kind", Arc::new(kinds)));
        for name in ["lon2", "lat2"].iter().filter(|_| data.has_second) {
            let near = |random: &mut StdRng| {
                random
                    .random_bool(0.95)
                    .then(|| file as f64 * 5.0 + on_lattice(random.random_range(-9.0..9.0)))
            };
            let values = rows.iter().map(|_| near(random)).collect::<Vec<_>>();
            all.push(nullable(name, numbers(values.into_iter(), &DataType::Float64)?));
        }
        let (fields, arrays): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        let folder = if data.has_partitions { format!("region=r{file}/") } else { String::new() };
        let path = dir.join(format!("{folder}part-{file}.parquet"));
        write_with(&path, &batch, properties(random, geo))?;
        batches.push(batch);
        first += count;
    }
    Ok(batches)
}

/// All rows together, in the types of the table of files.
fn in_memory(batches: &[RecordBatch], schema: &SchemaRef) -> Result<RecordBatch> {
    let unified = batches
        .iter()
        .enumerate()
        .map(|(file, batch)| {
            let column = |field: &Arc<Field>| -> Result<ArrayRef> {
                let region = || Arc::new(StringArray::from(vec![format!("r{file}"); batch.num_rows()])) as _;
                let column = batch.column_by_name(field.name()).cloned().unwrap_or_else(region);
                Ok(cast(&column, field.data_type())?)
            };
            let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
            Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(concat_batches(schema, &unified)?)
}

/// A predicate between the geometry and an area.
#[derive(Debug, Clone)]
struct Leaf {
    sql: String,
    /// The same with the area in a column `area`.
    column_sql: String,
    name: &'static str,
    /// The geometry is the first argument.
    is_straight: bool,
    /// The geometry is the second one.
    is_second: bool,
    area: Shape,
}

fn leaf(random: &mut StdRng, data: &Data, anchors: &[Position]) -> Leaf {
    let area = any_area(random, anchors, data.span);
    let is_second = data.has_second && random.random_bool(0.3);
    let target = if is_second { "st_point(lon2, lat2)" } else { data.layout.target(random) };
    let constant = match random.random_range(0..6) {
        0 => format!("st_geomfromtext('{}')", area.wkt()),
        1 => {
            let bytes = area.wkb([Wkb::Little, Wkb::Big, Wkb::Extended][random.random_range(0..3)]);
            let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            format!("X'{hex}'")
        }
        _ => format!("'{}'", area.wkt()),
    };
    let is_straight = random.random_bool(0.7);
    let (left, right) = if is_straight { (target, &*constant) } else { (&*constant, target) };
    let name = match random.random_range(0..20) {
        0..6 => "st_within",
        6..9 => "st_intersects",
        9..11 => "st_dwithin",
        _ => PREDICATES[random.random_range(0..PREDICATES.len() - 1)],
    };
    let distance = match name {
        "st_dwithin" => [", 0.0", ", 0.5", ", 3.0", ", 100.0", ", 1e9", ", 1e250"][random.random_range(0..6)],
        _ => "",
    };
    let sql = format!("{name}({left}, {right}{distance})");
    let (left, right) = if is_straight { (target, "area") } else { ("area", target) };
    let column_sql = format!("{name}({left}, {right}{distance})");
    Leaf { sql, column_sql, name, is_straight, is_second, area }
}

fn filter(
    random: &mut StdRng,
    data: &Data,
    anchors: &[Position],
    leaves: &mut Vec<Leaf>,
    depth: u32,
) -> String {
    if depth == 0 || random.random_bool(0.4) {
        let leaf = leaf(random, data, anchors);
        leaves.push(leaf.clone());
        return leaf.sql;
    }
    let inner = filter(random, data, anchors, leaves, depth - 1);
    match random.random_range(0..12) {
        0..3 => format!("({inner} AND {})", filter(random, data, anchors, leaves, depth - 1)),
        3..5 => format!("({inner} OR {})", filter(random, data, anchors, leaves, depth - 1)),
        5 => format!("({inner} AND {})", other(random, data)),
        6 => format!("({} OR {inner})", other(random, data)),
        7..9 => format!("NOT ({inner})"),
        9 => format!("({inner}) IS NULL"),
        10 => format!("({inner}) IS NOT TRUE"),
        _ => format!("({inner}) IS NOT FALSE"),
    }
}

/// A filter over another column.
fn other(random: &mut StdRng, data: &Data) -> String {
    let op = ["<", ">=", "="][random.random_range(0..3)];
    match random.random_range(0..6) {
        5 if data.has_partitions => format!("region {op} 'r1'"),
        0 => format!("id {op} {}", random.random_range(0..600)),
        1 => "depth IS NULL".to_owned(),
        2 => "kind = 'a'".to_owned(),
        3 if data.layout.is_plain() => format!("lon {op} {}", random.random_range(-180..360)),
        3 if data.layout == Layout::StructPoint => format!("place.lat {op} {}", random.random_range(-90..90)),
        _ => format!("depth {op} {}", random.random_range(0..100)),
    }
}

/// What `geo` says of a point in a polygon; `None` where this crate means something else: see "Longitude" of areas.
fn independent(leaf: &Leaf, polygons: &MultiPolygon<f64>, row: &Row) -> Option<bool> {
    let [x, y] = row.point().filter(|[x, _]| x.abs() < 180.0)?;
    // One by one: for a point where two of them meet, `geo` counts boundaries to an even number.
    let is_at =
        |wanted| polygons.iter().any(|polygon| polygon.coordinate_position(&Coord { x, y }) == wanted);
    let (inside, boundary) = (is_at(CoordPos::Inside), is_at(CoordPos::OnBoundary));
    Some(match (leaf.name, leaf.is_straight) {
        ("st_within", true) | ("st_contains", false) => inside,
        ("st_coveredby", true) | ("st_covers", false) | ("st_intersects", _) => inside || boundary,
        ("st_disjoint", _) => !inside && !boundary,
        ("st_touches", _) => boundary,
        ("st_dwithin", _) => return None,
        _ => false,
    })
}

fn check_with_geo(leaf: &Leaf, truth: &[Option<bool>], data: &Data) -> Result<(), String> {
    let Some(polygons) = leaf.area.polygons() else { return Ok(()) };
    let in_range = leaf.area.positions().iter().all(|[x, _]| x.abs() < 180.0);
    if !in_range || !leaf.area.is_as_written() || !polygons.is_valid() {
        return Ok(());
    }
    for (id, (row, truth)) in data.rows().zip(truth).enumerate() {
        if let Some(expected) = independent(leaf, &polygons, row)
            && *truth != Some(expected)
        {
            return Err(format!("{truth:?}, `geo` says {expected}: id {id}, {row:?}: {}", leaf.sql));
        }
    }
    Ok(())
}

/// The predicate where the area comes from a column: another kernel. A constant area tells which of two geometries
/// is turned to the other's longitudes; of columns neither is known to be the area.
fn check_as_column(
    leaf: &Leaf,
    truth: &[Option<bool>],
    data: &Data,
    planner: &Planner,
    rows: &RecordBatch,
) -> Result<()> {
    let is_angle = |shape: &Shape| shape.positions().iter().all(|[x, _]| (-180.0..=360.0).contains(x));
    if !leaf.area.is_as_written() || !is_angle(&leaf.area) {
        return Ok(());
    }
    let areas = StringArray::from(vec![leaf.area.wkt(); rows.num_rows()]);
    let columns = rows.columns().iter().cloned().chain([Arc::new(areas) as ArrayRef]).collect();
    let rows = RecordBatch::try_new(Arc::clone(&planner.schema), columns)?;
    let found = planner.truth(&leaf.column_sql, &rows)?;
    for (id, (row, (found, truth))) in data.rows().zip(found.iter().zip(truth)).enumerate() {
        if found != truth && row.shape().is_none_or(|shape| is_angle(&shape)) {
            let sql = &leaf.sql;
            return Err(format!(
                "{found:?} with the area in a column, else {truth:?}: id {id}, {row:?}: {sql}"
            )
            .into());
        }
    }
    Ok(())
}

/// The rows of which a filter has this value.
fn ids_where(truth: &[Option<bool>], wanted: Option<bool>) -> Vec<i64> {
    (0..).zip(truth).filter(|(_, truth)| **truth == wanted).map(|(id, _)| id).collect()
}

/// In the same order, too: that of the source.
fn same_ids(found: &[i64], expected: &[i64]) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let extra: Vec<_> = found.iter().filter(|id| !expected.contains(id)).take(5).collect();
    let lost: Vec<_> = expected.iter().filter(|id| !found.contains(id)).take(5).collect();
    Err(format!("{} rows, expected {}; extra {extra:?}, lost {lost:?}", found.len(), expected.len()))
}

/// How many questions [`ask`] knows.
const FORMS: u32 = 8;

/// Asks one of several questions with a filter; an error tells what differs.
async fn ask(
    form: u32,
    ctx: &SessionContext,
    table: &str,
    filter: &str,
    truth: &[Option<bool>],
) -> Result<()> {
    let expected = ids_where(truth, Some(true));
    let get = async |sql: String| -> Result<Vec<i64>> {
        let rows = ctx.sql(&sql).await?.collect().await;
        Ok(int64s(&rows.map_err(|error| format!("{error}\n{sql}"))?))
    };
    let check = async |sql: String, expected: Vec<i64>| -> Result<()> {
        let found = get(sql.clone()).await?;
        Ok(same_ids(&found, &expected).map_err(|difference| format!("{difference}\n{sql}"))?)
    };
    let number = |n: usize| i64::try_from(n).unwrap_or(-1);
    match form {
        0 => {
            let sql = format!("SELECT count(*) FROM {table} WHERE {filter}");
            check(sql, vec![number(expected.len())]).await
        }
        1 => {
            let sql = format!("SELECT id FROM {table} WHERE {filter} ORDER BY id LIMIT 5");
            check(sql, expected.into_iter().take(5).collect()).await
        }
        2 => {
            let sql = format!("SELECT id FROM {table} WHERE {filter} ORDER BY id DESC LIMIT 5");
            check(sql, expected.into_iter().rev().take(5).collect()).await
        }
        3 => {
            let sql = format!("SELECT id FROM {table} WHERE {filter} LIMIT 7");
            let found = get(sql.clone()).await?;
            let is_subset = found.iter().all(|id| expected.binary_search(id).is_ok());
            match is_subset && found.len() == expected.len().min(7) {
                true => Ok(()),
                false => Err(format!("{found:?}, expected some of {} rows\n{sql}", expected.len()).into()),
            }
        }
        4 => {
            let sql = format!("SELECT count(*) FROM {table} WHERE {filter} GROUP BY id % 3 ORDER BY id % 3");
            let count = |rest| expected.iter().filter(|id| *id % 3 == rest).count();
            check(sql, (0..3).map(count).filter(|n| *n > 0).map(number).collect()).await
        }
        // The three parts of all rows.
        5 => {
            let asked = [
                (filter.to_owned(), Some(true)),
                (format!("NOT ({filter})"), Some(false)),
                (format!("({filter}) IS NULL"), None),
            ];
            for (part, wanted) in asked {
                check(format!("SELECT id FROM {table} WHERE {part}"), ids_where(truth, wanted)).await?;
            }
            Ok(())
        }
        6 => check(format!("SELECT * FROM {table} WHERE {filter}"), expected).await,
        _ => check(format!("SELECT id FROM {table} WHERE {filter}"), expected).await,
    }
}

const UNITS: [BatchUnit; 4] =
    [BatchUnit::RowGroup, BatchUnit::File, BatchUnit::Rows(7), BatchUnit::Rows(1000)];

/// Which unit is asked about how often: small batches take the longest.
const OFTEN: [usize; 12] = [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 3];

const SETTINGS: [&[(&str, &str)]; 7] = [
    &[],
    &[("odp.max_partitions", "2")],
    &[("odp.finite_coordinates", "true")],
    &[("odp.pruning", "false")],
    &[("odp.pushdown_filters", "false")],
    &[("odp.max_partitions", "0"), ("datafusion.execution.batch_size", "16")],
    &[("odp.max_partitions", "1"), ("odp.max_open_batches", "1"), ("datafusion.execution.batch_size", "3")],
];

/// Queries after which tables are opened anew, and know nothing.
const UNTIL_REOPENED: usize = 40;

async fn compare(seed: u64, cases: usize) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let layout = LAYOUTS[usize::try_from(seed)? % LAYOUTS.len()];
    let data = Data::random(&mut random, layout);
    let dir = tempfile::tempdir()?;
    let batches = write_files(dir.path(), &data, &mut random)?;
    let path = dir.path().to_str().ok_or("temp dir is not UTF-8")?;
    let sessions = SETTINGS.iter().map(|settings| session(2, settings)).collect::<Result<Vec<_>>>()?;
    let schema = OdpTableProvider::open(&sessions[0], path).await?.schema();
    let planners = sessions.iter().map(|ctx| Planner::new(ctx, &schema)).collect::<Result<Vec<_>>>()?;
    let with_area =
        schema.fields().iter().cloned().chain([Arc::new(Field::new("area", DataType::Utf8, true))]);
    let with_area = Planner::new(&sessions[0], &Arc::new(Schema::new(with_area.collect::<Vec<_>>())))?;
    let memory = in_memory(&batches, &schema)?;
    let is_finite = data.rows().all(Row::is_finite);
    // 32-bit coordinates are other ones than those of the rows.
    let is_rounded = layout == Layout::PlainFloat || layout == Layout::PlainMixed;
    let anchors: Vec<Position> = data
        .rows()
        .filter_map(Row::shape)
        .flat_map(|shape| shape.positions())
        .filter(|at| at.iter().all(|value| value.abs() < 1e6))
        .collect();
    let context = format!("seed {seed}, {layout:?}, shapes {}, span {:?}", data.has_shapes, data.span);
    let mut tables: Vec<Arc<OdpTableProvider>> = vec![];
    for case in 0..cases {
        if case % UNTIL_REOPENED == 0 {
            // Or know what one of those before has learnt.
            match (random.random_bool(0.6), tables.get(random.random_range(0..UNITS.len()))) {
                (true, Some(table)) => drop(table.write_snapshot(&sessions[0]).await?),
                _ => drop(std::fs::remove_file(dir.path().join("_odp_snapshot"))),
            }
            tables.clear();
            for (i, unit) in UNITS.into_iter().enumerate() {
                let table = OdpTableProvider::builder(path).with_batch_unit(unit).open(&sessions[0]).await?;
                tables.push(Arc::new(table));
                for session in &sessions {
                    session.deregister_table(format!("t{i}"))?;
                    session.register_table(format!("t{i}"), Arc::clone(&tables[i]) as _)?;
                }
            }
        }
        let mut leaves = vec![];
        let sql = filter(&mut random, &data, &anchors, &mut leaves, 2);
        let (mut settings, unit) =
            (random.random_range(0..SETTINGS.len()), OFTEN[random.random_range(0..OFTEN.len())]);
        if settings == 2 && !is_finite {
            settings = 0;
        }
        let is_checked = random.random_bool(0.25);
        let form = random.random_range(0..500);
        let differs = async || -> Result<()> {
            let truth = planners[0].truth(&sql, &memory)?;
            for leaf in leaves.iter().filter(|leaf| is_checked && !leaf.is_second) {
                let truth = planners[0].truth(&leaf.sql, &memory)?;
                if !is_rounded {
                    check_with_geo(leaf, &truth, &data)?;
                }
                check_as_column(leaf, &truth, &data, &with_area, &memory)?;
            }
            if form < FORMS {
                return ask(form, &sessions[settings], &format!("t{unit}"), &sql, &truth).await;
            }
            let found = planners[settings].ids(&tables[unit], &sql).await?;
            Ok(same_ids(&found, &ids_where(&truth, Some(true)))?)
        };
        differs().await.map_err(|error| {
            format!("{context}, case {case}, {:?}, {:?}: {error}\n{sql}", UNITS[unit], SETTINGS[settings])
        })?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_those_of_the_predicates_whatever_prunes() -> Result<()> {
    let cases: usize = std::env::var("ODP_SPATIAL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    const DATASETS: u64 = 48;
    let each = cases.div_ceil(usize::try_from(DATASETS)?);
    let first = std::env::var("ODP_SPATIAL_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    // Two threads; every dataset is asked about, so that one difference does not hide another.
    let halves = [first, first + 1].map(|start| {
        SpawnedTask::spawn(async move {
            let mut differences = vec![];
            for seed in (start..first + DATASETS).step_by(2) {
                differences.extend(compare(seed, each).await.err().map(|error| error.to_string()));
            }
            differences
        })
    });
    let mut differences = vec![];
    for half in halves {
        differences.extend(half.await?);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    Ok(())
}

/// A coordinate beyond 1e100 makes a point empty: in a row, and in what is learnt of rows.
#[tokio::test]
async fn points_too_far_to_compute_with_stay_empty_when_they_are_known() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (x, y) = (Float64Array::from(vec![1e200, 2e200, 2.0]), Float64Array::from(vec![1.0, 2.0, -1e101]));
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![0, 1, 2])) as ArrayRef),
        ("lon", Arc::new(x)),
        ("lat", Arc::new(y)),
    ])?;
    let unknown = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build();
    write_with(&dir.path().join("a.parquet"), &rows, unknown)?;
    let ctx = session(1, &[])?;
    let table = OdpTableProvider::open(&ctx, dir.path().to_str().ok_or("temp dir is not UTF-8")?).await?;
    let planner = Planner::new(&ctx, &table.schema())?;
    for (filter, expected) in [
        ("st_intersects(st_point(lon, lat), 'POINT(1 1)')", vec![]),
        ("st_equals(st_point(lon, lat), 'POINT EMPTY')", vec![0, 1, 2]),
        ("NOT st_dwithin(st_point(lon, lat), 'POINT(1 1)', 1e250)", vec![0, 1, 2]),
        ("st_dwithin(st_point(lon, lat), 'POINT(1 1)', 1e250)", vec![]),
    ] {
        for turn in 0..2 {
            assert_eq!(planner.ids(&table, filter).await?, expected, "turn {turn}: {filter}");
        }
    }
    Ok(())
}
