//! The ODP filter language: from text and variables to a DataFusion expression. No I/O.
//!
//! The grammar is that of the service's own client, `odp-sdk` 0.26.0, read in the same way: `and` and `or` bind
//! equally, from left to right; `not` binds tighter than everything else; `==` binds less tightly than `<`; no
//! keyword needs a blank after it. `within`, `contains` and `intersect` stand where `==` does.
//!
//! Beyond it, as the live service has it:
//!
//! - `=` is `==`;
//! - `is`, `not` and `null` of a null test may be written in any case (`IS NOT NULL`; `None` only so);
//! - `NOT` in any case is `not`, and binds as that does, so that no column can be called `NOT`;
//! - `intersects`, as a whole word, is `intersect`: a column `s` needs a blank before it, `a intersect s`.
//!
//! # What it means
//!
//! | construct | meaning |
//! |---|---|
//! | NULL | logic is three-valued, and a row matches where the whole is true: `x != 5` and `not (x > 5)` leave out rows in which `x` is NULL |
//! | `x == null` | NULL, so no row; a warning says to write `x is null` |
//! | NaN in a row | unequal to everything, neither less nor greater; `-0.0` equals `0` |
//! | number literals | exact against integers and decimals, however large; the nearest double against floating point |
//! | `+ - *` | exact between whole numbers and decimals, an error beyond 38 digits; otherwise in doubles |
//! | `/` | always in doubles: `3 / 2 == 1.5` |
//! | `%` | the remainder, with the sign of the left side; NULL if the right side is 0 |
//! | texts and numbers | cannot be compared with each other: an error |
//! | text against a time | a literal or variable is read as ISO 8601; a date alone is its midnight |
//! | time zones | a time without an offset, in a row or a constant, is UTC |
//! | `a ~ b` | true for every row, as in the reference, with a warning |
//! | `a !~ b` | an error: the reference has no meaning for it |
//! | `a.b` | the column `a.b`; else member `b` of the struct column `a` |
//! | `h3(…)` | with feature `h3`: the cell of `h3(lat, lon, res)`, of `h3(res)` in the columns that say they are latitude and longitude, or of `h3(geometry, res)` at the centroid |
//! | `subtract(a, b)`, `invert(x)` | `a - b`, `not x`; no other function is known |

#[cfg(test)]
mod cases;
mod language;
mod lower;

use std::collections::BTreeSet;

use log::warn;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::Expr;

use crate::error::OdpError;

pub use language::{FilterDate, FilterTime, FilterTimestamp, FilterValue, FilterVariables};

use language::{FilterError, bind, cut, parse};

/// Warnings of one filter, at most; one more says how many others there are.
const MAX_WARNINGS: usize = 8;

/// A filter in DataFusion's terms.
#[derive(Debug, Clone)]
pub(crate) struct OdpFilter {
    /// Boolean; NULL is no match. Columns are named without a table.
    pub(crate) expr: Expr,
    /// All columns that the text names, those that `expr` turns out not to need included.
    pub(crate) columns: BTreeSet<String>,
    /// What the writer may not have meant.
    pub(crate) warnings: Vec<String>,
}

/// Reads a filter over columns of `schema`. Warnings are logged, too.
///
/// # Errors
/// [`OdpError::Filter`] for a text that is no filter, a column or variable that is not there, operands that do not go
/// together.
pub(crate) fn lower_filter(
    text: &str,
    variables: &FilterVariables,
    schema: &SchemaRef,
) -> Result<OdpFilter, OdpError> {
    let located = |error: FilterError| in_text(error, text);
    let ast = parse(text).map_err(located)?;
    let bound = bind(&ast, variables).map_err(located)?;
    let OdpFilter { expr, columns, mut warnings } = lower::lower(&bound, text, schema).map_err(located)?;
    if let Some(span) = &ast.mixed {
        let place = FilterError::new(span.clone(), "").place(text);
        warnings.insert(
            0,
            format!(
                "`and` and `or` are mixed without parentheses{place}; they bind equally, from left to right: {}",
                cut(&ast.to_string(), 400)
            ),
        );
    }
    if warnings.len() > MAX_WARNINGS {
        let more = warnings.len() - MAX_WARNINGS;
        warnings.truncate(MAX_WARNINGS);
        warnings.push(format!("and {more} more of the kind"));
    }
    for warning in &warnings {
        warn!("filter {:?}: {warning}", cut(text, 120));
    }
    Ok(OdpFilter { expr, columns, warnings })
}

/// The canonical text of a filter in the ODP language: how it is read, with parentheses where that may surprise.
///
/// It parses to the same filter.
///
/// # Errors
/// [`OdpError::Filter`] for a text that is no filter.
///
/// ```
/// # fn main() -> Result<(), datafusion_odp::OdpError> {
/// let text = datafusion_odp::print_filter("depth > 100 OR ok AND name IS NOT NULL")?;
/// assert_eq!(text, "(depth > 100 or ok) and name is not null");
/// # Ok(())
/// # }
/// ```
pub fn print_filter(text: &str) -> Result<String, OdpError> {
    parse(text).map(|ast| ast.to_string()).map_err(|error| in_text(error, text))
}

fn in_text(error: FilterError, text: &str) -> OdpError {
    let (place, diagram) = (error.place(text), error.diagram(text));
    OdpError::Filter { reason: error.reason, span: error.span, place, diagram }
}

fn without_text(reason: String) -> OdpError {
    OdpError::Filter { reason, span: None, place: String::new(), diagram: String::new() }
}

impl FilterVariables {
    /// Reads variables in JSON, as the service takes them: an object of named values, or an array of positional ones.
    ///
    /// A value is a bare JSON scalar, or `{"type": …, "value": …}` with one of the types `string`, `integer`,
    /// `float`, `boolean`, `datetime`, `date` and `time`; the last three hold ISO 8601. `{"type": "integer", "value":
    /// true}` is a boolean, as the service's own client writes it. An object may have positional values under `"0"`,
    /// `"1"` and so on.
    ///
    /// # Errors
    /// [`OdpError::Filter`] for text that is not of this form.
    ///
    /// ```
    /// use datafusion_odp::FilterVariables;
    ///
    /// # fn main() -> Result<(), datafusion_odp::OdpError> {
    /// let variables = FilterVariables::from_json(r#"{"depth": 100, "day": {"type": "date", "value": "2024-01-31"}}"#)?;
    /// assert!(!variables.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_json(text: &str) -> Result<Self, OdpError> {
        Self::read(text).map_err(without_text)
    }
}

impl FilterTimestamp {
    /// Reads ISO 8601: `2024-01-31T12:00:00.5+01:00`. Seconds, fraction and offset may be absent, as may the whole
    /// time, which is midnight then.
    ///
    /// # Errors
    /// [`OdpError::Filter`] for anything else.
    pub fn parse(text: &str) -> Result<Self, OdpError> {
        Self::read(text).map_err(without_text)
    }
}

impl FilterDate {
    /// Reads `2024-01-31`.
    ///
    /// # Errors
    /// [`OdpError::Filter`] for anything else.
    pub fn parse(text: &str) -> Result<Self, OdpError> {
        Self::read(text).map_err(without_text)
    }
}

impl FilterTime {
    /// Reads `12:30`, `12:30:00` or `12:30:00.5`.
    ///
    /// # Errors
    /// [`OdpError::Filter`] for anything else.
    pub fn parse(text: &str) -> Result<Self, OdpError> {
        Self::read(text).map_err(without_text)
    }
}

#[cfg(test)]
mod tests;
