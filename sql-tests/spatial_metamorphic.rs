//! Geometries that say the same in other ways get the same answers: other encodings, moved, scaled, mirrored, and with
//! longitudes written in another range.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion_odp::OdpTableProvider;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fixtures::{Result, random_properties, session, write_with};
use crate::planner::Planner;
use crate::shapes::{PREDICATES, Position, Shape, Wkb, any_area, any_shape, on_lattice};

const ROWS: usize = 60;
const AREAS: usize = 12;

/// Shapes of all types, some rows without one, their longitudes from -60 or a little less on.
fn shapes(random: &mut StdRng, longitudes: f64) -> Vec<Option<Shape>> {
    (0..ROWS)
        .map(|_| {
            let at = [random.random_range(-longitudes..longitudes), random.random_range(-60.0..60.0)];
            random.random_bool(0.95).then(|| any_shape(random, at.map(on_lattice)).map(&|at| at.map(short)))
        })
        .collect()
}

/// Few binary digits: so that moving and scaling is exact.
fn short(value: f64) -> f64 {
    (value * 1024.0).round() / 1024.0
}

/// Areas without edges that a constant takes the short way round, and within `reach` of the meridian.
fn areas(random: &mut StdRng, shapes: &[Option<Shape>], reach: f64) -> Vec<Shape> {
    let anchors: Vec<Position> = shapes.iter().flatten().flat_map(|shape| shape.positions()).collect();
    let mut areas = vec![];
    while areas.len() < AREAS {
        let area = any_area(random, &anchors, (-60.0, 60.0)).map(&|at| at.map(short));
        let is_tiny = area.bounds().is_some_and(|b| b[0] == b[2] && !matches!(area, Shape::Point(_)));
        if !is_tiny && area.is_as_written() && area.positions().iter().all(|[x, _]| x.abs() <= reach) {
            areas.push(area);
        }
    }
    areas
}

/// A predicate of a column and an area, in either order.
fn call(predicate: usize, is_straight: bool, column: &str, area: &Shape, distance: f64) -> String {
    let area = format!("'{}'", area.wkt());
    let (left, right) = if is_straight { (column, &*area) } else { (&*area, column) };
    match PREDICATES[predicate] {
        "st_dwithin" => format!("st_dwithin({left}, {right}, {distance:?})"),
        name => format!("{name}({left}, {right})"),
    }
}

fn wkb(shapes: impl Iterator<Item = Option<Shape>>, form: Wkb) -> ArrayRef {
    Arc::new(shapes.map(|shape| shape.map(|shape| shape.wkb(form))).collect::<BinaryArray>())
}

/// A table of files, the same rows in memory, and what plans queries over both.
struct Tables {
    _dir: tempfile::TempDir,
    rows: RecordBatch,
    table: OdpTableProvider,
    planner: Planner,
}

impl Tables {
    /// Columns with the name of their GeoArrow extension.
    async fn new(random: &mut StdRng, columns: Vec<(String, &str, ArrayRef)>) -> Result<Self> {
        let ids = Int64Array::from_iter_values(0..i64::try_from(columns[0].2.len())?);
        let mut fields = vec![Field::new("id", DataType::Int64, false)];
        let mut arrays = vec![Arc::new(ids) as ArrayRef];
        for (name, extension, array) in columns {
            let mut field = Field::new(name, array.data_type().clone(), true);
            if !extension.is_empty() {
                let name = [("ARROW:extension:name".to_owned(), extension.to_owned())];
                field = field.with_metadata(name.into());
            }
            fields.push(field);
            arrays.push(array);
        }
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?;
        let dir = tempfile::tempdir()?;
        write_with(&dir.path().join("a.parquet"), &rows, random_properties(random))?;
        let ctx = session(2, &[])?;
        let table = OdpTableProvider::open(&ctx, dir.path().to_str().ok_or("not UTF-8")?).await?;
        let schema = datafusion::catalog::TableProvider::schema(&table);
        let columns = rows.columns().iter().zip(schema.fields());
        let columns =
            columns.map(|(column, field)| datafusion::arrow::compute::cast(column, field.data_type()));
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<_, _>>()?)?;
        let planner = Planner::new(&ctx, &schema)?;
        Ok(Self { _dir: dir, rows, table, planner })
    }

    fn truth(&self, sql: &str) -> Result<Vec<Option<bool>>> {
        Ok(self.planner.truth(sql, &self.rows).map_err(|error| format!("{error}: {sql}"))?)
    }

    /// That the table of files gives the rows in which the filter is true.
    async fn check_scan(&self, sql: &str, truth: &[Option<bool>], context: &str) -> Result<()> {
        let expected: Vec<i64> =
            (0..).zip(truth).filter(|(_, truth)| **truth == Some(true)).map(|(id, _)| id).collect();
        assert_eq!(self.planner.ids(&self.table, sql).await?, expected, "{context}: {sql}");
        Ok(())
    }
}

