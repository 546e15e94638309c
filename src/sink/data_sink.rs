//! [`OdpSink`]: the end of a plan whose rows are written as a dataset.

use std::any::Any;
use std::fmt::{self, Debug, Formatter};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{DataFusionError, Result, exec_err, internal_err};
use datafusion::datasource::sink::DataSink;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType};
use futures::FutureExt;
use parquet::file::metadata::SortingColumn;
use tokio::sync::{Semaphore, mpsc};

use super::assembler::{Assembler, FileLimits};
use super::commit::{Begun, Commit, Transaction};
use super::dictionaries::leaves_without_dictionary;
use super::distributor::{SampledRows, Submitter, write_partitioned, write_whole};
use super::encoder::{Encoder, joined, leaf_count};
use super::file_writer::FinishedFile;
use super::geometry::GeometryWriter;
use super::metadata_files::write_metadata_files;
use super::metrics::SinkMetrics;
use super::parquet_options::ParquetWriting;
use super::partitioning::Partitioner;
use super::report::{LastWrite, WriteReport, WrittenFile, column_statistics};
use super::target::Target;
use super::write_mode::WriteMode;
use super::write_options::{WriteMetadataFiles, WriteOptions};

/// What is done once rows are there to stay: a table takes note of them, a snapshot file is written.
#[async_trait]
pub(crate) trait AfterCommit: Debug + Send + Sync {
    /// # Errors
    /// The rows are written all the same.
    async fn committed(&self, report: &WriteReport) -> Result<()>;
}

/// What a plan says of a write.
#[derive(Debug)]
pub(crate) struct WriteRequest {
    pub(crate) target: Target,
    pub(crate) mode: WriteMode,
    pub(crate) options: WriteOptions,
    pub(crate) parquet: ParquetWriting,
    /// Columns of the rows.
    pub(crate) partition_by: Vec<String>,
    /// Names that files of the dataset may end in.
    pub(crate) file_extensions: Vec<String>,
    /// The files have the columns of the rows, and no others.
    pub(crate) has_fixed_columns: bool,
    /// The order that rows are proven to come in: columns, descending, NULLs first.
    pub(crate) sorted_by: Vec<(String, SortOptions)>,
    pub(crate) after: Option<Arc<dyn AfterCommit>>,
    /// Where the report is left.
    pub(crate) last_write: Option<Arc<LastWrite>>,
}

/// Writes rows as a dataset, or as one file: in the order in which they come, all or none.
pub(crate) struct OdpSink {
    /// Of the rows that come.
    schema: SchemaRef,
    request: WriteRequest,
    metrics: SinkMetrics,
}

impl OdpSink {
    pub(crate) fn new(schema: SchemaRef, request: WriteRequest) -> Self {
        Self { schema, request, metrics: SinkMetrics::new() }
    }

