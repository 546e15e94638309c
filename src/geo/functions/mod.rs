//! The spatial SQL functions: those that make and take apart geometries, and the list of all.
//!
//! With `odp.on_invalid_geometry = 'no_match'` a malformed geometry in a row is NULL to all of them, so that a predicate
//! does not select the row however its arguments are wrapped.

mod accessors;
mod constructors;
mod contains;
mod geometry_function;
#[cfg(feature = "h3")]
mod h3;
mod hilbert;
mod within_distance;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use crate::geo::area_cache::AreaCache;
use crate::geo::predicate::PredicateKind;
use crate::geo::predicate_function::PredicateFunction;

pub(crate) use geometry_function::{FunctionKind, GeometryFunction};
pub(crate) use within_distance::WithinDistanceFunction;

/// All spatial functions of the crate, to be registered with a session.
///
/// `contains` takes the place of DataFusion's string function of this name, and still is that for text.
pub(crate) fn scalar_functions() -> Vec<ScalarUDF> {
    let cache = Arc::new(AreaCache::default());
    let predicates = PredicateKind::ALL
        .map(|kind| ScalarUDF::new_from_impl(PredicateFunction::new(kind, Arc::clone(&cache))));
    let st_contains = PredicateFunction::new(PredicateKind::Contains, Arc::clone(&cache));
    let contains = contains::ContainsFunction::new(ScalarUDF::new_from_impl(st_contains));
    let others = FunctionKind::ALL.map(|kind| ScalarUDF::new_from_impl(GeometryFunction::new(kind)));
    let mut functions: Vec<_> = predicates.into_iter().chain(others).collect();
    functions.push(ScalarUDF::new_from_impl(contains));
    functions.push(ScalarUDF::new_from_impl(hilbert::HilbertFunction::new()));
    functions.push(ScalarUDF::new_from_impl(WithinDistanceFunction::new(cache)));
    #[cfg(feature = "h3")]
    functions.extend(h3::H3Kind::ALL.map(|kind| ScalarUDF::new_from_impl(h3::H3Function::new(kind))));
    functions
}

#[cfg(test)]
mod tests;