fn assert_same(
    left: (&str, &[Option<bool>]),
    right: (&str, &[Option<bool>]),
    shapes: &[Option<Shape>],
    context: &str,
) {
    for (row, (a, b)) in left.1.iter().zip(right.1).enumerate() {
        let shape = shapes[row].as_ref().map(Shape::wkt);
        assert_eq!(a, b, "{context}, {shape:?}:\n{}\n{}", left.0, right.0);
    }
}

/// GeoArrow coordinates.
fn coordinates(positions: &[Position], nulls: Option<NullBuffer>) -> ArrayRef {
    let ordinate = |axis: usize| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(positions.iter().map(|at| at[axis])))
    };
    let fields = ["x", "y"].map(|name| Field::new(name, DataType::Float64, false));
    Arc::new(StructArray::new(Fields::from(fields.to_vec()), vec![ordinate(0), ordinate(1)], nulls))
}

fn list(values: ArrayRef, lengths: impl Iterator<Item = usize>, nulls: Option<NullBuffer>) -> ArrayRef {
    let field = Arc::new(Field::new("item", values.data_type().clone(), false));
    Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), values, nulls))
}

/// The shapes of one type as a GeoArrow column, NULL elsewhere; and its extension.
fn geoarrow(kind: usize, shapes: &[Option<Shape>]) -> (&'static str, ArrayRef) {
    let is_kind = |shape: &Option<Shape>| shape.as_ref().is_some_and(|shape| kind_of(shape) == kind);
    let nulls = || Some(NullBuffer::from(shapes.iter().map(is_kind).collect::<Vec<_>>()));
    let of_kind = |shape: &Option<Shape>| shape.clone().filter(|shape| kind_of(shape) == kind);
    let lists = shapes.iter().map(of_kind);
    match kind {
        0 => {
            let at = |shape: Option<Shape>| match shape {
                Some(Shape::Point(Some(at))) => at,
                _ => [f64::NAN; 2],
            };
            ("geoarrow.point", coordinates(&lists.map(at).collect::<Vec<_>>(), nulls()))
        }
        1 | 3 => {
            let lines: Vec<Vec<Position>> = lists
                .map(|shape| match shape {
                    Some(Shape::Line(list) | Shape::MultiPoint(list)) => list,
                    _ => vec![],
                })
                .collect();
            let lengths = lines.iter().map(Vec::len);
            let name = if kind == 1 { "geoarrow.linestring" } else { "geoarrow.multipoint" };
            (name, list(coordinates(&lines.concat(), None), lengths, nulls()))
        }
        2 | 4 => {
            let parts: Vec<Vec<Vec<Position>>> = lists
                .map(|shape| match shape {
                    Some(Shape::Polygon(list) | Shape::MultiLine(list)) => list,
                    _ => vec![],
                })
                .collect();
            let rings = parts.concat();
            let inner = list(coordinates(&rings.concat(), None), rings.iter().map(Vec::len), None);
            let name = if kind == 2 { "geoarrow.polygon" } else { "geoarrow.multilinestring" };
            (name, list(inner, parts.iter().map(Vec::len), nulls()))
        }
        _ => {
            let polygons: Vec<Vec<Vec<Vec<Position>>>> = lists
                .map(|shape| match shape {
                    Some(Shape::MultiPolygon(list)) => list,
                    _ => vec![],
                })
                .collect();
            let (parts, rings) = (polygons.concat(), polygons.concat().concat());
            let inner = list(coordinates(&rings.concat(), None), rings.iter().map(Vec::len), None);
            let middle = list(inner, parts.iter().map(Vec::len), None);
            ("geoarrow.multipolygon", list(middle, polygons.iter().map(Vec::len), nulls()))
        }
    }
}

/// The types that GeoArrow has a layout for, 0 to 5; 6 for collections.
fn kind_of(shape: &Shape) -> usize {
    match shape {
        Shape::Point(_) => 0,
        Shape::Line(_) => 1,
        Shape::Polygon(_) => 2,
        Shape::MultiPoint(_) => 3,
        Shape::MultiLine(_) => 4,
        Shape::MultiPolygon(_) => 5,
        Shape::Collection(_) => 6,
    }
}

#[tokio::test]
async fn every_encoding_gives_the_same_answers() -> Result<()> {
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let shapes = shapes(&mut random, 180.0);
        let texts: StringArray = shapes.iter().map(|shape| shape.as_ref().map(Shape::wkt)).collect();
        let mut columns = vec![("wkt".to_owned(), "", Arc::new(texts) as ArrayRef)];
        for (name, form) in [("little", Wkb::Little), ("big", Wkb::Big), ("extended", Wkb::Extended)] {
            columns.push((name.to_owned(), "", wkb(shapes.iter().cloned(), form)));
        }
        for kind in 0..6 {
            let (extension, array) = geoarrow(kind, &shapes);
            columns.push((format!("kind{kind}"), extension, array));
        }
        let tables = Tables::new(&mut random, columns).await?;
        for area in areas(&mut random, &shapes, 1e6) {
            let (predicate, is_straight) =
                (random.random_range(0..PREDICATES.len()), random.random_bool(0.7));
            let context = format!("seed {seed}");
            let call = |column: &str| call(predicate, is_straight, column, &area, 3.0);
            let wkt = tables.truth(&call("wkt"))?;
            for name in ["little", "big", "extended"] {
                let found = tables.truth(&call(name))?;
                assert_same((&call("wkt"), &wkt), (&call(name), &found), &shapes, &context);
            }
            for kind in 0..6 {
                let is_kind = |row: usize| shapes[row].as_ref().is_some_and(|shape| kind_of(shape) == kind);
                let expected: Vec<Option<bool>> =
                    (0..).zip(&wkt).map(|(row, truth)| truth.filter(|_| is_kind(row))).collect();
                let name = format!("kind{kind}");
                let found = tables.truth(&call(&name))?;
                assert_same((&call("wkt"), &expected), (&call(&name), &found), &shapes, &context);
                if random.random_bool(0.3) {
                    tables.check_scan(&call(&name), &found, &context).await?;
                }
            }
            let name = ["wkt", "little", "big", "extended"][random.random_range(0..4)];
            tables.check_scan(&call(name), &wkt, &context).await?;
        }
    }
    Ok(())
}

