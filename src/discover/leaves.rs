//! Statistics of single leaf columns, found by their paths of names: numbers inside structs, edges of boxes.

use std::collections::HashMap;

use datafusion::arrow::datatypes::{DataType, Fields, Schema};
use parquet::basic::{SortOrder, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use crate::dataset::LeafBounds;

/// Structs nested deeper than this are not looked into.
const MAX_DEPTH: usize = 32;

/// Integers beyond this do not fit a float exactly.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// The leaf columns of one file.
#[derive(Debug)]
pub(super) struct FileLeaves<'a> {
    footer: &'a ParquetMetaData,
    /// Position of each leaf by its path; `None` for a path that several leaves have.
    by_path: HashMap<&'a [String], Option<usize>>,
}

impl<'a> FileLeaves<'a> {
    pub(super) fn new(footer: &'a ParquetMetaData) -> Self {
        let columns = footer.file_metadata().schema_descr().columns();
        let mut by_path = HashMap::with_capacity(columns.len());
        for (index, column) in columns.iter().enumerate() {
            by_path.entry(column.path().parts()).and_modify(|found| *found = None).or_insert(Some(index));
        }
        Self { footer, by_path }
    }

    /// The leaf at `path`; `None` if there is not exactly one.
    pub(super) fn find(&self, path: &[String]) -> Option<usize> {
        self.by_path.get(path).copied().flatten()
    }

    /// Whether there is at most one value of the leaf in a row: no list around it.
    pub(super) fn is_single(&self, leaf: usize) -> bool {
        self.footer.file_metadata().schema_descr().column(leaf).max_rep_level() == 0
    }

    pub(super) fn is_float(&self, leaf: usize) -> bool {
        let column = self.footer.file_metadata().schema_descr().column(leaf);
        matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE)
    }

    /// The paths of all leaves, in their order.
    pub(super) fn paths(&self) -> impl Iterator<Item = (usize, &'a [String])> {
        self.footer.file_metadata().schema_descr().columns().iter().map(|c| c.path().parts()).enumerate()
    }

    pub(super) fn row_groups(&self) -> &'a [RowGroupMetaData] {
        self.footer.row_groups()
    }
}

/// Bounds of a column of numbers in one row group; `None` where unknown. Integers that a float cannot hold are
/// rounded outward.
pub(super) fn numeric_bounds(column: &ColumnChunkMetaData) -> Option<(f64, f64)> {
    let is_unsigned = column.column_descr().sort_order() == SortOrder::UNSIGNED;
    let (min, max) = match column.statistics()? {
        Statistics::Double(s) => (*s.min_opt()?, *s.max_opt()?),
        Statistics::Float(s) => (f64::from(*s.min_opt()?), f64::from(*s.max_opt()?)),
        Statistics::Int32(s) if is_unsigned => {
            (f64::from(s.min_opt()?.cast_unsigned()), f64::from(s.max_opt()?.cast_unsigned()))
        }
        Statistics::Int32(s) => (f64::from(*s.min_opt()?), f64::from(*s.max_opt()?)),
        Statistics::Int64(s) if is_unsigned => {
            (s.min_opt()?.cast_unsigned() as f64, s.max_opt()?.cast_unsigned() as f64)
        }
        Statistics::Int64(s) => (*s.min_opt()? as f64, *s.max_opt()? as f64),
        _ => return None,
    };
    let is_integer = matches!(column.statistics(), Some(Statistics::Int64(_)));
    let is_rounded = |bound: f64| is_integer && bound.abs() >= EXACT_INTEGERS;
    let min = if is_rounded(min) { min.next_down() } else { min };
    let max = if is_rounded(max) { max.next_up() } else { max };
    (!min.is_nan() && !max.is_nan()).then_some((min, max))
}

/// Rows in which a column that is not in a list is NULL; `None` if unknown, or a lie.
pub(super) fn null_count(column: &ColumnChunkMetaData, rows: u64) -> Option<u64> {
    if column.column_descr().max_def_level() == 0 {
        return Some(0);
    }
    column.statistics()?.null_count_opt().filter(|nulls| *nulls <= rows)
}

pub(super) fn row_count(group: &RowGroupMetaData) -> u64 {
    u64::try_from(group.num_rows()).unwrap_or(0)
}

/// The numbers inside structs of a file, at any depth, not in lists: their paths, with the bounds of all row groups.
/// `schema`: the Arrow schema of the file.
pub(super) fn nested_bounds(footer: &ParquetMetaData, schema: &Schema) -> Vec<(Vec<String>, LeafBounds)> {
    let paths = nested_numbers(schema);
    if paths.is_empty() {
        return Vec::new();
    }
    let leaves = FileLeaves::new(footer);
    let bounds = |path: &[String]| {
        let leaf = leaves.find(path).filter(|leaf| leaves.is_single(*leaf));
        let mut bounds = LeafBounds::default();
        for group in leaves.row_groups() {
            match leaf.and_then(|leaf| group.columns().get(leaf)) {
                Some(column) => bounds.push(numeric_bounds(column), null_count(column, row_count(group))),
                None => bounds.push(None, None),
            }
        }
        bounds
    };
    paths.into_iter().map(|(path, _)| (path.clone(), bounds(&path))).collect()
}

