//! The column that says when: found by what fields say or are called.

use datafusion::arrow::datatypes::{DataType, Field, Fields};

/// Names of the time of an observation, compared without case: CF and common ones, Darwin Core.
const NAMES: [&str; 7] = ["time", "timestamp", "datetime", "date_time", "eventDate", "event_date", "date"];

/// The position of the column of times or dates among `fields`: one whose metadata says `class` = `time`, else one with
/// a known name, else the only one of a type with time and date.
pub(super) fn time_column(fields: &Fields) -> Option<usize> {
    let times: Vec<(usize, &Field)> = fields
        .iter()
        .map(AsRef::as_ref)
        .enumerate()
        .filter(|(_, field)| {
            matches!(field.data_type(), DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
        })
        .collect();
    let classed = times.iter().find(|(_, field)| field.metadata().get("class").is_some_and(|c| c == "time"));
    let named = || {
        NAMES.iter().find_map(|name| times.iter().find(|(_, field)| field.name().eq_ignore_ascii_case(name)))
    };
    let only = || {
        let mut stamps =
            times.iter().filter(|(_, field)| matches!(field.data_type(), DataType::Timestamp(..)));
        let first = stamps.next()?;
        stamps.next().is_none().then_some(first)
    };
    classed.or_else(named).or_else(only).map(|(index, _)| *index)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn time_is_found_by_class_then_by_name_then_if_it_is_the_only_one() {
        let stamp = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true);
        let classed = stamp("x").with_metadata(HashMap::from([("class".to_owned(), "time".to_owned())]));
        let found = |fields: Vec<Field>| time_column(&fields.into());
        assert_eq!(found(vec![stamp("time"), classed]), Some(1));
        assert_eq!(found(vec![stamp("modified"), stamp("EVENTDATE")]), Some(1));
        assert_eq!(found(vec![Field::new("time", DataType::Utf8, true), stamp("modified")]), Some(1));
        assert_eq!(found(vec![stamp("modified"), stamp("created")]), None);
        assert_eq!(found(vec![Field::new("id", DataType::Int64, true)]), None);
    }
}
