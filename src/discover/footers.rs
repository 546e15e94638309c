//! Reads the footers of many files, several at a time, and keeps what they say.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{SchemaRef, TimeUnit};
use datafusion::catalog::Session;
use datafusion::common::runtime::SpawnedTask;
use datafusion::config::ParquetOptions;
use datafusion::datasource::physical_plan::parquet::Int96Coercer;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::object_store::{ObjectMeta, ObjectStore};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::Type;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};

use super::facts::{FILES_PER_RUN, FileFacts};
use super::footer::{self, fetch_footer};
use crate::error::OdpError;

/// What the footers of `files` say, in any order; reads several at a time, on all threads.
pub(super) async fn read_footers(
    state: &dyn Session,
    store: &Arc<dyn ObjectStore>,
    files: Vec<ObjectMeta>,
) -> Result<Vec<FileFacts>, OdpError> {
    let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
    let int96 = Int96Setting::of(&state.config_options().execution.parquet);
    let concurrency = state.config_options().execution.meta_fetch_concurrency.get();
    let mut facts = futures::stream::iter(files)
        .map(|object_meta| {
            let (store, cache, int96) = (Arc::clone(store), Arc::clone(&cache), int96.clone());
            async move {
                let path = object_meta.location.to_string();
                // A task of its own: footers are decoded in parallel, and a panic of the decoder stays in it.
                SpawnedTask::spawn(async move { read_footer(&*store, object_meta, &cache, int96).await })
                    .join()
                    .await
                    .unwrap_or_else(|error| {
                        Err(OdpError::InvalidData { location: path, source: error.into() })
                    })
            }
        })
        .buffered(concurrency);
    let mut runs = Runs::default();
    while let Some(facts) = facts.try_next().await? {
        runs.push(facts)?;
    }
    runs.finish()
}

/// Puts facts of single files together, so that what is kept of 100,000 files is a few hundred lists. Files of one
/// schema, that is; they leave in another order where schemas take turns.
#[derive(Default)]
pub(super) struct Runs {
    done: Vec<FileFacts>,
    pending: HashMap<(SchemaRef, Option<Arc<str>>), Vec<FileFacts>>,
}

impl Runs {
    pub(super) fn push(&mut self, facts: FileFacts) -> Result<(), OdpError> {
        let key = (Arc::clone(&facts.schema), facts.int96.clone());
        let pending = self.pending.entry(key).or_default();
        let files: usize = pending.iter().map(|run| run.files.len()).sum();
        if files + facts.files.len() > FILES_PER_RUN {
            self.done.extend(merged(std::mem::take(pending))?);
        }
        pending.push(facts);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<FileFacts>, OdpError> {
        for (_, pending) in self.pending {
            self.done.extend(merged(pending)?);
        }
        Ok(self.done)
    }
}

fn merged(mut runs: Vec<FileFacts>) -> Result<Option<FileFacts>, OdpError> {
    match runs.len() {
        1 => Ok(runs.pop()),
        _ => Ok(FileFacts::concat(runs)?),
    }
}

async fn read_footer(
    store: &dyn ObjectStore,
    object_meta: ObjectMeta,
    cache: &Arc<FileMetadataCache>,
    int96: Option<Int96Setting>,
) -> Result<FileFacts, OdpError> {
    let footer = fetch_footer(store, &object_meta, cache, PageIndexPolicy::Skip).await?;
    let footer = footer::trusted(&object_meta, cache, footer, false)?;
    facts_of(object_meta, &footer, int96)
}

/// What `footer`, already without what must not be trusted, says of a file.
pub(super) fn facts_of(
    object_meta: ObjectMeta,
    footer: &ParquetMetaData,
    int96: Option<Int96Setting>,
) -> Result<FileFacts, OdpError> {
    let invalid =
        |source: BoxError| OdpError::InvalidData { location: object_meta.location.to_string(), source };
    check_row_groups(footer, object_meta.size).map_err(invalid)?;
    let file = footer.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())
        .map_err(|error| invalid(error.into()))?;
    let has_int96 = file.schema_descr().columns().iter().any(|c| c.physical_type() == Type::INT96);
    let int96 = int96.filter(|_| has_int96);
    let coerced = int96.as_ref().and_then(|setting| {
        let Int96Setting { unit, zone, .. } = setting;
        Int96Coercer::new(file.schema_descr(), &schema, unit).with_timezone(zone.clone()).coerce()
    });
    let schema = coerced.unwrap_or(schema);
    let int96 = has_int96.then(|| int96.map_or_else(|| Arc::from(""), |setting| setting.text));
    Ok(FileFacts::of_footer(object_meta, footer, schema, int96))
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Whether row counts and byte ranges can be true for a file of `file_size` bytes.
fn check_row_groups(footer: &ParquetMetaData, file_size: u64) -> Result<(), BoxError> {
    let mut rows = 0i64;
    for (index, group) in footer.row_groups().iter().enumerate() {
        if group.num_rows() < 0 {
            return Err(format!("row group {index} has {} rows", group.num_rows()).into());
        }
        rows = rows
            .checked_add(group.num_rows())
            .ok_or_else(|| format!("its row groups up to {index} have more rows than can be counted"))?;
        for column in group.columns() {
            let (start, length) = (
                column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()),
                column.compressed_size(),
            );
            let end =
                u64::try_from(start).ok().zip(u64::try_from(length).ok()).map(|(a, b)| a.saturating_add(b));
            if end.is_none_or(|end| end > file_size) {
                return Err(format!(
                    "row group {index}, column {}: {length} bytes at {start} do not lie in a file of {file_size} bytes",
                    column.column_path()
                )
                .into());
            }
        }
    }
    Ok(())
}

