//! The columns that spatial filters read, apart from all others of the table.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::compute::CastOptions;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::nested_struct::cast_column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use parquet::arrow::ProjectionMask;
use parquet::schema::types::SchemaDescriptor;

use crate::geo::{FieldPath, GeometryArray, SpatialConjunct, field_path, prepare_constants};

/// Filters rewritten to read a record batch of just their columns: each a column of the table, or a field of a struct.
#[derive(Debug, Clone)]
pub(crate) struct TestColumns {
    columns: Vec<TestColumn>,
    schema: SchemaRef,
    /// The filters, over `schema`.
    pub(super) filters: Vec<Arc<dyn PhysicalExpr>>,
}

#[derive(Debug, Clone)]
struct TestColumn {
    path: FieldPath,
    /// The column or field, over the table's schema.
    source: Arc<dyn PhysicalExpr>,
    field: FieldRef,
}

/// How the columns come out of one file.
#[derive(Debug)]
pub(super) struct FileColumns {
    /// The leaves to read.
    pub(super) mask: ProjectionMask,
    readers: Vec<ColumnReader>,
    schema: SchemaRef,
}

#[derive(Debug)]
enum ColumnReader {
    /// From the record batch that was read.
    Read(Arc<dyn PhysicalExpr>),
    /// The same in every row.
    Constant(ScalarValue),
    /// The file does not have it.
    Missing,
}

impl TestColumns {
    /// # Errors
    /// If a filter does not fit the table's schema.
    pub(crate) fn try_new(conjuncts: &[SpatialConjunct], table: &Schema) -> Result<Self> {
        let mut columns: Vec<TestColumn> = vec![];
        let mut filters = Vec::with_capacity(conjuncts.len());
        for conjunct in conjuncts {
            let prepared = prepare_constants(Arc::clone(&conjunct.expr), table)?;
            let rewritten = prepared.transform_down(|expr| {
                let Some(path) = field_path(&expr, table) else { return Ok(Transformed::no(expr)) };
                let at = match columns.iter().position(|known| known.path == path) {
                    Some(at) => at,
                    None => {
                        let field = expr.return_field(table)?;
                        let field = field.as_ref().clone().with_name(path.join(".")).with_nullable(true);
                        columns.push(TestColumn { path, source: Arc::clone(&expr), field: Arc::new(field) });
                        columns.len() - 1
                    }
                };
                let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(columns[at].field.name(), at));
                Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
            })?;
            filters.push(rewritten.data);
        }
        let fields: Vec<FieldRef> = columns.iter().map(|column| Arc::clone(&column.field)).collect();
        Ok(Self { columns, schema: Arc::new(Schema::new(fields)), filters })
    }

    /// The position of a column or field in the record batches of [`FileColumns::read`].
    pub(super) fn index_of(&self, path: &FieldPath) -> Option<usize> {
        self.columns.iter().position(|column| column.path == *path)
    }

    /// The path and the field of the column, if there is just one.
    pub(super) fn only_column(&self) -> Option<(&FieldPath, &FieldRef)> {
        match self.columns.as_slice() {
            [column] => Some((&column.path, &column.field)),
            _ => None,
        }
    }

    /// The geometries in a column of a record batch.
    ///
    /// # Errors
    /// If the column is no geometry.
    pub(super) fn geometries(&self, batch: &RecordBatch, index: usize) -> Result<GeometryArray> {
        GeometryArray::try_with_field(batch.column(index), self.schema.field(index))
    }

    /// The columns as a file has them: `file` is the Arrow schema that its reader gives.
    ///
    /// # Errors
    /// If the type in the file cannot be cast to the table's.
    pub(super) fn in_file(
        &self,
        parquet: &SchemaDescriptor,
        file: &Schema,
        table: &TableSchema,
        partition_values: &[ScalarValue],
    ) -> Result<FileColumns> {
        let mut leaves = vec![];
        for column in &self.columns {
            leaves.extend(leaves_under(parquet, &column.path));
        }
        let mask = ProjectionMask::leaves(parquet, leaves.iter().copied());
        let read = pruned_schema(file, parquet, &leaves);
        let readers = self
            .columns
            .iter()
            .map(|column| {
                let partition =
                    table.table_partition_cols().iter().position(|field| *field.name() == column.path[0]);
                if let Some(partition) = partition {
                    return Ok(ColumnReader::Constant(partition_values[partition].clone()));
                }
                match has_field(&read, &column.path) {
                    true => Ok(ColumnReader::Read(over_schema(&column.source, &read)?)),
                    false => Ok(ColumnReader::Missing),
                }
            })
            .collect::<Result<_>>()?;
        Ok(FileColumns { mask, readers, schema: Arc::clone(&self.schema) })
    }
}

