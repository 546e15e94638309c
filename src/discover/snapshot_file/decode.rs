//! The bytes of a snapshot file to facts. Nothing in the file is believed that does not fit the rest of it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, UInt32Array, UInt64Array,
};
use datafusion::arrow::datatypes::{
    DataType, Float64Type, Int64Type, SchemaRef, UInt8Type, UInt32Type, UInt64Type,
};
use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path;
use serde_json::Value;

use super::container::SectionReader;
use super::{BoxError, FileRef, LearntTarget};
use crate::dataset::{Chunk, ColumnBounds, GeometryDescription, LeafBounds, RowGroup};
use crate::discover::facts::{FileEntry, FileFacts, SortedBy};
use crate::discover::geometry::{ColumnAbout, FileColumn, GroupExtent};
use crate::discover::leaves::nested_numbers;
use crate::geo::crs::Crs;
use crate::geo::{BoundingBox, Extent, ExtentFacts, SpatialTarget};

/// What a snapshot file holds; locations are relative to its directory.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) runs: Vec<FileFacts>,
    pub(super) learnt: Vec<LearntTarget>,
}

pub(super) fn decode(file: &Bytes) -> Result<Decoded, BoxError> {
    let (header, sections) = SectionReader::open(file)?;
    let schemas = list(&header["schemas"])?;
    let schemas = schemas.iter().map(|name| sections.read_schema(name)).collect::<Result<Vec<_>, _>>()?;
    let orders = list(&header["orders"])?.iter().map(order).collect::<Result<Vec<_>, _>>()?;
    let abouts = list(&header["columns"])?.iter().map(about).collect::<Result<Vec<_>, _>>()?;
    let shared = Shared { schemas, orders, abouts };
    let mut decoded = Decoded::default();
    for run in list(&header["runs"])? {
        decoded.runs.push(shared.facts(run, &sections)?);
    }
    let num_files = decoded.runs.iter().map(|run| run.files.len()).sum();
    for target in list(&header["learnt"])? {
        decoded.learnt.push(learnt_target(target, &sections, num_files)?);
    }
    Ok(decoded)
}

/// What many files say.
struct Shared {
    schemas: Vec<SchemaRef>,
    orders: Vec<Arc<[SortedBy]>>,
    abouts: Vec<Arc<ColumnAbout>>,
}