/// The paths and types of the numbers inside structs of `schema`.
pub(super) fn nested_numbers(schema: &Schema) -> Vec<(Vec<String>, DataType)> {
    let mut found = Vec::new();
    collect_numbers(schema.fields(), &mut Vec::new(), &mut found);
    found
}

/// The bounds of the table's number at `path`, of type `wanted`, in files with `schema` of which `known` are the bounds
/// of all their own; `rows` are those of their row groups.
pub(super) fn in_table_type(
    schema: &Schema,
    known: &[(Vec<String>, LeafBounds)],
    path: &[String],
    wanted: &DataType,
    rows: impl Iterator<Item = u64>,
) -> LeafBounds {
    let each = |nulls: &dyn Fn(u64) -> Option<u64>| {
        let mut bounds = LeafBounds::default();
        rows.for_each(|rows| bounds.push(None, nulls(rows)));
        bounds
    };
    let known = known.iter().find(|(known, _)| known == path);
    match (find_type(schema.fields(), path), known) {
        (Found::Leaf(data_type), Some((_, bounds))) if keeps_numbers(data_type, wanted) => bounds.clone(),
        (Found::Missing, _) => each(&Some),
        _ => each(&|_| None),
    }
}

/// Adds the path and type of each number inside a struct.
fn collect_numbers(fields: &Fields, path: &mut Vec<String>, found: &mut Vec<(Vec<String>, DataType)>) {
    for field in fields {
        let is_ambiguous = fields.iter().filter(|other| other.name() == field.name()).count() > 1;
        if is_ambiguous || path.len() >= MAX_DEPTH {
            continue;
        }
        path.push(field.name().clone());
        match field.data_type() {
            DataType::Struct(children) => collect_numbers(children, path, found),
            number if path.len() > 1 && is_number(number) => found.push((path.clone(), number.clone())),
            _ => {}
        }
        path.pop();
    }
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Float32 | DataType::Float64)
}

/// What a file has at a path.
enum Found<'a> {
    Leaf(&'a DataType),
    /// The column, or a part of the path, is not there: NULL in the table.
    Missing,
    /// Something else, or several columns.
    Unclear,
}

fn find_type<'a>(fields: &'a Fields, path: &[String]) -> Found<'a> {
    let Some((name, rest)) = path.split_first() else { return Found::Unclear };
    let mut named = fields.iter().filter(|field| field.name() == name);
    match (named.next(), named.next()) {
        (None, _) => Found::Missing,
        (Some(_), Some(_)) => Found::Unclear,
        (Some(field), None) => match (field.data_type(), rest.is_empty()) {
            (data_type, true) => Found::Leaf(data_type),
            (DataType::Struct(children), false) => find_type(children, rest),
            _ => Found::Unclear,
        },
    }
}

/// Whether numbers of type `from` in a file are within their bounds as type `to` of the table.
fn keeps_numbers(from: &DataType, to: &DataType) -> bool {
    is_number(from)
        && match to {
            DataType::Float64 => true,
            // Values round to another float, bounds do not.
            DataType::Float32 => {
                matches!(from, DataType::Float32) || (from.is_integer() && from.primitive_width() < Some(4))
            }
            _ => from.is_integer(),
        }
}

/// Whether what bounds the column or field at `path` in a file bounds it in the table, to whose type it is cast.
pub(crate) fn keeps_bounds(file: &Schema, table: &Schema, path: &[String]) -> bool {
    match (find_type(file.fields(), path), find_type(table.fields(), path)) {
        (Found::Leaf(from), Found::Leaf(to)) => keeps_geometries(from, to),
        _ => false,
    }
}

