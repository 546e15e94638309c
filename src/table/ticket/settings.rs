//! The session settings that rows may depend on: they travel with a ticket.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::{ConfigField, ConfigOptions};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;
use serde_json::{Map, Value, json};

use super::text::invalid;
use crate::error::OdpError;
use crate::options::{OdpOptions, OnInvalidGeometry};

/// Those of DataFusion: how texts are read as times, INT96 and binary columns as values, and a filter as SQL.
///
/// `recursion_limit` is not among them: it protects who opens a ticket.
const DATAFUSION: [&str; 11] = [
    "datafusion.execution.enable_ansi_mode",
    "datafusion.execution.parquet.binary_as_string",
    "datafusion.execution.parquet.coerce_int96",
    "datafusion.execution.parquet.coerce_int96_tz",
    "datafusion.execution.parquet.schema_force_view_types",
    "datafusion.execution.time_zone",
    "datafusion.sql_parser.dialect",
    "datafusion.sql_parser.enable_ident_normalization",
    "datafusion.sql_parser.map_string_types_to_utf8view",
    "datafusion.sql_parser.parse_float_as_decimal",
    "datafusion.sql_parser.support_varchar_with_length",
];

/// What is not here is the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TicketSettings {
    finite_coordinates: bool,
    planar_geography: bool,
    on_invalid_geometry: OnInvalidGeometry,
    datafusion: BTreeMap<&'static str, String>,
}

impl TicketSettings {
    pub(super) fn of(config: &ConfigOptions) -> Self {
        let OdpOptions { finite_coordinates, planar_geography, on_invalid_geometry, .. } =
            OdpOptions::of(config);
        let values = |config: &ConfigOptions| -> BTreeMap<&'static str, String> {
            let known = config.entries().into_iter().filter_map(|entry| {
                let key = DATAFUSION.into_iter().find(|key| *key == entry.key)?;
                Some((key, entry.value?))
            });
            known.collect()
        };
        let (mut datafusion, defaults) = (values(config), values(&ConfigOptions::default()));
        datafusion.retain(|key, value| defaults.get(key) != Some(value));
        Self { finite_coordinates, planar_geography, on_invalid_geometry, datafusion }
    }

    /// Makes these the settings of `state`.
    pub(super) fn apply(&self, state: &mut SessionState) -> Result<()> {
        let options = state.config_mut().options_mut();
        let mut odp = OdpOptions::of(options);
        odp.finite_coordinates = self.finite_coordinates;
        odp.planar_geography = self.planar_geography;
        odp.on_invalid_geometry = self.on_invalid_geometry;
        options.extensions.insert(odp);
        for key in DATAFUSION {
            match self.datafusion.get(key) {
                Some(value) => options.set(key, value)?,
                None => options.reset(key)?,
            }
        }
        // As after SET: functions such as `to_timestamp` keep the settings that they were made with.
        let functions = state.scalar_functions().values();
        let updated: Vec<_> = functions
            .filter_map(|function| function.inner().with_updated_config(state.config_options()))
            .collect();
        for function in updated {
            state.register_udf(Arc::new(function))?;
        }
        // Functions see the settings that were there when the query began.
        state.mark_start_execution();
        Ok(())
    }

    pub(super) fn to_json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        if self.finite_coordinates {
            object.insert("odp.finite_coordinates".into(), json!(true));
        }
        if self.planar_geography {
            object.insert("odp.planar_geography".into(), json!(true));
        }
        if self.on_invalid_geometry != OnInvalidGeometry::default() {
            object.insert("odp.on_invalid_geometry".into(), json!(self.on_invalid_geometry.to_string()));
        }
        object.extend(self.datafusion.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
        object
    }

    pub(super) fn from_json(set: &Value) -> Result<Self, OdpError> {
        let mut settings = Self::default();
        let set = set.as_object().ok_or_else(|| invalid("\"set\" is not an object".into()))?;
        for (key, value) in set {
            let bad = || invalid(format!("setting {key:?} cannot be {value}"));
            match key.as_str() {
                "odp.finite_coordinates" => settings.finite_coordinates = value.as_bool().ok_or_else(bad)?,
                "odp.planar_geography" => settings.planar_geography = value.as_bool().ok_or_else(bad)?,
                "odp.on_invalid_geometry" => {
                    let text = value.as_str().ok_or_else(bad)?;
                    settings.on_invalid_geometry = text.parse().map_err(|_| bad())?;
                }
                other => {
                    // Rows may depend on one that is not known.
                    let known = DATAFUSION.into_iter().find(|key| *key == other);
                    let key = known.ok_or_else(|| invalid(format!("setting {key:?} is not known")))?;
                    let text = value.as_str().ok_or_else(bad)?;
                    ConfigOptions::default().set(key, text).map_err(|_| bad())?;
                    settings.datafusion.insert(key, text.to_owned());
                }
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_travels_and_what_is_the_default_does_not() {
        let mut config = ConfigOptions::default();
        assert_eq!(TicketSettings::of(&config).to_json(), Map::new());
        for (key, value) in DATAFUSION
            .into_iter()
            .zip(["true", "true", "ms", "UTC", "false", "+02:00", "mysql", "false", "false", "true", "false"])
        {
            config.set(key, value).unwrap();
        }
        config.extensions.insert(OdpOptions {
            finite_coordinates: true,
            planar_geography: true,
            on_invalid_geometry: OnInvalidGeometry::NoMatch,
            ..OdpOptions::default()
        });
        let settings = TicketSettings::of(&config);
        assert_eq!(settings.to_json().len(), 3 + DATAFUSION.len());
        assert_eq!(TicketSettings::from_json(&Value::Object(settings.to_json())).unwrap(), settings);
        for (key, value) in [
            ("datafusion.sql_parser.recursion_limit", json!("9000")),
            ("datafusion.sql_parser.dialect", json!("klingon")),
            ("datafusion.execution.time_zone", json!(5)),
            ("odp.finite_coordinates", json!("yes")),
        ] {
            assert!(TicketSettings::from_json(&json!({ key: value })).is_err(), "{key}");
        }
    }
}
