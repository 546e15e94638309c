//! `CREATE EXTERNAL TABLE … STORED AS ODP`.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::common::Result;
use datafusion::logical_expr::CreateExternalTable;

use super::provider::OdpTableProvider;
use crate::error::OdpError;
use crate::options::TableOptions;

/// Makes [`OdpTableProvider`]s for SQL.
#[derive(Debug, Default)]
pub(crate) struct OdpTableFactory;

#[async_trait]
impl TableProviderFactory for OdpTableFactory {
    async fn create(&self, state: &dyn Session, cmd: &CreateExternalTable) -> Result<Arc<dyn TableProvider>> {
        if cmd.unbounded {
            return Err(OdpError::Unsupported { what: "UNBOUNDED tables of ODP batches".into() }.into());
        }
        let Some((first, others)) = cmd.locations.split_first() else {
            let reason = "no location is given".into();
            return Err(OdpError::EmptyDataset { location: cmd.name.to_string(), reason }.into());
        };
        let mut builder = OdpTableProvider::builder(first)
            .with_options(TableOptions::try_from_map(&cmd.options)?)
            .with_constraints(cmd.constraints.clone())
            .with_definition(cmd.definition.clone());
        for location in others {
            builder = builder.with_location(location);
        }
        let declared = cmd.schema.as_arrow();
        if !cmd.table_partition_cols.is_empty() {
            builder = builder.with_partition_columns(cmd.table_partition_cols.iter().map(|name| {
                let data_type =
                    declared.field_with_name(name).ok().map(|field| partition_type(field.data_type()));
                (name.clone(), data_type)
            }));
        }
        let columns: Vec<_> = declared
            .fields()
            .iter()
            .filter(|field| !cmd.table_partition_cols.contains(field.name()))
            .cloned()
            .collect();
        if !columns.is_empty() {
            builder = builder.with_schema(Arc::new(Schema::new(columns)));
        }
        for order in &cmd.order_exprs {
            builder = builder.with_order(order.clone());
        }
        Ok(Arc::new(builder.open_in(state).await?))
    }
}

/// The type of a declared partition column; text has the plain layout.
fn partition_type(declared: &DataType) -> DataType {
    match declared {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        other => other.clone(),
    }
}
