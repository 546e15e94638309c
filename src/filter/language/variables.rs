//! The values of `$name` and `?`, in Rust and in the forms of the service.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::cut;
use super::json::{self, Json};
use super::time::{FilterDate, FilterTime, FilterTimestamp};

/// The values of the variables in an ODP filter: named ones for `$name`, positional ones for `?`.
///
/// Values are data, whatever they hold: a text needs no quotes or escapes and is never read as part of a filter.
/// Those that a filter does not use are ignored.
///
/// ```
/// use datafusion_odp::FilterVariables;
///
/// let mut variables = FilterVariables::default();
/// variables.set("area", "POLYGON((4 51, 9 51, 9 58, 4 58, 4 51))").set("depth", 100);
/// assert_eq!(
///     variables.to_json(),
///     r#"{"area":{"type":"string","value":"POLYGON((4 51, 9 51, 9 58, 4 58, 4 51))"},"depth":{"type":"integer","value":100}}"#
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FilterVariables {
    pub(crate) named: BTreeMap<String, FilterValue>,
    pub(crate) positional: Vec<FilterValue>,
}

/// The value of a variable in an ODP filter.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FilterValue {
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A whole number that only fits without a sign.
    Unsigned(u64),
    /// A number. NaN and the infinities are errors where a filter uses them.
    Float(f64),
    /// A text; WKT of an area, too.
    Text(String),
    /// A date and a time of day.
    Timestamp(FilterTimestamp),
    /// A date.
    Date(FilterDate),
    /// A time of day.
    Time(FilterTime),
    /// No value: an error where a filter uses it.
    Null,
}

impl FilterVariables {
    /// Sets the value of `$name`, without the `$`.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<FilterValue>) -> &mut Self {
        self.named.insert(name.into(), value.into());
        self
    }

    /// Adds the value of the next `?`.
    pub fn push(&mut self, value: impl Into<FilterValue>) -> &mut Self {
        self.positional.push(value.into());
        self
    }

    /// Whether there is no value at all.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.positional.is_empty()
    }

    /// The typed form of the service, which [`Self::from_json`] reads: an object of named values, or an array of
    /// positional ones. Where there are both, it is an object in which the positional ones are `"0"`, `"1"` and so on.
    pub fn to_json(&self) -> String {
        let has_names = self.named.keys().any(|name| position_of(name).is_none());
        if !has_names && !self.positional.is_empty() {
            return Value::Array(self.positional.iter().map(FilterValue::to_wire).collect()).to_string();
        }
        // A number is no name that a filter can use, and would be read as a position.
        let named = self.named.iter().filter(|(name, _)| position_of(name).is_none());
        let named = named.map(|(name, value)| (name.clone(), value.to_wire()));
        let positional = self.positional.iter().enumerate();
        let positional = positional.map(|(index, value)| (index.to_string(), value.to_wire()));
        Value::Object(positional.chain(named).collect::<Map<_, _>>()).to_string()
    }

    /// As the crate's `from_json`, with the reason of an error alone.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let json = json::read(text)?;
        let mut variables = Self::default();
        match json {
            Json::Null => {}
            Json::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    let value = FilterValue::from_wire(value);
                    variables.positional.push(value.map_err(|reason| format!("variable {index}: {reason}"))?);
                }
            }
            Json::Object(values) => {
                let mut positional = BTreeMap::new();
                for (name, value) in &values {
                    let of_name = |reason| format!("variable {:?}: {reason}", cut(name, 40));
                    let value = FilterValue::from_wire(value).map_err(of_name)?;
                    match position_of(name) {
                        Some(index) => {
                            positional.insert(index, value);
                        }
                        None => {
                            variables.named.insert(name.clone(), value);
                        }
                    }
                }
                for (expected, (index, value)) in positional.into_iter().enumerate() {
                    if index != expected {
                        return Err(format!("variable {index}: there is no variable {expected} before it"));
                    }
                    variables.positional.push(value);
                }
            }
            other => {
                let found = cut(&other.to_string(), 40);
                return Err(format!("expected an object or an array of variables, found {found}"));
            }
        }
        Ok(variables)
    }
}

/// The position that a name in JSON stands for: `"0"`, `"1"` and so on.
fn position_of(name: &str) -> Option<usize> {
    name.parse().ok().filter(|index: &usize| index.to_string() == name)
}

