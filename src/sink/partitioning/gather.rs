//! Rows from many record batches in one, with memory of its own.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, DictionaryArray, FixedSizeListArray, GenericListArray,
    MapArray, OffsetSizeTrait, PrimitiveArray, RecordBatch, StructArray, UInt32Array,
};
use datafusion::arrow::compute::{concat_batches, filter, interleave_record_batch, take_arrays};
use datafusion::arrow::datatypes::{ArrowDictionaryKeyType, ArrowNativeType, DataType, SchemaRef};
use datafusion::arrow::downcast_dictionary_array;
use datafusion::arrow::error::ArrowError;
use datafusion::common::HashMap;

use crate::row_bytes::record_batch_bytes;

/// From this average number of rows on, pieces are copied as a whole; below, row by row.
const LONG_PIECE_ROWS: usize = 16;

/// The rows of `pieces`, in order.
///
/// One record batch, or several where Arrow cannot hold all of it in one: too many values for the keys of a
/// dictionary, too many bytes for 32-bit offsets.
pub(super) fn gather(
    schema: &SchemaRef,
    pieces: &[(&RecordBatch, Range<usize>)],
) -> Result<Vec<RecordBatch>, ArrowError> {
    match pieces {
        [] => return Ok(vec![]),
        [(rows, range)] => return Ok(vec![with_own_memory(rows.slice(range.start, range.len()))?]),
        _ => {}
    }
    let num_rows: usize = pieces.iter().map(|(_, range)| range.len()).sum();
    let gathered = if num_rows >= LONG_PIECE_ROWS * pieces.len() {
        let slices: Vec<_> =
            pieces.iter().map(|(rows, range)| rows.slice(range.start, range.len())).collect();
        concat_batches(schema, &slices)
    } else {
        let mut sources: Vec<&RecordBatch> = Vec::new();
        let mut numbers: HashMap<Option<*const ()>, usize> = HashMap::default();
        let mut indices = Vec::with_capacity(num_rows);
        for (rows, range) in pieces {
            // Clones of a record batch share its arrays.
            let first_column = rows.columns().first().map(|column| Arc::as_ptr(column).cast::<()>());
            let number = *numbers.entry(first_column).or_insert_with(|| {
                sources.push(rows);
                sources.len() - 1
            });
            indices.extend(range.clone().map(|row| (number, row)));
        }
        interleave_record_batch(&sources, &indices)
    };
    match gathered {
        Ok(gathered) => Ok(vec![shrink_batch(gathered)?]),
        Err(ArrowError::DictionaryKeyOverflowError | ArrowError::OffsetOverflowError(_)) => {
            let (first, second) = pieces.split_at(pieces.len() / 2);
            let mut batches = gather(schema, first)?;
            batches.extend(gather(schema, second)?);
            Ok(batches)
        }
        Err(error) => Err(error),
    }
}

/// `record_batch`, copied if it keeps more than twice its memory alive.
pub(super) fn with_own_memory(record_batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let kept: usize = record_batch.columns().iter().map(|column| buffer_bytes(&column.to_data())).sum();
    let num_rows = u32::try_from(record_batch.num_rows());
    match num_rows {
        Ok(num_rows)
            if kept > 2 * record_batch_bytes(&record_batch) + FIXED_BYTES * record_batch.num_columns() =>
        {
            let all = UInt32Array::from_iter_values(0..num_rows);
            let columns = take_arrays(record_batch.columns(), &all, None)?;
            shrink_batch(RecordBatch::try_new(record_batch.schema(), columns)?)
        }
        _ => shrink_batch(record_batch),
    }
}

/// Buffers are aligned to, and padded by, so much: of no account.
const FIXED_BYTES: usize = 256;

/// Bytes of all buffers that `data` keeps alive, without values of dictionaries.
pub(super) fn buffer_bytes(data: &ArrayData) -> usize {
    let buffers: usize = data.buffers().iter().map(|buffer| buffer.capacity()).sum();
    let nulls = data.nulls().map_or(0, |nulls| nulls.buffer().capacity());
    let children = match data.data_type() {
        DataType::Dictionary(..) => 0,
        _ => data.child_data().iter().map(buffer_bytes).sum(),
    };
    buffers + nulls + children
}

/// Drops values of dictionaries, and bytes of views, that no row refers to.
fn shrink_batch(record_batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    if !record_batch.columns().iter().any(|column| shares_values(column.data_type())) {
        return Ok(record_batch);
    }
    let columns = record_batch.columns().iter().map(shrink).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(record_batch.schema(), columns)
}

/// Whether copies of rows of this type can refer to values that others use, too.
fn shares_values(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView | DataType::Dictionary(..) => true,
        DataType::Struct(fields) => fields.iter().any(|field| shares_values(field.data_type())),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => shares_values(field.data_type()),
        _ => false,
    }
}