    /// Writes all `rows`, complete and not visible.
    async fn stage(
        &self,
        rows: SendableRecordBatchStream,
        transaction: &Arc<Transaction>,
        context: &Arc<TaskContext>,
    ) -> Result<Staged> {
        let request = &self.request;
        let partitioner = match request.partition_by.as_slice() {
            [] => None,
            columns => Some(Partitioner::try_new(&self.schema, columns)?),
        };
        let partition_columns = partitioner.as_ref().map(Partitioner::partition_columns).unwrap_or_default();
        let row_schema = partitioner.as_ref().map_or(&self.schema, Partitioner::file_schema);
        let geometry_options = request.options.geometry(!request.has_fixed_columns);
        let geometry = GeometryWriter::try_new(row_schema, &geometry_options)?;
        let file_schema = Arc::clone(geometry.as_ref().map_or(row_schema, GeometryWriter::file_schema));
        let rows = SampledRows::read(rows).await?;
        let unrepeated = match rows.sample(row_schema)? {
            Some(sample) => match &geometry {
                Some(geometry) => leaves_without_dictionary(&geometry.prepare(&sample)?.0),
                None => leaves_without_dictionary(&sample),
            },
            None => Vec::new(),
        };
        let sorting = match has_floats(&partition_columns) {
            // Several kinds of NaN are in one partition.
            true => None,
            false => sorting_columns(&request.sorted_by, &self.schema, &file_schema),
        };
        let properties = Arc::new(request.parquet.properties(&file_schema, sorting, unrepeated)?);
        let encoder = Arc::new(Encoder::try_new(Arc::clone(&file_schema), properties, geometry)?);

        let ParquetWriting { max_rows, max_bytes, .. } = request.parquet;
        let group_rows = request.options.batch_rows(rows.row_bytes, max_rows, max_bytes);
        // One more than can be encoded at a time: the one that waits for its turn in the file.
        let in_flight = context.session_config().target_partitions() + 1;
        let (commands, received) = mpsc::channel(in_flight);
        let max_writers = request.options.max_open_writers();
        let finishing = (max_writers / 8).clamp(1, 8);
        let limits = match request.target.is_file {
            true => FileLimits { rows: u64::MAX, bytes: u64::MAX, finishing },
            false => FileLimits {
                rows: request.options.max_file_rows(),
                bytes: request.options.max_file_bytes(),
                finishing,
            },
        };
        let memory = MemoryConsumer::new("OdpSink").register(context.memory_pool());
        let assembler = Assembler::new(
            Arc::clone(transaction),
            Arc::clone(&encoder),
            limits,
            self.metrics.clone(),
            memory.new_empty(),
        );
        let assembler = SpawnedTask::spawn(assembler.run(received));
        let submitter = Submitter {
            encoder: Arc::clone(&encoder),
            turns: Arc::new(Semaphore::new(in_flight)),
            in_flight,
            memory,
            commands,
            metrics: self.metrics.clone(),
        };
        let distributed = match partitioner {
            None => write_whole(rows, group_rows, submitter).await,
            Some(partitioner) => {
                let (open, buffer) = ((max_writers - finishing).max(1), request.options.buffer_bytes());
                write_partitioned(rows, group_rows, partitioner, open, buffer, context, submitter).await
            }
        };
        // The assembler's error is why rows could not be handed on; without one it ends with what it was given.
        let files = joined(assembler).await?;
        distributed?;
        Ok(Staged { files, file_schema, partition_columns })
    }

    /// Makes what is staged visible, and says what it is.
    async fn commit(&self, transaction: Transaction, staged: Staged) -> Result<WriteReport> {
        let Staged { files, file_schema, partition_columns } = staged;
        let (data, footers): (Vec<_>, Vec<_>) =
            files.into_iter().map(|file| (file.data, file.footer)).unzip();
        let names: Vec<String> = partition_columns.iter().map(|(name, _)| name.clone()).collect();
        let mut written: Vec<WrittenFile> = data
            .iter()
            .zip(&footers)
            .map(|(file, footer)| WrittenFile {
                path: String::new(),
                rows: file.rows,
                bytes: file.staged.bytes,
                row_groups: file.row_groups,
                partition: names.iter().cloned().zip(file.partition.iter().cloned()).collect(),
                columns: column_statistics(footer, &file_schema),
            })
            .collect();
        let Commit { version, files, removed } = transaction.commit(data, partition_columns).await?;
        for (file, path) in written.iter_mut().zip(&files) {
            file.path.clone_from(path);
        }
        let mut metadata_files = self.request.options.metadata_files();
        if files.is_empty() && matches!(self.request.mode, WriteMode::Overwrite | WriteMode::ErrorIfExists) {
            // A dataset without rows has its columns from there.
            metadata_files = metadata_files.max(WriteMetadataFiles::Common);
        }
        let footers = files.into_iter().zip(footers).collect();
        let beside = write_metadata_files(&self.request.target, metadata_files, footers, &file_schema).await;
        written.sort_by(|a, b| a.path.cmp(&b.path));
        let report = self.report(version, written, removed);
        self.leave(&report);
        beside.map_err(|error| after_commit(&report, error.into()))?;
        Ok(report)
    }

    /// Leaves the report for those who ask for it.
    fn leave(&self, report: &WriteReport) {
        if let Some(last_write) = &self.request.last_write {
            last_write.set(Arc::new(report.clone()));
        }
    }

    fn report(&self, version: Option<u64>, files: Vec<WrittenFile>, removed: Vec<String>) -> WriteReport {
        let WriteRequest { target, mode, .. } = &self.request;
        WriteReport { location: target.display.clone(), mode: *mode, version, files, removed }
    }
}

