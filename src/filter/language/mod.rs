//! The text of a filter: tokens, tree, canonical form, variables. Depends on `serde_json` only, and on nothing else
//! of the crate, so that the fuzz targets build it alone.
//!
//! Nothing here recurses; [`MAX_DEPTH`] is for those who walk what is made of a tree.

pub(crate) mod ast;
mod bind;
mod error;
mod json;
mod number;
mod parser;
mod print;
#[cfg(test)]
mod sexpr;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod time;
mod token;
mod variables;

pub(crate) use bind::{BoundFilter, Constant, bind};
pub(crate) use error::{FilterError, cut};
pub(crate) use number::{InUnits, Number, steps_in_units};
pub(crate) use parser::parse;
#[cfg(test)]
pub(crate) use sexpr::sexpr;
pub use time::{FilterDate, FilterTime, FilterTimestamp};
pub use variables::{FilterValue, FilterVariables};

/// Longest text of a filter, without its variables.
pub(crate) const MAX_TEXT_BYTES: usize = 1 << 20;

/// Levels of parentheses, `not`, calls, members and chained operators. A chain of `and`, or of `or`, is one level.
pub(crate) const MAX_DEPTH: usize = 64;

/// Columns, values and variables in one filter, each as often as it is written.
pub(crate) const MAX_OPERANDS: usize = 100_000;

/// Bytes of all texts of a filter, where a variable counts each time that it is used.
pub(crate) const MAX_BOUND_BYTES: usize = 256 << 20;
