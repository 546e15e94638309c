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
    /// Files have the other columns, or all of them if `keep_columns`.
    /// # Errors
    /// [`OdpError::InvalidOption`] for names that are not known or occur twice, and if files would have no column;
    /// [`OdpError::Unsupported`] for types that have no text, and names that cannot name a directory.
    pub(crate) fn try_new(
        schema: &SchemaRef,
        columns: &[String],
        keep_columns: bool,
    ) -> Result<Self, OdpError> {
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
            (0..schema.fields().len()).filter(|index| keep_columns || !key_columns.contains(index)).collect();
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
    ///
    /// Partitions are numbered in order of first appearance over all calls.
    pub(crate) fn split(&mut self, record_batch: &RecordBatch) -> Result<Vec<(usize, RecordBatch)>> {
        let arranged = self.arrange(record_batch)?;
        if let [(partition, _)] = arranged.partitions[..] {
            return Ok(vec![(partition, arranged.rows)]);
        }
        let slice = |(partition, range): (usize, Range<usize>)| {
            (partition, arranged.rows.slice(range.start, range.len()))
        };
        Ok(arranged.partitions.into_iter().map(slice).collect())
    }

    /// As [`split`](Self::split), with one record batch for all partitions: cheaper where they are many.
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
