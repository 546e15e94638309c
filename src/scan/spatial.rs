//! Spatial predicates as the Parquet reader can use them: with the box of the area in front of the exact test.

use std::sync::Arc;

use datafusion::physical_expr::{PhysicalExpr, split_conjunction};

use crate::geo::SpatialFilter;

/// The conjuncts of `predicate`, each spatial one behind the box it implies on plain coordinate columns.
///
/// The conjunction has the same rows: the boxes are true wherever the spatial predicate is.
pub(crate) fn expand(predicate: &Arc<dyn PhysicalExpr>) -> Vec<Arc<dyn PhysicalExpr>> {
    let mut expanded = Vec::new();
    for conjunct in split_conjunction(predicate) {
        if let Some(filter) = SpatialFilter::try_from_physical(conjunct) {
            expanded.extend(filter.box_conjuncts());
        }
        expanded.push(Arc::clone(conjunct));
    }
    expanded
}