/// An error that takes nothing back.
fn after_commit(report: &WriteReport, error: DataFusionError) -> DataFusionError {
    let rows = report.rows();
    error.context(format!("{rows} rows are written to {}, do not write them again, but", report.location))
}

fn has_floats(columns: &[(String, DataType)]) -> bool {
    columns.iter().any(|(_, data_type)| data_type.is_floating())
}

/// What a panic says.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of unknown cause")
}

/// Files that are complete and not visible, and what they have in common.
struct Staged {
    files: Vec<FinishedFile>,
    file_schema: SchemaRef,
    partition_columns: Vec<(String, DataType)>,
}

/// As the files name the order: by leaves. As far as its columns are stored as one.
fn sorting_columns(
    order: &[(String, SortOptions)],
    rows: &SchemaRef,
    schema: &SchemaRef,
) -> Option<Vec<SortingColumn>> {
    let mut columns = Vec::new();
    for (name, options) in order {
        // What is stored as another type may be in another order, and one of two columns of a name is not known.
        let of_name = rows.fields().iter().filter(|field| field.name() == name);
        let types: Vec<&DataType> = of_name.map(|field| field.data_type()).collect();
        let stored = schema.field_with_name(name).ok().map(|field| field.data_type());
        if types.len() != 1 || types.first().copied() != stored {
            break;
        }
        let Some((index, field)) = schema.column_with_name(name).filter(|(_, f)| !f.data_type().is_nested())
        else {
            break;
        };
        let before: usize = schema.fields()[..index].iter().map(|field| leaf_count(field.data_type())).sum();
        debug_assert_eq!(leaf_count(field.data_type()), 1);
        columns.push(SortingColumn {
            column_idx: i32::try_from(before).ok()?,
            descending: options.descending,
            nulls_first: options.nulls_first,
        });
    }
    (!columns.is_empty()).then_some(columns)
}

impl Debug for OdpSink {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("OdpSink").field("request", &self.request).finish_non_exhaustive()
    }
}

impl DisplayAs for OdpSink {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut Formatter<'_>) -> fmt::Result {
        let WriteRequest { target, mode, partition_by, sorted_by, .. } = &self.request;
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "OdpSink(location={}, mode={mode}", target.display)?;
                if !partition_by.is_empty() {
                    write!(f, ", partition_by=[{}]", partition_by.join(", "))?;
                }
                if !sorted_by.is_empty() {
                    let names: Vec<&str> = sorted_by.iter().map(|(name, _)| name.as_str()).collect();
                    write!(f, ", sorted_by=[{}]", names.join(", "))?;
                }
                write!(f, ")")
            }
            DisplayFormatType::TreeRender => writeln!(f, "mode={mode}"),
        }
    }
}

#[async_trait]
impl DataSink for OdpSink {
    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.all())
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(&self, data: SendableRecordBatchStream, context: &Arc<TaskContext>) -> Result<u64> {
        let WriteRequest { target, mode, file_extensions, .. } = &self.request;
        // Before a row is read, what can be refused is refused.
        let report = match Transaction::begin(target.clone(), *mode, file_extensions).await? {
            Begun::Nothing => self.report(None, Vec::new(), Vec::new()),
            Begun::Write(transaction) => {
                let keep_replaced = self.request.options.keeps_replaced();
                let transaction = transaction.with_keep_replaced(keep_replaced);
                let transaction = Arc::new(transaction.with_rows_of_table(self.request.has_fixed_columns));
                // A panic of what makes the rows must not leave them half written.
                let staged = AssertUnwindSafe(self.stage(data, &transaction, context)).catch_unwind().await;
                let staged = staged
                    .unwrap_or_else(|panic| exec_err!("the rows ended in a panic: {}", text_of(&*panic)));
                let Some(transaction) = Arc::into_inner(transaction) else {
                    return internal_err!("a task of the write outlived it");
                };
                match staged {
                    Ok(staged) => {
                        let _timer = self.metrics.commit_time.timer();
                        self.commit(transaction, staged).await?
                    }
                    Err(error) => {
                        transaction.abort().await;
                        return Err(error);
                    }
                }
            }
        };
        self.leave(&report);
        if let Some(after) = &self.request.after {
            after.committed(&report).await.map_err(|error| after_commit(&report, error))?;
        }
        Ok(report.rows())
    }
}
