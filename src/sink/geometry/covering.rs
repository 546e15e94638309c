//! Columns with the box of each geometry: made, or found among the rows and checked.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Float64Array, StructArray};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::common::{Result, plan_err};

use crate::geo::{GeometryArray, RowBoxes, box_places};

/// A column of boxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Covering {
    /// Added behind the others.
    Made(String),
    /// A column of the rows, by its name and place.
    Found(String, usize),
}

const EDGES: [&str; 4] = ["xmin", "ymin", "xmax", "ymax"];

impl Covering {
    /// The covering of the geometry column `geometry` among the columns of `schema`, by the names that writers give
    /// it; `bbox` is that of the primary column.
    pub(super) fn find(schema: &Schema, geometry: &str, is_primary: bool) -> Option<Self> {
        let own = format!("{geometry}_bbox");
        let names = [Some(own), is_primary.then(|| "bbox".to_owned())];
        names.into_iter().flatten().find_map(|name| {
            let mut places = schema.fields().iter().enumerate().filter(|(_, field)| *field.name() == name);
            let (index, field) = places.next()?;
            (places.next().is_none() && is_covering(field)).then_some(Self::Found(name, index))
        })
    }

    /// A covering to be added; `None` if `schema` has something else by its name.
    pub(super) fn make(schema: &Schema, geometry: &str, is_primary: bool) -> Option<Self> {
        let name = if is_primary { "bbox".to_owned() } else { format!("{geometry}_bbox") };
        schema.column_with_name(&name).is_none().then_some(Self::Made(name))
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Made(name) | Self::Found(name, _) => name,
        }
    }
}

/// Whether values of the field are boxes as GeoParquet has them.
fn is_covering(field: &Field) -> bool {
    let DataType::Struct(edges) = field.data_type() else { return false };
    EDGES.iter().all(|edge| {
        let mut found = edges.iter().filter(|field| field.name() == edge);
        let is_float =
            |field: &Arc<Field>| matches!(field.data_type(), DataType::Float32 | DataType::Float64);
        found.next().is_some_and(is_float) && found.next().is_none()
    }) && box_places(field.data_type()).is_some()
}

/// The field of a covering that is made.
pub(super) fn field(name: &str) -> Field {
    Field::new(name, DataType::Struct(edge_fields()), true)
}

fn edge_fields() -> Fields {
    EDGES.iter().map(|edge| Field::new(*edge, DataType::Float64, true)).collect()
}

/// The boxes as a column; NULL for rows without one.
pub(super) fn make_column(boxes: &RowBoxes) -> Result<ArrayRef> {
    let column = |edge: &_| Arc::new(Float64Array::new(Clone::clone(edge), boxes.nulls.clone())) as ArrayRef;
    let columns = boxes.edges.iter().map(column).collect();
    Ok(Arc::new(StructArray::try_new(edge_fields(), columns, boxes.nulls.clone())?))
}

/// Whether the column has in each row a box that holds the geometry's.
pub(super) fn holds(column: &ArrayRef, boxes: &RowBoxes) -> Result<bool> {
    let covering = GeometryArray::try_new(column)?;
    let GeometryArray::Boxes { bounds: [xmin, ymin, xmax, ymax], nulls } = &covering else {
        return plan_err!("found {}, expected a struct of xmin, ymin, xmax and ymax", column.data_type());
    };
    let [west, south, east, north] = boxes.edges.each_ref();
    let is_held = |row: usize| {
        nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
            && xmin.value(row) <= west[row]
            && ymin.value(row) <= south[row]
            && xmax.value(row) >= east[row]
            && ymax.value(row) >= north[row]
    };
    Ok(match &boxes.nulls {
        None => (0..column.len()).all(is_held),
        Some(known) => known.valid_indices().all(is_held),
    })
}
