//! The memory that rows take, whatever buffers they share with others.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ByteView, OffsetSizeTrait, RecordBatch};
use datafusion::arrow::datatypes::{BinaryViewType, ByteViewType, DataType, StringViewType};

/// Bytes of the rows of `record_batch`, as a copy of them alone would take.
///
/// Slices of one record batch add up to it. Dictionaries count as their keys: their values are usually shared.
pub(crate) fn record_batch_bytes(record_batch: &RecordBatch) -> usize {
    record_batch.columns().iter().map(|column| array_bytes(column, Dictionaries::Keys)).sum()
}

/// As [`record_batch_bytes`], with all values of dictionaries, used or not.
pub(crate) fn record_batch_bytes_with_dictionaries(record_batch: &RecordBatch) -> usize {
    record_batch.columns().iter().map(|column| array_bytes(column, Dictionaries::KeysAndValues)).sum()
}

/// What is counted of dictionaries.
#[derive(Clone, Copy, PartialEq)]
enum Dictionaries {
    Keys,
    KeysAndValues,
}

fn array_bytes(array: &ArrayRef, dictionaries: Dictionaries) -> usize {
    let nulls = array.nulls().map_or(0, |nulls| nulls.len().div_ceil(8));
    let len = array.len();
    nulls
        + match array.data_type() {
            DataType::Null => 0,
            DataType::Boolean => len.div_ceil(8),
            DataType::Utf8 => offset_bytes(array.as_string::<i32>().value_offsets()),
            DataType::LargeUtf8 => offset_bytes(array.as_string::<i64>().value_offsets()),
            DataType::Binary => offset_bytes(array.as_binary::<i32>().value_offsets()),
            DataType::LargeBinary => offset_bytes(array.as_binary::<i64>().value_offsets()),
            DataType::Utf8View => view_bytes::<StringViewType>(array),
            DataType::BinaryView => view_bytes::<BinaryViewType>(array),
            DataType::FixedSizeBinary(size) => usize::try_from(*size).unwrap_or(0) * len,
            DataType::Struct(_) => {
                array.as_struct().columns().iter().map(|column| array_bytes(column, dictionaries)).sum()
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                list_bytes(list.value_offsets(), list.values(), dictionaries)
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                list_bytes(list.value_offsets(), list.values(), dictionaries)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let columns = map.entries().columns().iter();
                let (start, rows) = span(map.value_offsets());
                size_of_val(map.value_offsets())
                    + columns
                        .map(|column| array_bytes(&column.slice(start, rows), dictionaries))
                        .sum::<usize>()
            }
            DataType::FixedSizeList(..) => array_bytes(array.as_fixed_size_list().values(), dictionaries),
            DataType::Dictionary(keys, _) => {
                let dictionary = array.as_any_dictionary();
                let values = match dictionaries {
                    Dictionaries::Keys => 0,
                    Dictionaries::KeysAndValues => array_bytes(dictionary.values(), dictionaries),
                };
                keys.primitive_width().unwrap_or(0) * len + values
            }
            other => match other.primitive_width() {
                Some(width) => width * len,
                None => {
                    array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size())
                }
            },
        }
}

/// The first of the values between offsets, and how many there are.
fn span<O: OffsetSizeTrait>(offsets: &[O]) -> (usize, usize) {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (first.as_usize(), last.as_usize() - first.as_usize()),
        _ => (0, 0),
    }
}

fn offset_bytes<O: OffsetSizeTrait>(offsets: &[O]) -> usize {
    size_of_val(offsets) + span(offsets).1
}

fn list_bytes<O: OffsetSizeTrait>(offsets: &[O], values: &ArrayRef, dictionaries: Dictionaries) -> usize {
    let (start, len) = span(offsets);
    size_of_val(offsets) + array_bytes(&values.slice(start, len), dictionaries)
}

fn view_bytes<T: ByteViewType>(array: &ArrayRef) -> usize {
    let array = array.as_byte_view::<T>();
    let views = array.views();
    if array.data_buffers().is_empty() {
        return size_of_val(&views[..]);
    }
    let outside = |view: &u128| ByteView::from(*view).length as usize;
    size_of_val(&views[..])
        + views.iter().map(outside).filter(|length| *length > MAX_INLINE_VIEW_BYTES).sum::<usize>()
}

/// Shorter values are inside their view.
const MAX_INLINE_VIEW_BYTES: usize = 12;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use datafusion::arrow::array::{
        DictionaryArray, Int32Array, Int64Array, ListArray, StringArray, StringViewArray, StructArray,
    };
    use datafusion::arrow::datatypes::{Int8Type, Int32Type};

    fn bytes(array: impl Array + 'static) -> usize {
        let array: ArrayRef = Arc::new(array);
        record_batch_bytes(&RecordBatch::try_from_iter([("a", array)]).unwrap())
    }

    #[test]
    fn slices_count_only_their_rows() {
        assert_eq!(bytes(Int64Array::from_iter_values(0..100).slice(10, 5)), 40);
        assert_eq!(bytes(Int64Array::from(vec![None; 100]).slice(8, 16)), 16 * 8 + 2);
        let text = StringArray::from_iter_values((0..100).map(|i| "x".repeat(i)));
        assert_eq!(bytes(text.slice(10, 2)), 3 * 4 + 10 + 11);
        let views = StringViewArray::from_iter_values((0..100).map(|i| "x".repeat(i)));
        assert_eq!(bytes(views.slice(12, 2)), 2 * 16 + 13);
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(
            (0..100).map(|i| Some((0..i).map(Some).collect::<Vec<_>>())),
        );
        let nulls_of_items = 1;
        assert!(bytes(lists.slice(3, 2)) <= 3 * 4 + 7 * 4 + 2 * nulls_of_items);
    }

    #[test]
    fn nested_values_and_keys_of_dictionaries_count() {
        let dictionary: DictionaryArray<Int8Type> = ["a long text, that is shared"; 50].into_iter().collect();
        let column: ArrayRef = Arc::new(dictionary.clone());
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        assert_eq!(record_batch_bytes(&batch), 50);
        assert_eq!(record_batch_bytes_with_dictionaries(&batch), 50 + 8 + 27);
        let items: ArrayRef = Arc::new(Int32Array::from_iter_values(0..50));
        let nested =
            StructArray::try_from(vec![("d", Arc::new(dictionary) as ArrayRef), ("i", items)]).unwrap();
        assert_eq!(bytes(nested.slice(5, 10)), 10 + 40);
    }
}