impl Shared {
    fn facts(&self, run: &Value, sections: &SectionReader) -> Result<FileFacts, BoxError> {
        let at = run["schema"].as_u64().and_then(|at| usize::try_from(at).ok());
        let schema = at.and_then(|at| self.schemas.get(at)).ok_or("a schema is missing")?;
        let mut files = self.files(&sections.read(&run["files"])?)?;
        let groups = sections.read(&run["row_groups"])?;
        let counts: Vec<usize> = files.iter().map(|file| file.row_groups).collect();
        if counts.iter().try_fold(0usize, |sum, count| sum.checked_add(*count)) != Some(groups.num_rows()) {
            return Err("row groups and files do not fit together".into());
        }
        let columns = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(i, field)| column_bounds(&groups, i, field.data_type()))
            .collect::<Result<_, _>>()?;
        let nested = list(&run["nested"])?
            .iter()
            .enumerate()
            .map(|(i, path)| Ok((texts(path)?, leaf_bounds(&groups, i)?)))
            .collect::<Result<Vec<(Vec<String>, LeafBounds)>, BoxError>>()?;
        let numbers = nested_numbers(schema);
        if !nested.iter().map(|(path, _)| path).eq(numbers.iter().map(|(path, _)| path)) {
            return Err("the numbers inside structs are not those of the schema".into());
        }
        self.add_geometry(&mut files, &sections.read(&run["geometry"])?, &sections.read(&run["extents"])?)?;
        Ok(FileFacts {
            schema: Arc::clone(schema),
            int96: run["int96"].as_str().map(Arc::from),
            files,
            row_groups: row_groups(&groups, &counts)?,
            columns,
            nested,
        })
    }

    fn files(&self, files: &RecordBatch) -> Result<Vec<FileEntry>, BoxError> {
        let (path, tag) = (column(files, "path")?, column(files, "e_tag")?);
        let path = path.as_string_opt::<i32>().ok_or("paths are not text")?;
        let tag = tag.as_string_opt::<i32>().ok_or("tags are not text")?;
        let (size, row_groups) = (u64s(files, "size")?, u64s(files, "row_groups")?);
        let seconds = i64s(files, "modified_s")?;
        let (nanos, order) = (u32s(files, "modified_ns")?, u32s(files, "order")?);
        if path.null_count() + size.null_count() + row_groups.null_count() > 0 {
            return Err("a file without path or size".into());
        }
        let time = |i: usize| -> Option<_> {
            let utc = chrono::DateTime::from_timestamp(seconds.value(i), nanos.value(i))?;
            (seconds.is_valid(i) && nanos.is_valid(i)).then_some(utc)
        };
        (0..files.num_rows())
            .map(|i| {
                let object_meta = ObjectMeta {
                    location: Path::parse(path.value(i))?,
                    last_modified: time(i).ok_or("a file without a time")?,
                    size: size.value(i),
                    e_tag: tag.is_valid(i).then(|| tag.value(i).to_owned()),
                    version: None,
                };
                let sorting = match order.is_valid(i) {
                    true => {
                        let at = usize::try_from(order.value(i))?;
                        Some(Arc::clone(self.orders.get(at).ok_or("an order is missing")?))
                    }
                    false => None,
                };
                let row_groups = usize::try_from(row_groups.value(i))?;
                Ok(FileEntry { object_meta, row_groups, sorting, geometry: Vec::new() })
            })
            .collect()
    }

    fn add_geometry(
        &self,
        files: &mut [FileEntry],
        columns: &RecordBatch,
        extents: &RecordBatch,
    ) -> Result<(), BoxError> {
        let (file, about) = (u32s(columns, "file")?, u32s(columns, "column")?);
        let (boxes, group_boxes) = (Boxes::of(columns)?, Boxes::of(extents)?);
        let is_empty = bools(extents, "is_empty")?;
        let mut next = 0;
        for i in 0..columns.num_rows() {
            let file = files.get_mut(usize::try_from(file.value(i))?).ok_or("a geometry without its file")?;
            let about =
                self.abouts.get(usize::try_from(about.value(i))?).ok_or("a geometry column is missing")?;
            let groups = next..next + file.row_groups;
            if groups.end > extents.num_rows() {
                return Err("an extent is missing".into());
            }
            next = groups.end;
            let extent = |i: usize| match (is_empty.value(i), group_boxes.get(i)) {
                (true, _) => GroupExtent::Empty,
                (false, Some(bbox)) => GroupExtent::Within(bbox),
                (false, None) => GroupExtent::Unknown,
            };
            let column = FileColumn {
                about: Arc::clone(about),
                extent: boxes.get(i),
                extents: groups.map(extent).collect(),
            };
            file.geometry.push(column);
        }
        Ok(())
    }
}

fn row_groups(groups: &RecordBatch, counts: &[usize]) -> Result<Vec<RowGroup>, BoxError> {
    let (rows, offset) = (u64s(groups, "rows")?, u64s(groups, "offset")?);
    let (compressed, uncompressed) = (u64s(groups, "compressed")?, u64s(groups, "uncompressed")?);
    if [&rows, &offset, &compressed, &uncompressed].iter().any(|column| column.null_count() > 0) {
        return Err("a row group without its rows or bytes".into());
    }
    let mut found = Vec::with_capacity(groups.num_rows());
    for count in counts {
        let mut first_row = 0u64;
        for i in found.len()..found.len() + count {
            found.push(RowGroup {
                first_row,
                rows: rows.value(i),
                offset: offset.value(i),
                compressed_bytes: compressed.value(i),
                uncompressed_bytes: uncompressed.value(i),
            });
            first_row = first_row.checked_add(rows.value(i)).ok_or("too many rows")?;
        }
    }
    Ok(found)
}

