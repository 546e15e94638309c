//! Facts to the bytes of a snapshot file.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt8Array, UInt32Array,
    UInt64Array,
};
use datafusion::arrow::datatypes::SchemaRef;
use serde_json::{Value, json};

use super::container::SectionWriter;
use super::{BoxError, FileRef, LearntTarget};
use crate::discover::facts::{FileEntry, FileFacts, SortedBy};
use crate::discover::geometry::{ColumnAbout, GroupExtent};
use crate::geo::{BoundingBox, Extent, SpatialTarget};

/// A snapshot file of `runs`; `paths` are those of all files, relative to the file's directory.
pub(super) fn encode(
    runs: &[FileFacts],
    paths: &[String],
    learnt: &[LearntTarget],
) -> Result<Vec<u8>, BoxError> {
    let mut sections = SectionWriter::default();
    let mut shared = Shared::default();
    let mut described = Vec::with_capacity(runs.len());
    let mut first = 0;
    for facts in runs {
        let paths = &paths[first..first + facts.files.len()];
        first += facts.files.len();
        let schema = shared.schema(&facts.schema, &mut sections)?;
        described.push(json!({
            "schema": schema,
            "int96": facts.int96.as_deref(),
            "files": sections.push(&files(facts, paths, &mut shared)?)?,
            "row_groups": sections.push(&row_groups(facts)?)?,
            "nested": facts.nested.iter().map(|(path, _)| path).collect::<Vec<_>>(),
            "geometry": sections.push(&geometry(facts, &mut shared)?)?,
            "extents": sections.push(&extents(facts)?)?,
        }));
    }
    let learnt =
        learnt.iter().map(|target| learnt_target(target, &mut sections)).collect::<Result<Vec<_>, _>>()?;
    let header = json!({
        "schemas": shared.schemas,
        "orders": shared.orders.iter().map(|order| order_json(order)).collect::<Vec<_>>(),
        "columns": shared.abouts.iter().map(|about| about_json(about)).collect::<Vec<_>>(),
        "runs": described,
        "learnt": learnt,
    });
    sections.finish(&header)
}

/// What many files say, written once.
#[derive(Default)]
struct Shared {
    schemas: Vec<Value>,
    schema_positions: HashMap<SchemaRef, usize>,
    orders: Vec<Arc<[SortedBy]>>,
    abouts: Vec<Arc<ColumnAbout>>,
}

impl Shared {
    fn schema(&mut self, schema: &SchemaRef, sections: &mut SectionWriter) -> Result<usize, BoxError> {
        if let Some(at) = self.schema_positions.get(schema) {
            return Ok(*at);
        }
        let at = self.schemas.len();
        self.schemas.push(sections.push_schema(schema)?);
        self.schema_positions.insert(Arc::clone(schema), at);
        Ok(at)
    }

    fn order(&mut self, order: &Arc<[SortedBy]>) -> Result<u32, BoxError> {
        position(&mut self.orders, order)
    }

    fn about(&mut self, about: &Arc<ColumnAbout>) -> Result<u32, BoxError> {
        position(&mut self.abouts, about)
    }
}

fn position<T: PartialEq + ?Sized>(known: &mut Vec<Arc<T>>, wanted: &Arc<T>) -> Result<u32, BoxError> {
    // Mostly the last one, or the same.
    let at = known.iter().rposition(|known| Arc::ptr_eq(known, wanted) || known == wanted);
    let at = at.unwrap_or_else(|| {
        known.push(Arc::clone(wanted));
        known.len() - 1
    });
    Ok(u32::try_from(at)?)
}

fn order_json(order: &[SortedBy]) -> Value {
    order.iter().map(|by| json!([by.column, by.descending, by.nulls_first])).collect()
}

fn about_json(about: &ColumnAbout) -> Value {
    let description = &about.description;
    json!({
        "name": about.name,
        "is_declared": about.is_declared,
        "encoding": description.encoding,
        "edges": description.edges,
        "geometry_types": description.geometry_types,
        "crs": about.crs.as_ref().map(|(written, _)| written),
        "curved_edges": about.curved_edges,
        "extension": about.extension,
    })
}

/// One row per file.
fn files(facts: &FileFacts, paths: &[String], shared: &mut Shared) -> Result<RecordBatch, BoxError> {
    let each = |value: &dyn Fn(&FileEntry) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(facts.files.iter().map(value)))
    };
    let modified = facts.files.iter().map(|file| file.object_meta.last_modified);
    let order = |file: &FileEntry| file.sorting.as_ref().map(|order| shared.order(order)).transpose();
    let orders: Vec<Option<u32>> = facts.files.iter().map(order).collect::<Result<_, _>>()?;
    let counts = facts.files.iter().map(|file| file.row_groups as u64);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("path", Arc::new(StringArray::from_iter_values(paths))),
        ("size", each(&|file| file.object_meta.size)),
        ("modified_s", Arc::new(Int64Array::from_iter_values(modified.clone().map(|time| time.timestamp())))),
        (
            "modified_ns",
            Arc::new(UInt32Array::from_iter_values(modified.map(|time| time.timestamp_subsec_nanos()))),
        ),
        (
            "e_tag",
            Arc::new(
                facts.files.iter().map(|file| file.object_meta.e_tag.as_deref()).collect::<StringArray>(),
            ),
        ),
        ("row_groups", Arc::new(UInt64Array::from_iter_values(counts))),
        ("order", Arc::new(UInt32Array::from(orders))),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )?)
}

