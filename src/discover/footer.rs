//! Reads Parquet footers through the session's cache, and takes out statistics that must not be trusted.

use std::sync::Arc;

use datafusion::datasource::physical_plan::parquet::ObjectStoreFetch;
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::object_store::{self, ObjectMeta, ObjectStore};
use parquet::arrow::async_reader::MetadataFetch;
use parquet::basic::{SortOrder, Type};
use parquet::data_type::{ByteArray, FixedLenByteArray, Int96};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::column_index::{ColumnIndexMetaData, PrimitiveColumnIndex};
use parquet::file::statistics::Statistics;

use crate::error::OdpError;

/// Bytes at the end of a file that are read at first: most footers lie in them, and cost one request, not two.
const FOOTER_BYTES: usize = 32 << 10;

/// The footer of one file version; with the page index if asked and the file has one.
///
/// Comes from the cache if it is there; else one or two reads, a third for a page index that the cached footer lacks, and
/// the cache keeps it.
/// # Errors
/// [`OdpError::Storage`] if the store fails, [`OdpError::InvalidData`] if the footer breaks the format.
pub(crate) async fn fetch_footer(
    store: &dyn ObjectStore,
    object_meta: &ObjectMeta,
    cache: &Arc<FileMetadataCache>,
    page_index: PageIndexPolicy,
) -> Result<Arc<ParquetMetaData>, OdpError> {
    fetch_footer_by(ObjectStoreFetch::new(store, object_meta), object_meta, cache, page_index).await
}

/// As [`fetch_footer`], with bytes of the file that `fetch` gives.
///
/// # Errors
/// As [`fetch_footer`], and the [`OdpError`] that `fetch` gives, wrapped as [`ParquetError::External`].
pub(crate) async fn fetch_footer_by<F: MetadataFetch + Send>(
    fetch: F,
    object_meta: &ObjectMeta,
    cache: &Arc<FileMetadataCache>,
    page_index: PageIndexPolicy,
) -> Result<Arc<ParquetMetaData>, OdpError> {
    if let Some(footer) = cached_footer(object_meta, cache.as_ref(), page_index) {
        return Ok(footer);
    }
    let known = cached_footer(object_meta, cache.as_ref(), PageIndexPolicy::Skip);
    let footer = match known {
        Some(footer) => {
            // Out of the cache, so that it need not be copied to grow.
            cache.remove(&object_meta.location);
            add_page_index(fetch, footer).await
        }
        None => {
            let reader = ParquetMetaDataReader::new()
                .with_page_index_policy(page_index)
                .with_prefetch_hint(Some(FOOTER_BYTES));
            reader.load_and_finish(fetch, object_meta.size).await.map(Arc::new)
        }
    }
    .map_err(|error| failed(object_meta, error))?;
    trusted(object_meta, cache, footer, true)
}

/// `footer` without what must not be trusted, kept by the cache. Another table of the session may have put it there as
/// it is in the file; `is_new`: it is not in the cache yet.
pub(super) fn trusted(
    object_meta: &ObjectMeta,
    cache: &Arc<FileMetadataCache>,
    footer: Arc<ParquetMetaData>,
    is_new: bool,
) -> Result<Arc<ParquetMetaData>, OdpError> {
    let clean = without_distrusted_statistics(&footer, object_meta.size)
        .map_err(|error| failed(object_meta, error))?;
    if clean.is_none() && !is_new {
        return Ok(footer);
    }
    let footer = clean.map_or(footer, Arc::new);
    let entry = CachedFileMetadataEntry::new(
        object_meta.clone(),
        Arc::new(CachedParquetMetaData::new(Arc::clone(&footer))),
    );
    cache.put(&object_meta.location, entry);
    Ok(footer)
}

async fn add_page_index<F: MetadataFetch>(
    fetch: F,
    footer: Arc<ParquetMetaData>,
) -> Result<Arc<ParquetMetaData>, ParquetError> {
    let footer = Arc::try_unwrap(footer).unwrap_or_else(|shared| ParquetMetaData::clone(&shared));
    let mut reader =
        ParquetMetaDataReader::new_with_metadata(footer).with_page_index_policy(PageIndexPolicy::Optional);
    reader.load_page_index(fetch).await?;
    Ok(Arc::new(reader.finish()?))
}

