//! The `geo` entry of a GeoParquet footer: which columns hold geometries, and which cover them with boxes.
//!
//! An entry that breaks the specification is ignored with a warning: it only helps pruning.

use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use serde_json::Value;

use super::bounds::leaf_bounds;
use crate::dataset::Covering;
use crate::geo::BoundingBox;

/// A larger entry is not read.
const MAX_BYTES: usize = 16 << 20;

/// The coverings that the file declares.
pub(crate) fn coverings(footer: &ParquetMetaData, path: &str) -> Vec<Covering> {
    let entries = footer.file_metadata().key_value_metadata();
    let Some(text) = entries.and_then(|e| e.iter().find(|e| e.key == "geo")).and_then(|e| e.value.as_deref())
    else {
        return Vec::new();
    };
    if text.len() > MAX_BYTES {
        log::warn!("{path}: geo metadata of {} bytes is ignored", text.len());
        return Vec::new();
    }
    match serde_json::from_str::<Value>(text) {
        Ok(geo) => match geo.get("columns").and_then(Value::as_object) {
            Some(columns) => columns.iter().filter_map(|(name, column)| covering(name, column)).collect(),
            None => Vec::new(),
        },
        Err(error) => {
            log::warn!("{path}: geo metadata is ignored: {error}");
            Vec::new()
        }
    }
}

fn covering(name: &str, column: &Value) -> Option<Covering> {
    let bbox = column.get("covering")?.get("bbox")?;
    let leaf = |edge: &str| -> Option<Vec<String>> {
        bbox.get(edge)?.as_array()?.iter().map(|part| part.as_str().map(String::from)).collect()
    };
    let file_box = column.get("bbox").and_then(Value::as_array);
    let is_unwrapped = file_box.is_some_and(|edges| {
        // xmin, ymin, (zmin,) xmax, ymax (, zmax)
        let edge = |i: usize| edges.get(i).and_then(Value::as_f64);
        matches!((edge(0), edge(edges.len() / 2)), (Some(xmin), Some(xmax)) if xmin <= xmax)
    });
    Some(Covering {
        column: name.to_owned(),
        xmin: leaf("xmin")?,
        ymin: leaf("ymin")?,
        xmax: leaf("xmax")?,
        ymax: leaf("ymax")?,
        is_unwrapped,
    })
}

/// The extent of each row group by its covering; `None` = may be anywhere.
pub(crate) fn covering_extents(groups: &[RowGroupMetaData], covering: &Covering) -> Vec<Option<BoundingBox>> {
    let edges = [&covering.xmin, &covering.ymin, &covering.xmax, &covering.ymax];
    let [xmin, ymin, xmax, ymax] = edges.map(|path| leaf_bounds(groups, path));
    (0..groups.len())
        .map(|i| {
            let ((west, last_west), (south, _)) = (xmin[i]?, ymin[i]?);
            let ((first_east, east), (_, north)) = (xmax[i]?, ymax[i]?);
            // A box across the antimeridian has its west edge east of its east edge. If no box of the file may
            // be one, the union is the extent; else it may hide one.
            let may_wrap = !covering.is_unwrapped && last_west > first_east;
            let extent = BoundingBox { xmin: west, ymin: south, xmax: east, ymax: north };
            let is_finite = [west, south, east, north].iter().all(|edge| edge.is_finite());
            (!may_wrap && is_finite && west <= east && south <= north).then_some(extent)
        })
        .collect()
}
