//! The inside of a ticket: a JSON object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::temporal_conversions::timestamp_s_to_datetime;
use datafusion::arrow::datatypes::FieldRef;
use datafusion::object_store::ObjectMeta;
use datafusion::object_store::path::Path;
use serde_json::{Map, Value, json};

use super::fields::{check_width, entry, field_from_json, field_to_json, value_from_json, value_to_json};
use super::filter::TicketFilter;
use super::settings::TicketSettings;
use super::text::{check_content, invalid};
use super::{BatchTicket, TicketSelection};
use crate::error::OdpError;

/// What a batch adds to what the tickets of its selection have in common, in bytes and in values, is less.
const ROOM: usize = 64 << 10;

type Object = Map<String, Value>;

pub(super) fn to_json(ticket: &BatchTicket) -> String {
    let version = &ticket.version;
    let mut object = selection_to_json(&ticket.selection);
    let mut set = |key: &str, value: Value| {
        object.insert(key.to_owned(), value);
    };
    set("path", json!(version.location.as_ref()));
    set("size", json!(version.size));
    set(
        "modified",
        json!([version.last_modified.timestamp(), version.last_modified.timestamp_subsec_nanos()]),
    );
    if let Some(tag) = &version.e_tag {
        set("etag", json!(tag));
    }
    set("first", json!(ticket.first_row));
    set("rows", json!(ticket.rows));
    set("min", json!(ticket.min_rows));
    set("at", json!(ticket.position));
    set("batch", json!(ticket.batch_index));
    if !ticket.partitions.is_empty() {
        set("parts", ticket.partitions.iter().map(|(name, value)| value_to_json(name, value)).collect());
    }
    Value::Object(object).to_string()
}

fn selection_to_json(selection: &TicketSelection) -> Object {
    let mut object = Object::new();
    let mut set = |key: &str, value: Value| {
        object.insert(key.to_owned(), value);
    };
    set("store", json!(selection.store));
    set("of", json!(selection.total));
    set("fields", selection.fields.iter().map(|field| field_to_json(field)).collect());
    if !selection.metadata.is_empty() {
        set("meta", json!(selection.metadata));
    }
    set("columns", json!(selection.columns));
    let hash = match &selection.filter {
        TicketFilter::All => None,
        TicketFilter::Odp { text, variables, hash } => {
            set("odp", json!(text));
            if let Some(variables) = variables {
                set("vars", json!(variables));
            }
            Some(hash)
        }
        TicketFilter::Sql { text, hash } => {
            set("sql", json!(text));
            Some(hash)
        }
    };
    if let Some(hash) = hash {
        set("hash", json!(format!("{hash:016x}")));
    }
    let settings = selection.settings.to_json();
    if !settings.is_empty() {
        set("set", Value::Object(settings));
    }
    object
}

/// # Errors
/// [`OdpError::Unsupported`] if the tickets of `selection` are too large to be opened again.
pub(super) fn check(selection: &TicketSelection) -> Result<(), OdpError> {
    let unsupported =
        |error: OdpError| OdpError::Unsupported { what: format!("a ticket of this size: {error}") };
    check_width(&selection.fields).map_err(unsupported)?;
    check_content(&Value::Object(selection_to_json(selection)).to_string(), ROOM).map_err(unsupported)
}