fn column_bounds(groups: &RecordBatch, i: usize, data_type: &DataType) -> Result<ColumnBounds, BoxError> {
    let bounds = ColumnBounds {
        min: Arc::clone(column(groups, &format!("min.{i}"))?),
        max: Arc::clone(column(groups, &format!("max.{i}"))?),
        min_exact: bools(groups, &format!("min_exact.{i}"))?,
        max_exact: bools(groups, &format!("max_exact.{i}"))?,
        null_counts: u64s(groups, &format!("nulls.{i}"))?,
    };
    let value_type = match data_type {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let is_expected = |found: &DataType| found.is_null() || found == value_type || found == data_type;
    match bounds.min.data_type() == bounds.max.data_type() && is_expected(bounds.min.data_type()) {
        true => Ok(bounds),
        false => Err(format!("bounds of column {i} are {}", bounds.min.data_type()).into()),
    }
}

fn leaf_bounds(groups: &RecordBatch, i: usize) -> Result<LeafBounds, BoxError> {
    let floats = |name: &str| -> Result<Vec<f64>, BoxError> {
        Ok(f64s(groups, &format!("{name}.{i}"))?.values().to_vec())
    };
    Ok(LeafBounds {
        min: floats("nested_min")?,
        max: floats("nested_max")?,
        null_counts: u64s(groups, &format!("nested_nulls.{i}"))?.iter().collect(),
    })
}

/// Boxes in columns.
struct Boxes([Float64Array; 4]);

impl Boxes {
    fn of(batch: &RecordBatch) -> Result<Self, BoxError> {
        let edge = |name: &str| f64s(batch, name);
        Ok(Self([edge("xmin")?, edge("ymin")?, edge("xmax")?, edge("ymax")?]))
    }

    fn get(&self, i: usize) -> Option<BoundingBox> {
        let edge = |column: &Float64Array| column.is_valid(i).then(|| column.value(i));
        let [xmin, ymin, xmax, ymax] = &self.0;
        BoundingBox::from_bounds(edge(xmin)?, edge(ymin)?, edge(xmax)?, edge(ymax)?)
    }
}

fn order(order: &Value) -> Result<Arc<[SortedBy]>, BoxError> {
    let by = |by: &Value| -> Option<SortedBy> {
        Some(SortedBy {
            column: by[0].as_str()?.to_owned(),
            descending: by[1].as_bool()?,
            nulls_first: by[2].as_bool()?,
        })
    };
    let order: Option<Vec<SortedBy>> = list(order)?.iter().map(by).collect();
    Ok(order.ok_or("an order is malformed")?.into())
}

fn about(about: &Value) -> Result<Arc<ColumnAbout>, BoxError> {
    let text = |key: &str| about[key].as_str().map(str::to_owned);
    let crs = text("crs").and_then(|written| {
        let named = Crs::from_json(&serde_json::from_str(&written).ok()?)?;
        Some((written, named))
    });
    Ok(Arc::new(ColumnAbout {
        name: text("name").ok_or("a geometry column without a name")?,
        is_declared: about["is_declared"].as_bool().ok_or("a geometry column of no kind")?,
        description: Arc::new(GeometryDescription {
            encoding: text("encoding"),
            crs: crs.as_ref().map(|(_, crs)| crs.label().to_owned()),
            edges: text("edges"),
            geometry_types: texts(&about["geometry_types"])?,
        }),
        crs,
        curved_edges: text("curved_edges"),
        extension: text("extension"),
    }))
}

fn learnt_target(
    header: &Value,
    sections: &SectionReader,
    num_files: usize,
) -> Result<LearntTarget, BoxError> {
    let named = &header["target"];
    let target = match named["geometry"].is_array() {
        true => SpatialTarget::Geometry { path: texts(&named["geometry"])?.into() },
        false => {
            SpatialTarget::Point { lon: texts(&named["lon"])?.into(), lat: texts(&named["lat"])?.into() }
        }
    };
    let batch = sections.read(&header["chunks"])?;
    let (file, group) = (u32s(&batch, "file")?, u32s(&batch, "row_group")?);
    let (start, end) = (u64s(&batch, "start")?, u64s(&batch, "end")?);
    let kind = column(&batch, "kind")?;
    let kind = kind.as_primitive_opt::<UInt8Type>().ok_or("kinds are not numbers")?;
    let boxes = Boxes::of(&batch)?;
    let chunk = |i: usize| -> Result<(FileRef, usize, Chunk), BoxError> {
        let file = usize::try_from(file.value(i))?;
        if file >= num_files {
            return Err("an extent without its file".into());
        }
        let bits = kind.value(i);
        let extent = match (bits & 3, boxes.get(i)) {
            (1, _) => Extent::Nowhere,
            (2, Some(bbox)) => Extent::Within(bbox),
            _ => Extent::Unknown,
        };
        let facts = ExtentFacts {
            extent,
            may_be_null: bits & 4 != 0,
            may_be_empty: bits & 8 != 0,
            may_be_malformed: bits & 16 != 0,
        };
        let rows: Range<u64> = start.value(i)..end.value(i);
        Ok((FileRef(file), usize::try_from(group.value(i))?, Chunk { rows, facts }))
    };
    let chunks = (0..batch.num_rows()).map(chunk).collect::<Result<_, _>>()?;
    let types: HashMap<String, String> = match &header["types"] {
        Value::Object(types) => types
            .iter()
            .map(|(name, data_type)| {
                Ok((name.clone(), data_type.as_str().ok_or("a type is not text")?.to_owned()))
            })
            .collect::<Result<_, BoxError>>()?,
        _ => return Err("types are missing".into()),
    };
    Ok(LearntTarget { target, types, chunks })
}

fn list(value: &Value) -> Result<&Vec<Value>, BoxError> {
    value.as_array().ok_or_else(|| "a list is missing".into())
}

fn texts(value: &Value) -> Result<Vec<String>, BoxError> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list(value)?.iter().map(text).collect::<Option<_>>().ok_or_else(|| "a name is not text".into())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, BoxError> {
    batch.column_by_name(name).ok_or_else(|| format!("column {name} is missing").into())
}

fn wrong_type(name: &str) -> BoxError {
    format!("column {name} has the wrong type").into()
}

fn u64s(batch: &RecordBatch, name: &str) -> Result<UInt64Array, BoxError> {
    let array = column(batch, name)?.as_primitive_opt::<UInt64Type>();
    Ok(array.ok_or_else(|| wrong_type(name))?.clone())
}

fn u32s(batch: &RecordBatch, name: &str) -> Result<UInt32Array, BoxError> {
    let array = column(batch, name)?.as_primitive_opt::<UInt32Type>();
    Ok(array.ok_or_else(|| wrong_type(name))?.clone())
}

fn i64s(batch: &RecordBatch, name: &str) -> Result<Int64Array, BoxError> {
    let array = column(batch, name)?.as_primitive_opt::<Int64Type>();
    Ok(array.ok_or_else(|| wrong_type(name))?.clone())
}

fn f64s(batch: &RecordBatch, name: &str) -> Result<Float64Array, BoxError> {
    let array = column(batch, name)?.as_primitive_opt::<Float64Type>();
    Ok(array.ok_or_else(|| wrong_type(name))?.clone())
}

fn bools(batch: &RecordBatch, name: &str) -> Result<BooleanArray, BoxError> {
    let array = column(batch, name)?.as_boolean_opt();
    Ok(array.ok_or_else(|| wrong_type(name))?.clone())
}