impl FilterValue {
    /// Reads a bare value, or `{"type": …, "value": …}`.
    fn from_wire(json: &Json) -> Result<Self, String> {
        let found = || cut(&json.to_string(), 40);
        match json {
            Json::Object(members) => match members.as_slice() {
                [(a, Json::Text(kind)), (b, value)] | [(b, value), (a, Json::Text(kind))]
                    if a == "type" && b == "value" =>
                {
                    Self::typed(kind, value)
                }
                _ => Err("expected a value or {\"type\": …, \"value\": …}, found another object".to_owned()),
            },
            Json::Null => Ok(Self::Null),
            Json::Boolean(value) => Ok(Self::Boolean(*value)),
            Json::Text(text) => Ok(Self::Text(text.clone())),
            Json::Number(number) => {
                let is_whole = number.bytes().all(|b| b.is_ascii_digit() || b == b'-');
                // The nearest double would be another whole number.
                let double = || number.parse().ok().filter(|_| !is_whole).map(Self::Float);
                Self::integer(number).or_else(double).ok_or_else(|| format!("found {}", found()))
            }
            Json::Array(_) => Err(format!("expected a single value, found {}", found())),
        }
    }

    fn typed(kind: &str, json: &Json) -> Result<Self, String> {
        let value = match (kind, json) {
            (_, Json::Null) => Some(Self::Null),
            ("string", Json::Text(text)) => Some(Self::Text(text.clone())),
            // The service's own client writes booleans as integers.
            ("boolean" | "integer", Json::Boolean(value)) => Some(Self::Boolean(*value)),
            // As texts from clients without integers of 64 bits.
            ("integer", Json::Number(number) | Json::Text(number)) => Self::integer(number),
            ("float", Json::Number(number)) => number.parse().ok().map(Self::Float),
            ("float", Json::Text(text)) => match text.as_str() {
                "NaN" => Some(Self::Float(f64::NAN)),
                "Infinity" => Some(Self::Float(f64::INFINITY)),
                "-Infinity" => Some(Self::Float(f64::NEG_INFINITY)),
                _ => None,
            },
            ("datetime", Json::Text(text)) => return FilterTimestamp::read(text).map(Self::Timestamp),
            ("date", Json::Text(text)) => return FilterDate::read(text).map(Self::Date),
            ("time", Json::Text(text)) => return FilterTime::read(text).map(Self::Time),
            ("string" | "integer" | "float" | "boolean" | "datetime" | "date" | "time", _) => None,
            (other, _) => {
                return Err(format!(
                    "expected one of the types string, integer, float, boolean, datetime, date and time, found {:?}",
                    cut(other, 40)
                ));
            }
        };
        value.ok_or_else(|| format!("expected a value of type {kind}, found {}", cut(&json.to_string(), 40)))
    }

    fn integer(text: &str) -> Option<Self> {
        text.parse().map(Self::Integer).ok().or(text.parse().map(Self::Unsigned).ok())
    }

    fn to_wire(&self) -> Value {
        let (kind, value) = match self {
            Self::Boolean(value) => ("boolean", json!(value)),
            Self::Integer(value) => ("integer", json!(value)),
            Self::Unsigned(value) => ("integer", json!(value)),
            Self::Float(value) if value.is_nan() => ("float", json!("NaN")),
            Self::Float(value) if value.is_infinite() => {
                ("float", json!(if *value < 0.0 { "-Infinity" } else { "Infinity" }))
            }
            Self::Float(value) => ("float", json!(value)),
            Self::Text(value) => ("string", json!(value)),
            Self::Timestamp(value) => ("datetime", json!(value.to_string())),
            Self::Date(value) => ("date", json!(value.to_string())),
            Self::Time(value) => ("time", json!(value.to_string())),
            Self::Null => return Value::Null,
        };
        json!({ "type": kind, "value": value })
    }
}

macro_rules! from {
    ($($from:ty => |$value:ident| $into:expr;)*) => {
        $(impl From<$from> for FilterValue {
            fn from($value: $from) -> Self {
                $into
            }
        })*
    };
}

from! {
    bool => |value| Self::Boolean(value);
    i8 => |value| Self::Integer(value.into());
    i16 => |value| Self::Integer(value.into());
    i32 => |value| Self::Integer(value.into());
    i64 => |value| Self::Integer(value);
    u8 => |value| Self::Integer(value.into());
    u16 => |value| Self::Integer(value.into());
    u32 => |value| Self::Integer(value.into());
    u64 => |value| i64::try_from(value).map_or(Self::Unsigned(value), Self::Integer);
    f32 => |value| Self::Float(value.into());
    f64 => |value| Self::Float(value);
    &str => |value| Self::Text(value.to_owned());
    String => |value| Self::Text(value);
    &String => |value| Self::Text(value.clone());
    FilterTimestamp => |value| Self::Timestamp(value);
    FilterDate => |value| Self::Date(value);
    FilterTime => |value| Self::Time(value);
}