/// Name, what becomes of a position, and what it does to distances.
type Change = (&'static str, fn(Position) -> Position, f64);

const CHANGES: [Change; 8] = [
    ("same", |at| at, 1.0),
    ("moved", |[x, y]| [x + 17.0, y - 40.0], 1.0),
    ("halved", |[x, y]| [x * 0.5, y * 0.5], 0.5),
    ("shrunk", |[x, y]| [x / 1024.0, y / 1024.0], 1.0 / 1024.0),
    ("mirrored_x", |[x, y]| [-x, y], 1.0),
    ("mirrored_y", |[x, y]| [x, -y], 1.0),
    ("turned", |[x, y]| [-x, -y], 1.0),
    ("swapped", |[x, y]| [y, x], 1.0),
];

#[tokio::test]
async fn moved_scaled_and_mirrored_geometries_give_the_same_answers() -> Result<()> {
    for seed in 0..8 {
        let mut random = StdRng::seed_from_u64(seed);
        let shapes = shapes(&mut random, 60.0);
        let column = |(name, change, _): &Change| {
            let changed = shapes.iter().map(|shape| shape.as_ref().map(|shape| shape.map(change)));
            ((*name).to_owned(), "", wkb(changed, Wkb::Little))
        };
        let tables = Tables::new(&mut random, CHANGES.iter().map(column).collect()).await?;
        // Nothing is so wide that a full turn brings it to the other side.
        for area in areas(&mut random, &shapes, 130.0) {
            if area.positions().iter().any(|[_, y]| y.abs() > 130.0) {
                continue;
            }
            let (predicate, is_straight) =
                (random.random_range(0..PREDICATES.len()), random.random_bool(0.7));
            let calls = CHANGES.map(|(name, change, scale)| {
                call(predicate, is_straight, name, &area.map(&change), 3.0 * scale)
            });
            let truths = calls.iter().map(|sql| tables.truth(sql)).collect::<Result<Vec<_>>>()?;
            for (sql, truth) in calls.iter().zip(&truths) {
                assert_same((&calls[0], &truths[0]), (sql, truth), &shapes, &format!("seed {seed}"));
            }
            let one = random.random_range(0..CHANGES.len());
            tables.check_scan(&calls[one], &truths[one], &format!("seed {seed}")).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_full_turn_changes_nothing() -> Result<()> {
    let east = |[x, y]: Position| [x + 360.0, y];
    for seed in 0..8 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut shapes = shapes(&mut random, 180.0);
        for shape in &mut shapes {
            *shape = shape.take().filter(|shape| shape.positions().iter().all(|[x, _]| x.abs() <= 180.0));
        }
        // From 0 to 360: what lies west of 0 is moved.
        let eastern = shapes.iter().map(|shape| {
            let shape = shape.as_ref()?;
            let is_west = shape.positions().iter().all(|[x, _]| *x < 0.0);
            Some(if is_west { shape.map(&east) } else { shape.clone() })
        });
        let columns = vec![
            ("as_written".to_owned(), "", wkb(shapes.iter().cloned(), Wkb::Little)),
            ("eastern".to_owned(), "", wkb(eastern, Wkb::Little)),
        ];
        let tables = Tables::new(&mut random, columns).await?;
        for area in areas(&mut random, &shapes, 180.0) {
            let (predicate, is_straight) =
                (random.random_range(0..PREDICATES.len()), random.random_bool(0.7));
            let call = |name: &str, area: &Shape| call(predicate, is_straight, name, area, 3.0);
            let calls = [
                call("as_written", &area),
                call("eastern", &area),
                call("as_written", &area.map(&east)),
                call("eastern", &area.map(&east)),
            ];
            let truths = calls.iter().map(|sql| tables.truth(sql)).collect::<Result<Vec<_>>>()?;
            for (sql, truth) in calls.iter().zip(&truths) {
                assert_same((&calls[0], &truths[0]), (sql, truth), &shapes, &format!("seed {seed}"));
                if random.random_bool(0.5) {
                    tables.check_scan(sql, truth, &format!("seed {seed}")).await?;
                }
            }
        }
    }
    Ok(())
}
