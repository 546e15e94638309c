//! `contains(a, b)`: of geometries `st_contains`, of text DataFusion's search for a part.
//!
//! The geometries are meant where an argument is of a type that is not text, or is constant text that starts like
//! WKT. Two columns of text are text.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::functions::string;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use std::sync::Arc;

use crate::geo::array::geometry_type;

/// Chooses between two functions by types and constants; plans with geometries hold `st_contains` instead.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ContainsFunction {
    signature: Signature,
    geometries: Arc<ScalarUDF>,
    text: Arc<ScalarUDF>,
}

impl ContainsFunction {
    pub(super) fn new(st_contains: ScalarUDF) -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
            geometries: Arc::new(st_contains),
            text: string::contains(),
        }
    }
}

impl ScalarUDFImpl for ContainsFunction {
    fn name(&self) -> &str {
        "contains"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        if arg_types.iter().any(is_geometry_type) {
            return self.geometries.coerce_types(arg_types);
        }
        if arg_types.len() != 2 {
            return plan_err!("contains got {} arguments, expected 2", arg_types.len());
        }
        let fields: Vec<FieldRef> = arg_types
            .iter()
            .map(|found| Arc::new(Field::new("argument", found.clone(), true)) as _)
            .collect();
        let coerced = fields_with_udf(&fields, self.text.as_ref())?;
        // Whichever is meant, plain text will do.
        Ok(coerced
            .iter()
            .map(|field| geometry_type(field.data_type()).unwrap_or_else(|| field.data_type().clone()))
            .collect())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    /// Reads constant geometries, so that a malformed one is an error of planning.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let of_geometries = args.arg_fields.iter().any(|field| is_geometry_type(field.data_type()))
            || args.scalar_arguments.iter().flatten().any(|constant| is_wkt_constant(constant));
        if of_geometries {
            let checked = self.geometries.return_field_from_args(args);
            checked.map_err(|error| explain(error))?;
        }
        Ok(Arc::new(Field::new(self.name(), DataType::Boolean, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_geometry = |argument: &ColumnarValue| match argument {
            ColumnarValue::Scalar(constant) => {
                is_geometry_type(&constant.data_type()) || is_wkt_constant(constant)
            }
            ColumnarValue::Array(array) => is_geometry_type(array.data_type()),
        };
        match args.args.iter().any(is_geometry) {
            true => self.geometries.invoke_with_args(args),
            false => self.text.invoke_with_args(args),
        }
    }

    /// Puts in the function that is meant, which the scan then can prune by.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let mut of_geometries = false;
        for argument in &args {
            let is_constant = matches!(argument, Expr::Literal(constant, _) if is_wkt_constant(constant));
            of_geometries |= is_constant || is_geometry_type(&info.get_data_type(argument)?);
        }
        let function = if of_geometries { &self.geometries } else { &self.text };
        let call = ScalarFunction::new_udf(Arc::clone(function), args);
        Ok(ExprSimplifyResult::Simplified(Expr::ScalarFunction(call)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.text.documentation()
    }
}

fn explain(error: DataFusionError) -> DataFusionError {
    match error {
        DataFusionError::Plan(message) => DataFusionError::Plan(format!(
            "{message}; contains(…) with text that starts like WKT takes geometries, strpos(text, part) > 0 searches text"
        )),
        other => other,
    }
}

/// Whether the type holds geometries and nothing that DataFusion's `contains` takes.
fn is_geometry_type(data_type: &DataType) -> bool {
    !data_type.is_null() && geometry_type(data_type).is_some_and(|read_as| !read_as.is_string())
}

fn is_wkt_constant(constant: &ScalarValue) -> bool {
    constant.try_as_str().flatten().is_some_and(starts_like_wkt)
}

/// Whether text starts with the type of a geometry, and then with what only WKT has there: `(` or `EMPTY`.
fn starts_like_wkt(text: &str) -> bool {
    const TYPES: [&str; 7] = [
        "POINT",
        "LINESTRING",
        "POLYGON",
        "MULTIPOINT",
        "MULTILINESTRING",
        "MULTIPOLYGON",
        "GEOMETRYCOLLECTION",
    ];
    let mut rest = text.trim_start();
    if let Some((srid, after)) = rest.split_once(';')
        && let Some((name, number)) = srid.split_once('=')
        && name.trim().eq_ignore_ascii_case("SRID")
        && number.trim().bytes().all(|byte| byte.is_ascii_digit())
    {
        rest = after.trim_start();
    }
    let (word, after) = split_word(rest);
    let word = word.to_ascii_uppercase();
    let is_type = |word: &str| TYPES.contains(&word);
    let is_tagged = ["ZM", "Z", "M"].iter().any(|tag| word.strip_suffix(tag).is_some_and(is_type));
    if !is_type(&word) && !is_tagged {
        return false;
    }
    let (word, after_tag) = split_word(after);
    let rest =
        if ["Z", "M", "ZM"].iter().any(|tag| word.eq_ignore_ascii_case(tag)) { after_tag } else { after };
    let (word, _) = split_word(rest);
    rest.starts_with('(') || word.eq_ignore_ascii_case("EMPTY")
}

/// The letters that text starts with, at most as many as matter, and what follows them and blanks.
fn split_word(text: &str) -> (&str, &str) {
    let length = text.bytes().take(32).take_while(u8::is_ascii_alphabetic).count();
    (&text[..length], text[length..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wkt_is_told_from_text_that_starts_alike() {
        for text in [
            "POINT(1 2)",
            " point z (1 2 3)",
            "PolygonZM((",
            "MULTIPOLYGON EMPTY",
            "multipoint m empty",
            "SRID=4326;POINT(1 2)",
            "GEOMETRYCOLLECTION\n(",
        ] {
            assert!(starts_like_wkt(text), "{text}");
        }
        for text in [
            "",
            "POINT",
            "Point Reyes",
            "Points (",
            "POINTLESS(",
            "a POINT(1 2)",
            "SRID=x;POINT(1 2)",
            "(",
            "é",
        ] {
            assert!(!starts_like_wkt(text), "{text}");
        }
    }
}