/// One row per row group of all files.
fn row_groups(facts: &FileFacts) -> Result<RecordBatch, BoxError> {
    let mut columns: Vec<(String, ArrayRef)> = Vec::with_capacity(4 + 5 * facts.columns.len());
    let groups = || facts.row_groups.iter();
    let mut number = |name: &str, values: UInt64Array| columns.push((name.to_owned(), Arc::new(values)));
    number("rows", groups().map(|group| Some(group.rows)).collect());
    number("offset", groups().map(|group| Some(group.offset)).collect());
    number("compressed", groups().map(|group| Some(group.compressed_bytes)).collect());
    number("uncompressed", groups().map(|group| Some(group.uncompressed_bytes)).collect());
    for (i, column) in facts.columns.iter().enumerate() {
        columns.push((format!("min.{i}"), Arc::clone(&column.min)));
        columns.push((format!("max.{i}"), Arc::clone(&column.max)));
        columns.push((format!("min_exact.{i}"), Arc::new(column.min_exact.clone())));
        columns.push((format!("max_exact.{i}"), Arc::new(column.max_exact.clone())));
        columns.push((format!("nulls.{i}"), Arc::new(column.null_counts.clone())));
    }
    for (i, (_, leaf)) in facts.nested.iter().enumerate() {
        let floats = |values: &[f64]| -> ArrayRef { Arc::new(Float64Array::from(values.to_vec())) };
        columns.push((format!("nested_min.{i}"), floats(&leaf.min)));
        columns.push((format!("nested_max.{i}"), floats(&leaf.max)));
        let nulls: UInt64Array = leaf.null_counts.iter().copied().collect();
        columns.push((format!("nested_nulls.{i}"), Arc::new(nulls)));
    }
    Ok(RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )?)
}

/// Boxes in columns.
#[derive(Default)]
struct Boxes {
    edges: [Vec<Option<f64>>; 4],
}

impl Boxes {
    fn push(&mut self, bbox: Option<&BoundingBox>) {
        let values = bbox.map(|b| [b.xmin, b.ymin, b.xmax, b.ymax]);
        for (i, edge) in self.edges.iter_mut().enumerate() {
            edge.push(values.map(|values| values[i]));
        }
    }

    fn columns(self) -> impl Iterator<Item = (&'static str, ArrayRef)> {
        let arrays = self.edges.map(|edge| Arc::new(Float64Array::from(edge)) as ArrayRef);
        ["xmin", "ymin", "xmax", "ymax"].into_iter().zip(arrays)
    }
}

/// One row per geometry column of each file.
fn geometry(facts: &FileFacts, shared: &mut Shared) -> Result<RecordBatch, BoxError> {
    let (mut file, mut about, mut boxes) = (Vec::new(), Vec::new(), Boxes::default());
    for (index, entry) in facts.files.iter().enumerate() {
        for column in &entry.geometry {
            file.push(u32::try_from(index)?);
            about.push(shared.about(&column.about)?);
            boxes.push(column.extent.as_ref());
        }
    }
    let columns: Vec<(&str, ArrayRef)> =
        vec![("file", Arc::new(UInt32Array::from(file))), ("column", Arc::new(UInt32Array::from(about)))];
    let columns = columns.into_iter().chain(boxes.columns());
    Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))?)
}

/// One row per row group of each geometry column of each file.
fn extents(facts: &FileFacts) -> Result<RecordBatch, BoxError> {
    let (mut is_empty, mut boxes) = (Vec::new(), Boxes::default());
    let columns = facts.files.iter().flat_map(|file| &file.geometry);
    for extent in columns.flat_map(|column| &column.extents) {
        is_empty.push(*extent == GroupExtent::Empty);
        boxes.push(match extent {
            GroupExtent::Within(bbox) => Some(bbox),
            _ => None,
        });
    }
    let first: (&str, ArrayRef) = ("is_empty", Arc::new(BooleanArray::from(is_empty)));
    let columns = std::iter::once(first).chain(boxes.columns());
    Ok(RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))?)
}

fn learnt_target(learnt: &LearntTarget, sections: &mut SectionWriter) -> Result<Value, BoxError> {
    let target = match &learnt.target {
        SpatialTarget::Point { lon, lat } => json!({ "lon": lon.as_ref(), "lat": lat.as_ref() }),
        SpatialTarget::Geometry { path } => json!({ "geometry": path.as_ref() }),
    };
    let (mut files, mut groups) = (Vec::new(), Vec::new());
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    let (mut kinds, mut boxes) = (Vec::new(), Boxes::default());
    for (FileRef(file), group, chunk) in &learnt.chunks {
        files.push(u32::try_from(*file)?);
        groups.push(u32::try_from(*group)?);
        starts.push(chunk.rows.start);
        ends.push(chunk.rows.end);
        let facts = &chunk.facts;
        let extent = match &facts.extent {
            Extent::Unknown => 0,
            Extent::Nowhere => 1,
            Extent::Within(_) => 2,
        };
        let flags = [facts.may_be_null, facts.may_be_empty, facts.may_be_malformed];
        kinds.push(
            flags.iter().enumerate().fold(extent, |kind, (i, flag)| kind | (u8::from(*flag) << (2 + i))),
        );
        boxes.push(match &facts.extent {
            Extent::Within(bbox) => Some(bbox),
            _ => None,
        });
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("file", Arc::new(UInt32Array::from(files))),
        ("row_group", Arc::new(UInt32Array::from(groups))),
        ("start", Arc::new(UInt64Array::from(starts))),
        ("end", Arc::new(UInt64Array::from(ends))),
        ("kind", Arc::new(UInt8Array::from(kinds))),
    ];
    let columns = columns.into_iter().chain(boxes.columns());
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))?;
    Ok(json!({ "target": target, "types": learnt.types, "chunks": sections.push(&batch)? }))
}