fn shrink(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if !shares_values(array.data_type()) {
        return Ok(Arc::clone(array));
    }
    Ok(match array.data_type() {
        DataType::Utf8View => {
            let views = array.as_string_view();
            let kept = views.data_buffers().iter().map(|buffer| buffer.capacity()).sum::<usize>();
            if kept > 2 * views.total_buffer_bytes_used() { Arc::new(views.gc()) } else { Arc::clone(array) }
        }
        DataType::BinaryView => {
            let views = array.as_binary_view();
            let kept = views.data_buffers().iter().map(|buffer| buffer.capacity()).sum::<usize>();
            if kept > 2 * views.total_buffer_bytes_used() { Arc::new(views.gc()) } else { Arc::clone(array) }
        }
        DataType::Dictionary(..) => {
            if array.as_any_dictionary().values().len() <= array.len() {
                return Ok(Arc::clone(array));
            }
            let array = array.as_ref();
            downcast_dictionary_array! {
                array => used_values(array)?,
                _ => array.slice(0, array.len())
            }
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().map(shrink).collect::<Result<Vec<_>, _>>()?;
            let nulls = array.nulls().cloned();
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len())?)
        }
        DataType::List(_) => shrink_list::<i32>(array)?,
        DataType::LargeList(_) => shrink_list::<i64>(array)?,
        DataType::FixedSizeList(field, size) => {
            let values = shrink(array.as_fixed_size_list().values())?;
            let nulls = array.nulls().cloned();
            Arc::new(FixedSizeListArray::try_new_with_length(
                Arc::clone(field),
                *size,
                values,
                nulls,
                array.len(),
            )?)
        }
        DataType::Map(field, is_sorted) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            let entries = shrink(&entries)?.as_struct().clone();
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(field), offsets, entries, nulls, *is_sorted)?)
        }
        _ => Arc::clone(array),
    })
}

fn shrink_list<O: OffsetSizeTrait>(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let list = array.as_list::<O>();
    let (DataType::List(field) | DataType::LargeList(field)) = list.data_type() else {
        return Ok(Arc::clone(array));
    };
    let values = shrink(list.values())?;
    let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
    Ok(Arc::new(GenericListArray::<O>::try_new(Arc::clone(field), offsets, values, nulls)?))
}

/// `dictionary` with only those values that a key refers to.
fn used_values<K: ArrowDictionaryKeyType>(dictionary: &DictionaryArray<K>) -> Result<ArrayRef, ArrowError> {
    let used = dictionary.occupancy();
    let mut new_keys = vec![K::Native::default(); dictionary.values().len()];
    for (new, old) in used.set_indices().enumerate() {
        new_keys[old] = K::Native::from_usize(new).ok_or(ArrowError::DictionaryKeyOverflowError)?;
    }
    // Keys of NULLs are arbitrary.
    let keys: PrimitiveArray<K> =
        dictionary.keys().unary(|key| new_keys.get(key.as_usize()).copied().unwrap_or_default());
    let values = filter(dictionary.values(), &BooleanArray::new(used, None))?;
    Ok(Arc::new(DictionaryArray::try_new(keys, shrink(&values)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{BinaryViewArray, StringViewArray, UInt8Array};
    use datafusion::arrow::datatypes::{UInt8Type, UInt16Type};

    fn batch(array: impl Array + 'static) -> RecordBatch {
        RecordBatch::try_from_iter([("a", Arc::new(array) as ArrayRef)]).unwrap()
    }

    #[test]
    fn dictionaries_with_too_many_values_for_their_keys_stay_apart() {
        let of = |start: u8| {
            let values: Vec<_> = (0..200).map(|i| format!("{start}-{i}")).collect();
            batch(values.iter().map(|value| Some(value.as_str())).collect::<DictionaryArray<UInt8Type>>())
        };
        let (one, two) = (of(1), of(2));
        for step in [1, 50] {
            let mut pieces = Vec::new();
            for start in (0..200).step_by(step) {
                pieces.push((&one, start..start + step));
                pieces.push((&two, start..start + step));
            }
            let gathered = gather(&one.schema(), &pieces).unwrap();
            assert!(gathered.len() > 1);
            let text = |batch: &RecordBatch, row: usize| {
                let column = batch.column(0).as_dictionary::<UInt8Type>();
                column
                    .downcast_dict::<datafusion::arrow::array::StringArray>()
                    .unwrap()
                    .values()
                    .value(usize::from(column.keys().value(row)))
                    .to_owned()
            };
            let found: Vec<_> =
                gathered.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| text(batch, row))).collect();
            let expected: Vec<_> =
                pieces.iter().flat_map(|(batch, range)| range.clone().map(|row| text(batch, row))).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn views_and_dictionaries_drop_what_no_row_uses() {
        let values: Vec<_> = (0..10_000).map(|i| format!("a value of some length, number {i}")).collect();
        let views = batch(StringViewArray::from_iter_values(&values));
        let binary = batch(BinaryViewArray::from_iter_values(&values));
        let keys = values.iter().map(|value| Some(value.as_str()));
        let dictionary = batch(keys.collect::<DictionaryArray<UInt16Type>>());
        for source in [views, binary, dictionary] {
            let pieces: Vec<_> = (0..10_000).step_by(1_000).map(|row| (&source, row..row + 1)).collect();
            let gathered = gather(&source.schema(), &pieces).unwrap();
            let slice = with_own_memory(source.slice(5_000, 10)).unwrap();
            for small in [&gathered[0], &slice] {
                assert_eq!(small.num_rows(), 10);
                assert!(small.get_array_memory_size() < 10_000, "{}", small.get_array_memory_size());
            }
            assert_eq!(slice, source.slice(5_000, 10));
            let all = gather(&source.schema(), &[(&source, 0..10_000)]).unwrap();
            assert_eq!(all[0], source);
        }
    }

    #[test]
    fn nulls_of_dictionaries_stay_when_values_are_dropped() {
        let keys = UInt8Array::from(vec![Some(3), None, Some(1)]);
        let values = StringViewArray::from_iter_values(["a", "b", "c", "d", "e"]);
        let dictionary = batch(DictionaryArray::try_new(keys, Arc::new(values)).unwrap());
        let shrunk = shrink_batch(dictionary.clone()).unwrap();
        assert_eq!(shrunk.column(0).as_any_dictionary().values().len(), 2);
        assert_eq!(shrunk.column(0), dictionary.column(0));
    }
}