/// The unit and time zone that the session reads INT96 timestamps in.
#[derive(Debug, Clone)]
pub(super) struct Int96Setting {
    unit: TimeUnit,
    zone: Option<Arc<str>>,
    /// The two as text.
    text: Arc<str>,
}

impl Int96Setting {
    /// `None` if the session says nothing.
    pub(super) fn of(parquet: &ParquetOptions) -> Option<Self> {
        let unit = match parquet.coerce_int96.as_deref()?.to_ascii_lowercase().as_str() {
            "s" => TimeUnit::Second,
            "ms" => TimeUnit::Millisecond,
            "us" => TimeUnit::Microsecond,
            _ => TimeUnit::Nanosecond,
        };
        let zone: Option<Arc<str>> = parquet.coerce_int96_tz.as_deref().map(Arc::from);
        let text = format!("{unit:?} {}", zone.as_deref().unwrap_or_default());
        Some(Self { unit, zone, text: text.into() })
    }

    /// The setting as facts name it; empty without one.
    pub(super) fn text(setting: Option<&Self>) -> &str {
        setting.map_or("", |setting| &setting.text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::file::metadata::{FileMetaData, ParquetMetaDataBuilder, RowGroupMetaData};
    use parquet::schema::types::{SchemaDescriptor, Type as SchemaType};

    use super::*;

    #[test]
    fn row_groups_of_more_rows_together_than_can_be_counted_are_refused() {
        let root = SchemaType::group_type_builder("m").build().unwrap();
        let schema = Arc::new(SchemaDescriptor::new(Arc::new(root)));
        let footer = |rows: &[i64]| {
            let groups = rows.iter().map(|rows| {
                RowGroupMetaData::builder(Arc::clone(&schema)).set_num_rows(*rows).build().unwrap()
            });
            let file = FileMetaData::new(1, 0, None, None, Arc::clone(&schema), None);
            ParquetMetaDataBuilder::new(file).set_row_groups(groups.collect()).build()
        };
        assert!(check_row_groups(&footer(&[i64::MAX - 1, 1]), 100).is_ok());
        let error = check_row_groups(&footer(&[i64::MAX - 1, 1, 1]), 100).unwrap_err().to_string();
        assert!(error.contains("more rows than can be counted"), "{error}");
        assert!(check_row_groups(&footer(&[5, -1]), 100).is_err());
    }
}
