//! Record batches, split by the values of partition columns.

use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::{cast, partition, take_arrays};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type, SchemaRef,
};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, HashMap, Result, ScalarValue, exec_datafusion_err};

use super::partition_path::{fits_segment, partition_directory};
use crate::dataset::{is_partition_type, partition_value_text};
use crate::error::OdpError;

/// No partition of the record batch at hand.
const ABSENT: u32 = u32::MAX;

/// Splits record batches by the values of partition columns; the rows of a partition keep their order.
///
/// NULL is a value of its own, all NaNs are one value, and `-0.0` is another value than `0.0`, as in Arrow's order.
#[derive(Debug)]
pub(crate) struct Partitioner {
    names: Vec<String>,
    types: Vec<DataType>,
    /// Of the partition columns, in the input.
    key_columns: Vec<usize>,
    /// Of the columns of files, in the input.
    file_columns: Vec<usize>,
    file_schema: SchemaRef,
    converter: RowConverter,
    ids: HashMap<Box<[u8]>, usize>,
    partitions: Vec<Partition>,
    /// Directories that are taken, since those of long values end in a hash.
    directories: HashMap<Arc<str>, usize>,
    /// For each partition, its place in the record batch at hand; [`ABSENT`] between calls.
    places: Vec<u32>,
}

#[derive(Debug)]
struct Partition {
    directory: Arc<str>,
    values: Vec<Option<String>>,
}

/// The rows of a record batch, those of each partition together.
#[derive(Debug)]
pub(crate) struct ArrangedRows {
    /// All rows, with the columns of files.
    pub(crate) rows: RecordBatch,
    /// Each partition that occurs, once, and where its rows are: adjacent, from the first row to the last.
    pub(crate) partitions: Vec<(usize, Range<usize>)>,
}

impl Partitioner {
    /// A partitioner by `columns`, which are names in `schema`.
    ///
    /// Files have the other columns.
    ///
    /// # Errors
    /// [`OdpError::InvalidOption`] for names that are not known or occur twice, and if files would have no column;
    /// [`OdpError::Unsupported`] for types that have no text, and names that cannot name a directory.
    pub(crate) fn try_new(schema: &SchemaRef, columns: &[String]) -> Result<Self, OdpError> {
        let invalid = |value: &str, expected: String| OdpError::InvalidOption {
            key: "partitioned by".into(),
            value: value.into(),
            expected,
        };
        let mut key_columns = Vec::with_capacity(columns.len());
        let mut types = Vec::with_capacity(columns.len());
        for name in columns {
            let Ok(index) = schema.index_of(name) else {
                let known: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(invalid(name, format!("one of the columns {}", known.join(", "))));
            };
            if key_columns.contains(&index) {
                return Err(invalid(name, "each column once".into()));
            }
            let data_type = schema.field(index).data_type();
            if !is_partition_type(data_type) {
                let what = format!("partition column {name:?} of type {data_type}");
                return Err(OdpError::Unsupported { what });
            }
            if !fits_segment(name) {
                let what =
                    format!("partition column {name:?}, whose name is empty or too long for a directory");
                return Err(OdpError::Unsupported { what });
            }
            key_columns.push(index);
            types.push(value_type(data_type).clone());
        }
        let file_columns: Vec<_> =
            (0..schema.fields().len()).filter(|index| !key_columns.contains(index)).collect();
        if file_columns.is_empty() {
            return Err(invalid(
                &columns.join(", "),
                "at least one column that is not among them, for the files".into(),
            ));
        }
        let file_schema = Arc::new(schema.project(&file_columns).map_err(DataFusionError::from)?);
        let fields = types.iter().cloned().map(SortField::new).collect();
        let converter = RowConverter::new(fields).map_err(DataFusionError::from)?;
        Ok(Self {
            names: columns.to_vec(),
            types,
            key_columns,
            file_columns,
            file_schema,
            converter,
            ids: HashMap::default(),
            partitions: Vec::new(),
            directories: HashMap::default(),
            places: Vec::new(),
        })
    }

