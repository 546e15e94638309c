//! Column chunks in memory, decoded to arrays: plain values are copied or stay where they are, codes are looked up, `parquet` does the
//! rest.

mod code_runs;
mod column_chunks;
mod dense_levels;
mod dictionary_column;
mod kept_rows;
mod plain_column;
mod plain_pages;
mod plain_values;
mod row_group_decoder;

pub(super) use column_chunks::ColumnChunks;
pub(super) use dictionary_column::{are_codes_of_text, code_type};
pub(super) use kept_rows::KeptRows;
pub(super) use plain_column::PlainCounts;
pub(super) use plain_pages::PlainPages;
pub(super) use plain_values::PlainValues;
pub(super) use row_group_decoder::{ColumnCounts, ColumnDecoders, RowGroupDecoder};