pub(super) fn from_json(text: &str) -> Result<BatchTicket, OdpError> {
    let parsed: Value = serde_json::from_str(text).map_err(|error| invalid(format!("not JSON: {error}")))?;
    let object = parsed.as_object().ok_or_else(|| invalid("its content is not a JSON object".into()))?;
    let path = text_of(object, "path")?;
    let location = Path::parse(path).map_err(|error| invalid(format!("path {path:?}: {error}")))?;
    let (seconds, nanos) = pair_of(object, "modified")?;
    let last_modified = match (timestamp_s_to_datetime(seconds), u32::try_from(nanos)) {
        (Some(time), Ok(nanos)) if nanos < 1_000_000_000 => {
            time.and_utc() + Duration::from_nanos(nanos.into())
        }
        _ => return Err(invalid("the time of modification is out of range".into())),
    };
    let fields: Vec<FieldRef> =
        list_of(object, "fields")?.iter().map(field_from_json).collect::<Result<_, _>>()?;
    check_width(&fields)?;
    let metadata = match object.get("meta").map(Value::as_object) {
        None => Some(BTreeMap::new()),
        Some(None) => None,
        Some(Some(pairs)) => {
            pairs.iter().map(|(key, text)| Some((key.clone(), text.as_str()?.to_owned()))).collect()
        }
    };
    let partitions = match object.contains_key("parts") {
        true => list_of(object, "parts")?.iter().map(value_from_json).collect::<Result<_, _>>()?,
        false => vec![],
    };
    let name = |value: &Value| value.as_str().map(str::to_owned);
    let columns: Option<Vec<String>> = list_of(object, "columns")?.iter().map(name).collect();
    let selection = TicketSelection {
        store: text_of(object, "store")?.to_owned(),
        total: index_of(object, "of")?,
        fields,
        metadata: metadata.ok_or_else(|| invalid("\"meta\" is not an object of texts".into()))?,
        columns: columns.ok_or_else(|| invalid("a column's name is not text".into()))?,
        filter: filter_of(object)?,
        settings: object.get("set").map(TicketSettings::from_json).transpose()?.unwrap_or_default(),
    };
    Ok(BatchTicket {
        version: ObjectMeta {
            location,
            last_modified,
            size: number_of(object, "size")?,
            e_tag: optional_text(object, "etag")?,
            version: None,
        },
        first_row: number_of(object, "first")?,
        rows: number_of(object, "rows")?,
        min_rows: number_of(object, "min")?,
        position: index_of(object, "at")?,
        batch_index: index_of(object, "batch")?,
        partitions,
        selection: Arc::new(selection),
    })
}

fn filter_of(object: &Object) -> Result<TicketFilter, OdpError> {
    let hash = || {
        let text = text_of(object, "hash")?;
        u64::from_str_radix(text, 16).map_err(|_| invalid(format!("{text:?} is not a hash")))
    };
    match (optional_text(object, "odp")?, optional_text(object, "sql")?) {
        (None, None) => Ok(TicketFilter::All),
        (Some(text), None) => {
            let variables = optional_text(object, "vars")?;
            // JSON in JSON.
            variables.iter().try_for_each(|variables| check_content(variables, 0))?;
            Ok(TicketFilter::Odp { text, variables, hash: hash()? })
        }
        (None, Some(text)) => Ok(TicketFilter::Sql { text, hash: hash()? }),
        (Some(_), Some(_)) => Err(invalid("it has two filters".into())),
    }
}

fn text_of<'a>(object: &'a Object, key: &str) -> Result<&'a str, OdpError> {
    entry(object, key)?.as_str().ok_or_else(|| invalid(format!("{key:?} is not text")))
}

fn optional_text(object: &Object, key: &str) -> Result<Option<String>, OdpError> {
    match object.contains_key(key) {
        true => Ok(Some(text_of(object, key)?.to_owned())),
        false => Ok(None),
    }
}

fn number_of(object: &Object, key: &str) -> Result<u64, OdpError> {
    entry(object, key)?.as_u64().ok_or_else(|| invalid(format!("{key:?} is not a whole number")))
}

fn index_of(object: &Object, key: &str) -> Result<usize, OdpError> {
    usize::try_from(number_of(object, key)?).map_err(|_| invalid(format!("{key:?} is too large")))
}

fn pair_of(object: &Object, key: &str) -> Result<(i64, i64), OdpError> {
    let bad = || invalid(format!("{key:?} is not a pair of whole numbers"));
    match list_of(object, key)?.as_slice() {
        [first, second] => first.as_i64().zip(second.as_i64()).ok_or_else(bad),
        _ => Err(bad()),
    }
}

fn list_of<'a>(object: &'a Object, key: &str) -> Result<&'a Vec<Value>, OdpError> {
    entry(object, key)?.as_array().ok_or_else(|| invalid(format!("{key:?} is not a list")))
}