fn failed(object_meta: &ObjectMeta, error: ParquetError) -> OdpError {
    let location = object_meta.location.to_string();
    match error {
        ParquetError::External(source) => match source.downcast::<OdpError>() {
            Ok(known) => *known,
            Err(source) => match source.downcast::<object_store::Error>() {
                Ok(source) => OdpError::Storage { location, source },
                Err(source) => OdpError::InvalidData { location, source },
            },
        },
        source => OdpError::InvalidData { location, source: Box::new(source) },
    }
}

/// The cached footer of this file version; with its page index, or without if none is asked for.
pub(crate) fn cached_footer(
    object_meta: &ObjectMeta,
    cache: &FileMetadataCache,
    page_index: PageIndexPolicy,
) -> Option<Arc<ParquetMetaData>> {
    let cached = cache.get(&object_meta.location).filter(|entry| entry.is_valid_for(object_meta))?;
    // The cache compares size and time of modification; where the store has tags, they are finer.
    if matches!((&cached.meta.e_tag, &object_meta.e_tag), (Some(kept), Some(wanted)) if kept != wanted) {
        return None;
    }
    let footer = cached.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>()?.parquet_metadata();
    let has_index = footer.column_index().is_some() && footer.offset_index().is_some();
    (page_index == PageIndexPolicy::Skip || has_index || !names_page_index(footer))
        .then(|| Arc::clone(footer))
}

/// Whether the footer says that the file has a page index.
fn names_page_index(footer: &ParquetMetaData) -> bool {
    let mut columns = footer.row_groups().iter().flat_map(|group| group.columns());
    columns.any(|column| column.column_index_offset().is_some() && column.offset_index_offset().is_some())
}

/// `footer` without what the format, or plain sense, forbids to trust; `None` if there is nothing of the kind.
///
/// That is: a NaN as a bound, a minimum above its maximum, bounds of INT96, bounds in the format's first encoding
/// (signed order of bytes) for types that are not ordered so, and the place of a page index that would lie beyond the
/// end of the file, which is `file_size` bytes long.
pub(super) fn without_distrusted_statistics(
    footer: &Arc<ParquetMetaData>,
    file_size: u64,
) -> Result<Option<ParquetMetaData>, ParquetError> {
    let is_bad =
        |column: &ColumnChunkMetaData| has_distrusted_bounds(column) || has_lost_index(column, file_size);
    let in_footer = footer.row_groups().iter().any(|group| group.columns().iter().any(is_bad));
    let in_index =
        footer.column_index().is_some_and(|index| index.iter().flatten().any(index_has_distrusted_bounds));
    if !in_footer && !in_index {
        return Ok(None);
    }
    let mut clean = ParquetMetaData::clone(footer).into_builder();
    if in_footer {
        let mut row_groups = Vec::new();
        for group in clean.take_row_groups() {
            let mut builder = group.into_builder();
            let mut columns = builder.take_columns();
            for column in &mut columns {
                if has_distrusted_bounds(column) {
                    *column = without_bounds(column.clone())?;
                }
                if has_lost_index(column, file_size) {
                    *column = without_index(column.clone())?;
                }
            }
            row_groups.push(builder.set_column_metadata(columns).build()?);
        }
        clean = clean.set_row_groups(row_groups);
    }
    if in_index && let Some(mut index) = clean.take_column_index() {
        for column in index.iter_mut().flatten() {
            if index_has_distrusted_bounds(column) {
                *column = ColumnIndexMetaData::NONE;
            }
        }
        clean = clean.set_column_index(Some(index));
    }
    Ok(Some(clean.build()))
}

/// Whether the footer places the column's page index outside the file.
fn has_lost_index(column: &ColumnChunkMetaData, file_size: u64) -> bool {
    let is_outside = |offset: Option<i64>, length: Option<i32>| match (offset, length) {
        (Some(offset), length) => {
            let end = offset.checked_add(i64::from(length.unwrap_or(0)));
            offset < 0
                || length.is_some_and(|n| n < 0)
                || end.is_none_or(|end| u64::try_from(end).unwrap_or(0) > file_size)
        }
        (None, _) => false,
    };
    is_outside(column.column_index_offset(), column.column_index_length())
        || is_outside(column.offset_index_offset(), column.offset_index_length())
}