impl FileColumns {
    /// Whether all are columns of the file, not constants of its directory.
    pub(super) fn are_read(&self) -> bool {
        self.readers.iter().all(|reader| matches!(reader, ColumnReader::Read(_)))
    }

    /// The only column of the filters, of which `values` are in the file.
    ///
    /// # Errors
    /// If they are not of a type that can be cast to the table's.
    pub(super) fn of_values(&self, values: &ArrayRef) -> Result<RecordBatch> {
        let columns = self.schema.fields().iter().map(|field| cast_to(values, field));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<_>>()?)?)
    }

    /// The filters' columns out of a record batch of the file.
    pub(super) fn read(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let columns = self
            .readers
            .iter()
            .zip(self.schema.fields())
            .map(|(reader, field)| match reader {
                ColumnReader::Read(expr) => cast_to(&expr.evaluate(batch)?.into_array(rows)?, field),
                ColumnReader::Constant(value) => cast_to(&value.to_array_of_size(rows)?, field),
                ColumnReader::Missing => Ok(new_null_array(field.data_type(), rows)),
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

fn cast_to(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    if array.data_type() == field.data_type() {
        return Ok(Arc::clone(array));
    }
    // A value that does not fit is an error, as in DataFusion's own reader.
    let options = CastOptions { safe: false, ..Default::default() };
    cast_column(array, field.data_type(), &options)
}

/// The leaves of the Parquet schema at or below `path`.
pub(super) fn leaves_under(parquet: &SchemaDescriptor, path: &[String]) -> Vec<usize> {
    let columns = parquet.columns().iter().enumerate();
    columns
        .filter(|(_, column)| {
            let parts = column.path().parts();
            parts.len() >= path.len() && parts[..path.len()] == *path
        })
        .map(|(leaf, _)| leaf)
        .collect()
}

/// The Arrow schema of a reader that reads `leaves` alone.
fn pruned_schema(file: &Schema, parquet: &SchemaDescriptor, leaves: &[usize]) -> Schema {
    let is_read = |path: &[&str]| {
        leaves.iter().any(|leaf| {
            let column = parquet.column(*leaf);
            let parts = column.path().parts();
            parts.len() >= path.len() && parts.iter().zip(path).all(|(part, name)| part == name)
        })
    };
    fn prune(
        field: &FieldRef,
        path: &mut Vec<String>,
        is_read: &dyn Fn(&[&str]) -> bool,
    ) -> Option<FieldRef> {
        path.push(field.name().clone());
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let kept = match (is_read(&names), field.data_type()) {
            (false, _) => None,
            (true, DataType::Struct(fields)) => {
                let fields = fields.iter().filter_map(|field| prune(field, path, is_read)).collect();
                let data_type = DataType::Struct(fields);
                Some(Arc::new(field.as_ref().clone().with_data_type(data_type)))
            }
            (true, _) => Some(Arc::clone(field)),
        };
        path.pop();
        kept
    }
    let fields = file.fields().iter().filter_map(|field| prune(field, &mut vec![], &is_read));
    Schema::new(fields.collect::<Vec<_>>())
}

fn has_field(schema: &Schema, path: &[String]) -> bool {
    let Some((name, rest)) = path.split_first() else { return false };
    let Ok(field) = schema.field_with_name(name) else { return false };
    let mut data_type = field.data_type();
    for name in rest {
        let DataType::Struct(fields) = data_type else { return false };
        let Some((_, field)) = fields.find(name) else { return false };
        data_type = field.data_type();
    }
    true
}

/// A column or field, over another schema.
fn over_schema(source: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    if let Some(column) = source.downcast_ref::<Column>() {
        return Ok(Arc::new(Column::new_with_schema(column.name(), schema)?));
    }
    let Some(function) = source.downcast_ref::<ScalarFunctionExpr>() else {
        return internal_err!("expected a column or a field of one, found {source}");
    };
    let mut args = function.args().to_vec();
    args[0] = over_schema(&args[0], schema)?;
    let udf = Arc::new(function.fun().clone());
    let config = Arc::new(function.config_options().clone());
    Ok(Arc::new(ScalarFunctionExpr::try_new(udf, args, schema, config)?))
}