/// Whether geometries, or numbers, of type `from` are the same, or within the same bounds, as type `to`.
pub(super) fn keeps_geometries(from: &DataType, to: &DataType) -> bool {
    use DataType::{Dictionary, FixedSizeList, LargeList, List, Struct};
    match (from, to) {
        (from, to) if from == to => true,
        (Dictionary(_, from), to) => keeps_geometries(from, to),
        (from, Dictionary(_, to)) => keeps_geometries(from, to),
        (from, to) if from.is_string() || to.is_string() => from.is_string() && to.is_string(),
        (from, to) if from.is_binary() || to.is_binary() => from.is_binary() && to.is_binary(),
        (Struct(from), Struct(to)) => from.iter().all(|field| {
            let wanted = to.iter().find(|other| other.name() == field.name());
            wanted.is_none_or(|wanted| keeps_geometries(field.data_type(), wanted.data_type()))
        }),
        (List(from) | LargeList(from), List(to) | LargeList(to))
        | (FixedSizeList(from, _), FixedSizeList(to, _)) => {
            keeps_geometries(from.data_type(), to.data_type())
        }
        _ => keeps_numbers(from, to),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use datafusion::arrow::array::{
        ArrayRef, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch, StructArray, UInt32Array,
    };
    use datafusion::arrow::datatypes::{Field, Int64Type};
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::ParquetMetaDataReader;
    use parquet::file::properties::WriterProperties;

    use super::*;

    fn column(name: &str, array: ArrayRef) -> (Arc<Field>, ArrayRef) {
        (Arc::new(Field::new(name, array.data_type().clone(), true)), array)
    }

    fn footer(rows: &RecordBatch) -> ParquetMetaData {
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
        ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(bytes)).unwrap()
    }

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(String::from).collect()
    }

    fn of_table(table: &Schema, files: &[(&ParquetMetaData, &Schema)]) -> Vec<(Vec<String>, LeafBounds)> {
        let numbers = nested_numbers(table).into_iter();
        numbers
            .map(|(path, wanted)| {
                let parts = files.iter().map(|(footer, schema)| {
                    let rows = footer.row_groups().iter().map(row_count);
                    in_table_type(schema, &nested_bounds(footer, schema), &path, &wanted, rows)
                });
                let bounds = LeafBounds::concat(parts.collect::<Vec<_>>().iter());
                (path, bounds)
            })
            .collect()
    }

    #[test]
    fn numbers_inside_structs_have_bounds_and_missing_ones_are_null() {
        let inner = StructArray::from(vec![
            column("lon", Arc::new(Float64Array::from(vec![Some(1.0), None, Some(f64::NAN), Some(-2.5)]))),
            column("lat", Arc::new(Float32Array::from(vec![Some(3.0), Some(4.0), None, None]))),
            column("count", Arc::new(UInt32Array::from(vec![u32::MAX, 7, 1, 2]))),
            column("big", Arc::new(Int64Array::from(vec![i64::MAX, 0, i64::MIN, 1]))),
            column(
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(vec![Some(vec![Some(1)]); 4])),
            ),
        ]);
        let outer = StructArray::from(vec![column("inner", Arc::new(inner))]);
        let rows = RecordBatch::try_from_iter([
            ("outer", Arc::new(outer) as ArrayRef),
            ("plain", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ])
        .unwrap();
        let other = RecordBatch::try_from_iter([("plain", rows.column(1).slice(0, 1))]).unwrap();
        let (first, second) = (footer(&rows), footer(&other));
        let schema = rows.schema();
        let files = [(&first, schema.as_ref()), (&second, other.schema_ref().as_ref())];
        let found: HashMap<_, _> = of_table(&schema, &files).into_iter().collect();
        assert_eq!(found.len(), 4, "{found:?}");

        let lon = &found[&path("outer.inner.lon")];
        assert_eq!((lon.min[0], lon.max[0], lon.min[1], lon.max[1]), (1.0, 1.0, -2.5, -2.5));
        assert!(lon.min[2].is_nan() && lon.max[2].is_nan());
        assert_eq!(lon.null_counts, [Some(1), Some(0), Some(1)]);
        let lat = &found[&path("outer.inner.lat")];
        assert_eq!((lat.min[0], lat.max[0]), (3.0, 4.0));
        assert!(lat.min[1].is_nan());
        assert_eq!(lat.null_counts, [Some(0), Some(2), Some(1)]);
        let count = &found[&path("outer.inner.count")];
        assert_eq!((count.min[0], count.max[0]), (7.0, f64::from(u32::MAX)));
        let big = &found[&path("outer.inner.big")];
        assert!(big.max[0] >= 9_223_372_036_854_775_807.0 && big.min[1] < -9_223_372_036_854_775_808.0);
    }

    #[test]
    fn numbers_of_other_types_are_unknown() {
        let leaf: ArrayRef = Arc::new(Float64Array::from(vec![1.5]));
        let rows = RecordBatch::try_from_iter([(
            "s",
            Arc::new(StructArray::from(vec![column("a", leaf)])) as ArrayRef,
        )])
        .unwrap();
        let footer = footer(&rows);
        for declared in [DataType::Int64, DataType::Float32] {
            let fields = Fields::from(vec![Field::new("a", declared.clone(), true)]);
            let table = Schema::new(vec![Field::new("s", DataType::Struct(fields), true)]);
            let found = of_table(&table, &[(&footer, rows.schema_ref().as_ref())]);
            assert!(found[0].1.min[0].is_nan(), "{declared}");
            assert_eq!(found[0].1.null_counts, [None], "{declared}");
        }
    }
}