    /// The schema of the rows that [`split`](Self::split) returns.
    pub(crate) fn file_schema(&self) -> &SchemaRef {
        &self.file_schema
    }

    /// Names and types of the partition columns; of dictionaries, the type of their values.
    pub(crate) fn partition_columns(&self) -> Vec<(String, DataType)> {
        self.names.iter().cloned().zip(self.types.iter().cloned()).collect()
    }

    /// How many partitions occurred so far.
    pub(crate) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// The directory of a partition: `year=2020/month=1`, for [`Path::parse`].
    ///
    /// [`Path::parse`]: datafusion::object_store::path::Path::parse
    pub(crate) fn directory(&self, partition: usize) -> &str {
        self.partitions.get(partition).map_or("", |partition| &partition.directory)
    }

    /// The exact texts of a partition's values, one per partition column; `None` is NULL.
    pub(crate) fn values(&self, partition: usize) -> &[Option<String>] {
        self.partitions.get(partition).map_or(&[], |partition| &partition.values)
    }

    /// The rows of each partition that occurs in `record_batch`, in order of first appearance.
    #[cfg(test)]
    fn split(&mut self, record_batch: &RecordBatch) -> Result<Vec<(usize, RecordBatch)>> {
        let arranged = self.arrange(record_batch)?;
        if let [(partition, _)] = arranged.partitions[..] {
            return Ok(vec![(partition, arranged.rows)]);
        }
        let slice = |(partition, range): (usize, Range<usize>)| {
            (partition, arranged.rows.slice(range.start, range.len()))
        };
        Ok(arranged.partitions.into_iter().map(slice).collect())
    }

    /// The rows of `record_batch`, those of each partition together, partitions in order of first appearance.
    ///
    /// Partitions are numbered in order of first appearance over all calls.
    pub(crate) fn arrange(&mut self, record_batch: &RecordBatch) -> Result<ArrangedRows> {
        let num_rows = record_batch.num_rows();
        let columns: Vec<ArrayRef> =
            self.file_columns.iter().map(|index| Arc::clone(record_batch.column(*index))).collect();
        let runs = self.runs(record_batch)?;

        // Places in the order of first appearance, and rows of each.
        let mut occurring: Vec<(usize, Range<usize>)> = Vec::new();
        let mut places = Vec::with_capacity(runs.len());
        self.places.resize(self.partitions.len(), ABSENT);
        for (partition, range) in &runs {
            let place = &mut self.places[*partition];
            if *place == ABSENT {
                *place = u32::try_from(occurring.len()).map_err(|_| too_many_rows(num_rows))?;
                occurring.push((*partition, 0..0));
            }
            occurring[*place as usize].1.end += range.len();
            places.push(*place);
        }
        let mut start = 0;
        for (partition, range) in &mut occurring {
            self.places[*partition] = ABSENT;
            *range = start..start + range.end;
            start = range.end;
        }

        let is_in_order = occurring.len() == runs.len();
        let columns = if is_in_order {
            columns
        } else {
            let mut next: Vec<usize> = occurring.iter().map(|(_, range)| range.start).collect();
            let mut order = vec![0_u32; num_rows];
            for ((_, range), place) in runs.into_iter().zip(places) {
                let next = &mut next[place as usize];
                let first = u32::try_from(range.start).map_err(|_| too_many_rows(num_rows))?;
                for (target, row) in order[*next..*next + range.len()].iter_mut().zip(first..) {
                    *target = row;
                }
                *next += range.len();
            }
            take_arrays(&columns, &UInt32Array::from(order), None)?
        };
        let options = RecordBatchOptions::new().with_row_count(Some(num_rows));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&self.file_schema), columns, &options)?;
        Ok(ArrangedRows { rows, partitions: occurring })
    }

    /// Runs of rows with equal values: the partition of each, and its rows.
    fn runs(&mut self, record_batch: &RecordBatch) -> Result<Vec<(usize, Range<usize>)>> {
        if record_batch.num_rows() == 0 {
            return Ok(vec![]);
        }
        if self.key_columns.is_empty() {
            let id = self.partition_of(&[], &[], 0)?;
            return Ok(vec![(id, 0..record_batch.num_rows())]);
        }
        let keys: Vec<ArrayRef> = self
            .key_columns
            .iter()
            .map(|index| Ok(one_nan(&hydrate(record_batch.column(*index))?)))
            .collect::<Result<_>>()?;
        let ranges = partition(&keys)?.ranges();
        let starts: Vec<u32> = ranges
            .iter()
            .map(|range| u32::try_from(range.start))
            .collect::<Result<_, _>>()
            .map_err(|_| too_many_rows(record_batch.num_rows()))?;
        let keys = take_arrays(&keys, &UInt32Array::from(starts), None)?;
        let rows = self.converter.convert_columns(&keys)?;
        let runs = ranges.into_iter().enumerate().map(|(run, range)| {
            let id = self.partition_of(rows.row(run).data(), &keys, run)?;
            Ok((id, range))
        });
        runs.collect()
    }

    /// The number of the partition with this key, whose values are those of `columns` in `row`.
    fn partition_of(&mut self, key: &[u8], columns: &[ArrayRef], row: usize) -> Result<usize> {
        if let Some(id) = self.ids.get(key) {
            return Ok(*id);
        }
        let values = columns
            .iter()
            .map(|column| Ok(partition_value_text(&ScalarValue::try_from_array(column, row)?)?))
            .collect::<Result<Vec<_>>>()?;
        let directory: Arc<str> = partition_directory(&self.names, &values)?.into();
        let id = self.partitions.len();
        if let Some(other) = self.directories.insert(Arc::clone(&directory), id) {
            let other = &self.partitions[other].values;
            return Err(exec_datafusion_err!(
                "partition values {values:?} and {other:?} have the same directory {directory}"
            ));
        }
        self.ids.insert(key.into(), id);
        self.partitions.push(Partition { directory, values });
        Ok(id)
    }
}

fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => value_type(values),
        other => other,
    }
}

/// `column` without dictionary.
fn hydrate(column: &ArrayRef) -> Result<ArrayRef> {
    match column.data_type() {
        DataType::Dictionary(..) => Ok(cast(column, value_type(column.data_type()))?),
        _ => Ok(Arc::clone(column)),
    }
}

/// `column` with all NaNs alike: Arrow tells their signs and payloads apart.
fn one_nan(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float16 => {
            let nan = <Float16Type as ArrowPrimitiveType>::Native::NAN;
            Arc::new(
                column
                    .as_primitive::<Float16Type>()
                    .unary::<_, Float16Type>(|v| if v.is_nan() { nan } else { v }),
            )
        }
        DataType::Float32 => Arc::new(
            column
                .as_primitive::<Float32Type>()
                .unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v }),
        ),
        DataType::Float64 => Arc::new(
            column
                .as_primitive::<Float64Type>()
                .unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v }),
        ),
        _ => Arc::clone(column),
    }
}

fn too_many_rows(num_rows: usize) -> DataFusionError {
    exec_datafusion_err!("a record batch of {num_rows} rows is too long to be split")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use datafusion::arrow::array::{
        DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray, StringViewArray,
    };
    use datafusion::arrow::datatypes::{Int8Type, Int32Type, Int64Type};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn batch(years: &[Option<i32>], names: &[&str]) -> RecordBatch {
        let rows = i64::try_from(years.len()).unwrap();
        RecordBatch::try_from_iter([
            ("year", Arc::new(Int32Array::from(years.to_vec())) as ArrayRef),
            ("row", Arc::new(Int64Array::from_iter_values(0..rows))),
            ("name", Arc::new(StringViewArray::from(names.to_vec()))),
        ])
        .unwrap()
    }

    fn by(columns: &[&str], schema: &SchemaRef) -> Result<Partitioner, OdpError> {
        let columns: Vec<_> = columns.iter().map(|name| (*name).to_owned()).collect();
        Partitioner::try_new(schema, &columns)
    }

    fn rows_of(batch: &RecordBatch) -> Vec<i64> {
        batch.column_by_name("row").unwrap().as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn mixed_rows_keep_their_order_in_each_partition() {
        let batch =
            batch(&[Some(2), Some(1), Some(2), None, Some(1), Some(2)], &["a", "b", "a", "c", "b", "d"]);
        let mut partitioner = by(&["year", "name"], &batch.schema()).unwrap();
        let split = partitioner.split(&batch).unwrap();
        let rows: Vec<_> = split.iter().map(|(id, rows)| (*id, rows_of(rows))).collect();
        assert_eq!(rows, [(0, vec![0, 2]), (1, vec![1, 4]), (2, vec![3]), (3, vec![5])]);
        assert_eq!(split[0].1.schema(), *partitioner.file_schema());
        assert_eq!(partitioner.file_schema().fields().len(), 1);
        let directories: Vec<_> = (0..partitioner.len()).map(|id| partitioner.directory(id)).collect();
        let null = "__HIVE_DEFAULT_PARTITION__";
        assert_eq!(
            directories,
            ["year=2/name=a", "year=1/name=b", &format!("year={null}/name=c"), "year=2/name=d"]
        );
        assert_eq!(partitioner.values(2), [None, Some("c".to_owned())]);
        // Numbers hold over calls.
        let again = partitioner.split(&batch.slice(3, 2)).unwrap();
        assert_eq!(again.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 1]);
        assert!(partitioner.split(&batch.slice(0, 0)).unwrap().is_empty());
    }

    #[test]
    fn rows_of_one_partition_and_sorted_rows_are_not_copied() {
        let batch = batch(&[Some(1), Some(1), Some(1), Some(2)], &["a"; 4]);
        let mut partitioner = by(&["year"], &batch.schema()).unwrap();
        let address = |batch: &RecordBatch| batch.column(0).to_data().buffers()[0].data_ptr();
        let rows = batch.project(&[1]).unwrap();
        for split in [partitioner.split(&batch).unwrap(), partitioner.split(&batch.slice(1, 2)).unwrap()] {
            assert!(split.iter().all(|(_, part)| address(part) == address(&rows)));
        }
    }

    #[test]
    fn without_partition_columns_all_rows_are_one_partition() {
        let batch = batch(&[Some(1), Some(2)], &["a"; 2]);
        let mut partitioner = by(&[], &batch.schema()).unwrap();
        assert_eq!(partitioner.split(&batch).unwrap(), [(0, batch)]);
        assert_eq!((partitioner.directory(0), partitioner.values(0).len()), ("", 0));
    }

    #[test]
    fn nans_are_one_value_and_zeros_are_two() {
        let values =
            [f64::NAN, -0.0, -f64::NAN, 0.0, f64::from_bits(0x7ff8_0000_0000_0001), f64::INFINITY, -0.0];
        let batch = RecordBatch::try_from_iter([
            ("v", Arc::new(Float64Array::from(values.to_vec())) as ArrayRef),
            ("row", Arc::new(Int64Array::from_iter_values(0..7))),
        ])
        .unwrap();
        let mut partitioner = by(&["v"], &batch.schema()).unwrap();
        let split = partitioner.split(&batch).unwrap();
        let rows: Vec<_> =
            split.iter().map(|(id, rows)| (partitioner.directory(*id), rows_of(rows))).collect();
        let expected =
            [("v=NaN", vec![0, 2, 4]), ("v=-0.0", vec![1, 6]), ("v=0.0", vec![3]), ("v=inf", vec![5])];
        assert_eq!(rows, expected);
    }

    #[test]
    fn two_values_with_one_directory_are_an_error() {
        let batch = batch(&[Some(1), Some(2)], &["a"; 2]);
        let mut partitioner = by(&["year"], &batch.schema()).unwrap();
        partitioner.split(&batch.slice(0, 1)).unwrap();
        partitioner.directories.insert("year=2".into(), 0);
        let error = partitioner.split(&batch).unwrap_err().to_string();
        assert!(error.contains("have the same directory year=2"), "{error}");
    }

    #[test]
    fn dictionaries_are_split_as_their_values() {
        let names = ["a", "b", "a", "c"];
        let dictionary: DictionaryArray<Int8Type> = names.into_iter().collect();
        let batch = RecordBatch::try_from_iter([
            ("name", Arc::new(dictionary) as ArrayRef),
            ("row", Arc::new(Int64Array::from_iter_values(0..4))),
        ])
        .unwrap();
        let mut partitioner = by(&["name"], &batch.schema()).unwrap();
        assert_eq!(partitioner.partition_columns(), [("name".to_owned(), DataType::Utf8)]);
        let split = partitioner.split(&batch).unwrap();
        assert_eq!(rows_of(&split[0].1), [0, 2]);
        // Other numbers for the same values.
        let dictionary: DictionaryArray<Int8Type> = ["c", "b"].into_iter().collect();
        let batch = RecordBatch::try_new(
            batch.schema(),
            vec![Arc::new(dictionary), Arc::new(Int64Array::from_iter_values(0..2))],
        )
        .unwrap();
        let ids: Vec<_> = partitioner.split(&batch).unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [2, 1]);
    }

    #[test]
    fn columns_that_cannot_partition_are_refused_by_name() {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
        let batch = RecordBatch::try_from_iter([
            ("lists", Arc::new(lists) as ArrayRef),
            ("a", Arc::new(StringArray::from(vec!["x"]))),
        ])
        .unwrap();
        let schema = batch.schema();
        for (columns, part) in [
            (&["b"][..], "one of the columns lists, a"),
            (&["a", "a"], "each column once"),
            (&["lists"], "not supported: partition column \"lists\""),
        ] {
            let error = by(columns, &schema).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let only = Arc::new(schema.project(&[1]).unwrap());
        assert!(by(&["a"], &only).unwrap_err().to_string().contains("for the files"));
    }

    #[test]
    fn random_rows_are_split_as_by_a_map() {
        let seed = 5;
        let mut random = StdRng::seed_from_u64(seed);
        let names = ["a", "b", "a longer name than a view holds", ""];
        let mut partitioner: Option<Partitioner> = None;
        for _ in 0..100 {
            let num_rows = random.random_range(1..200);
            let distinct = random.random_range(1..5);
            let run = random.random_range(1..20);
            let mut years = Vec::new();
            let mut chosen = Vec::new();
            while years.len() < num_rows {
                let rows = random.random_range(1..=run);
                let year = Some(random.random_range(0..distinct)).filter(|year| *year != 3);
                years.extend(std::iter::repeat_n(year, rows));
                chosen.extend(std::iter::repeat_n(names[random.random_range(0..names.len())], rows));
            }
            let batch = batch(&years, &chosen);
            let partitioner =
                partitioner.get_or_insert_with(|| by(&["year", "name"], &batch.schema()).unwrap());
            let mut expected: BTreeMap<(Option<i32>, &str), Vec<i64>> = BTreeMap::new();
            for (row, key) in (0..).zip(years.into_iter().zip(chosen)) {
                expected.entry(key).or_default().push(row);
            }
            let mut expected: Vec<_> = expected.into_iter().collect();
            expected.sort_by_key(|(_, rows)| rows[0]);
            let split = partitioner.split(&batch).unwrap();
            let found: Vec<_> = split
                .iter()
                .map(|(id, rows)| {
                    let [year, name] = partitioner.values(*id) else { panic!("two values") };
                    let year = year.as_ref().map(|year| year.parse().unwrap());
                    ((year, name.as_deref().unwrap()), rows_of(rows))
                })
                .collect();
            assert_eq!(found, expected, "seed {seed}");
        }
    }
}
