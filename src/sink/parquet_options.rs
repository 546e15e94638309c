//! DataFusion's options of the Parquet writer, and what they make of the files of a write.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::config::{ConfigField, ParquetOptions, TableParquetOptions};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::write_options::WriteOptions;
use crate::error::OdpError;

/// Options of the session, with those of the write.
#[derive(Debug, Clone)]
pub(crate) struct ParquetWriting {
    options: TableParquetOptions,
    /// Rows of a row group, where somebody said so.
    pub(super) max_rows: Option<usize>,
    /// Bytes of a row group, where somebody said so.
    pub(super) max_bytes: Option<usize>,
    /// Nobody said which columns have dictionaries.
    chooses_dictionaries: bool,
}

impl ParquetWriting {
    /// # Errors
    /// [`OdpError::InvalidOption`] for an option that Parquet's writer does not know, or a value that it does not take.
    pub(crate) fn try_new(session: &dyn Session, write: &WriteOptions) -> Result<Self, OdpError> {
        let mut options = session.default_table_options().parquet;
        let (given, known) = write.parquet();
        for (key, value) in given {
            options.set(key, value).map_err(|error| {
                let reason = error.strip_backtrace();
                let is_unknown = reason.contains("not found");
                let expected = if is_unknown { known.to_owned() } else { reason };
                OdpError::InvalidOption { key: key.clone(), value: value.clone(), expected }
            })?;
        }
        let default = ParquetOptions::default();
        let rows = options.global.max_row_group_size;
        let is_said = given.contains_key("max_row_group_size") || rows != default.max_row_group_size;
        let max_bytes = options.global.max_row_group_bytes.as_ref().map(|bytes| bytes.get());
        let is_of_dictionaries = |key: &String| key.starts_with("dictionary_enabled");
        let chooses_dictionaries = options.global.dictionary_enabled == default.dictionary_enabled
            && !given.keys().any(is_of_dictionaries);
        let max_rows = is_said.then_some(rows);
        let writing = Self { max_rows, max_bytes, chooses_dictionaries, options };
        // A codec or an encoding that does not exist is found here, before anything is read.
        writing.properties(&SchemaRef::new(Schema::empty()), None, vec![])?;
        Ok(writing)
    }

    /// The properties of files of `schema`; the same for all files of a write. `unrepeated` are leaves that better have no
    /// dictionary.
    pub(super) fn properties(
        &self,
        schema: &SchemaRef,
        sorting: Option<Vec<SortingColumn>>,
        unrepeated: Vec<ColumnPath>,
    ) -> Result<WriterProperties, OdpError> {
        let mut options = self.options.clone();
        let mut entries: Vec<(String, Option<String>)> = options.key_value_metadata.drain().collect();
        if !options.global.skip_arrow_metadata {
            entries
                .push((ARROW_SCHEMA_META_KEY.to_owned(), Some(encode_arrow_schema(&without_views(schema)))));
        }
        // In one order, for the same bytes each time.
        entries.sort();
        // Entries are set below; without this DataFusion misses that of the schema.
        options.global.skip_arrow_metadata = true;
        let builder = parquet::file::properties::WriterPropertiesBuilder::try_from(&options)?;
        let entries = entries.into_iter().map(|(key, value)| KeyValue { key, value }).collect();
        let mut builder = builder.set_key_value_metadata(Some(entries)).set_sorting_columns(sorting);
        if options.global.created_by == ParquetOptions::default().created_by {
            let created_by = concat!("datafusion-odp version ", env!("CARGO_PKG_VERSION"));
            builder = builder.set_created_by(created_by.to_owned());
        }
        for leaf in unrepeated.into_iter().filter(|_| self.chooses_dictionaries) {
            builder = builder.set_column_dictionary_enabled(leaf, false);
        }
        // Row groups are cut before they reach the writer.
        Ok(builder.set_max_row_group_row_count(None).set_max_row_group_bytes(None).build())
    }
}

/// `schema` with plain text and binary in the place of views, which not every reader of Arrow's schema knows: the bytes in
/// the file are the same.
fn without_views(schema: &SchemaRef) -> Schema {
    let fields: Vec<FieldRef> = schema.fields().iter().map(plain_field).collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let plain = plain_type(field.data_type());
    match plain == *field.data_type() {
        true => Arc::clone(field),
        false => Arc::new(field.as_ref().clone().with_data_type(plain)),
    }
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) => DataType::LargeList(plain_field(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        other => other.clone(),
    }
}