fn without_index(column: ColumnChunkMetaData) -> Result<ColumnChunkMetaData, ParquetError> {
    column
        .into_builder()
        .set_column_index_offset(None)
        .set_column_index_length(None)
        .set_offset_index_offset(None)
        .set_offset_index_length(None)
        .build()
}

fn has_distrusted_bounds(column: &ColumnChunkMetaData) -> bool {
    let Some(statistics) = column.statistics() else { return false };
    if statistics.min_bytes_opt().is_none() && statistics.max_bytes_opt().is_none() {
        return false;
    }
    let sort_order = column.column_descr().sort_order();
    if statistics.is_min_max_deprecated() && sort_order != SortOrder::SIGNED {
        return true;
    }
    match statistics {
        Statistics::Int96(_) => true,
        Statistics::Float(s) => is_distrusted(s.min_opt(), s.max_opt()),
        Statistics::Double(s) => is_distrusted(s.min_opt(), s.max_opt()),
        Statistics::Int32(s) if sort_order == SortOrder::SIGNED => is_inverted(s.min_opt(), s.max_opt()),
        Statistics::Int64(s) if sort_order == SortOrder::SIGNED => is_inverted(s.min_opt(), s.max_opt()),
        Statistics::Int32(s) => is_inverted(s.min_opt().map(|v| *v as u32), s.max_opt().map(|v| *v as u32)),
        Statistics::Int64(s) => is_inverted(s.min_opt().map(|v| *v as u64), s.max_opt().map(|v| *v as u64)),
        Statistics::Boolean(s) => is_inverted(s.min_opt(), s.max_opt()),
        Statistics::ByteArray(s) => {
            sort_order == SortOrder::UNSIGNED
                && is_inverted(s.min_opt().map(ByteArray::data), s.max_opt().map(ByteArray::data))
        }
        Statistics::FixedLenByteArray(s) => {
            sort_order == SortOrder::UNSIGNED
                && is_inverted(s.min_opt().map(|v| v.data()), s.max_opt().map(|v| v.data()))
        }
    }
}

fn index_has_distrusted_bounds(index: &ColumnIndexMetaData) -> bool {
    fn floats<T: PartialOrd + Copy>(index: &PrimitiveColumnIndex<T>) -> bool {
        index.min_values_iter().zip(index.max_values_iter()).any(|(min, max)| is_distrusted(min, max))
    }
    match index {
        ColumnIndexMetaData::FLOAT(index) => floats(index),
        ColumnIndexMetaData::DOUBLE(index) => floats(index),
        ColumnIndexMetaData::INT96(_) => true,
        _ => false,
    }
}

/// Whether a bound is NaN, or the bounds are the wrong way round.
fn is_distrusted<T: PartialOrd>(min: Option<&T>, max: Option<&T>) -> bool {
    let is_nan = |bound: Option<&T>| bound.is_some_and(|v| v.partial_cmp(v).is_none());
    is_nan(min) || is_nan(max) || is_inverted(min, max)
}

fn is_inverted<T: PartialOrd>(min: Option<T>, max: Option<T>) -> bool {
    matches!((min, max), (Some(min), Some(max)) if min > max)
}

/// The column with its null and distinct counts, but no bounds.
fn without_bounds(column: ColumnChunkMetaData) -> Result<ColumnChunkMetaData, ParquetError> {
    let Some(statistics) = column.statistics() else { return Ok(column) };
    let (distinct, nulls) = (statistics.distinct_count_opt(), statistics.null_count_opt());
    let kept = match column.column_type() {
        Type::BOOLEAN => Statistics::new::<bool>(None, None, distinct, nulls, false),
        Type::INT32 => Statistics::new::<i32>(None, None, distinct, nulls, false),
        Type::INT64 => Statistics::new::<i64>(None, None, distinct, nulls, false),
        Type::INT96 => Statistics::new::<Int96>(None, None, distinct, nulls, false),
        Type::FLOAT => Statistics::new::<f32>(None, None, distinct, nulls, false),
        Type::DOUBLE => Statistics::new::<f64>(None, None, distinct, nulls, false),
        Type::BYTE_ARRAY => Statistics::new::<ByteArray>(None, None, distinct, nulls, false),
        Type::FIXED_LEN_BYTE_ARRAY => {
            Statistics::new::<FixedLenByteArray>(None, None, distinct, nulls, false)
        }
    };
    column.into_builder().set_statistics(kept).build()
}
