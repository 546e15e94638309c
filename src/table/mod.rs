//! What users hold: the table provider, its factory for SQL, selections, tickets, table functions.

mod factory;
mod functions;
mod map_batches;
mod planned_filter;
mod provider;
mod selected_batch;
mod selected_table;
mod selection;
mod selection_builder;
mod selection_filter;
mod ticket;
mod time_column;

pub(crate) use factory::OdpTableFactory;
pub(crate) use functions::{
    AnalyzeFunction, BatchesFunction, FilesFunction, OpenTicketFunction, SelectFunction, TicketsFunction,
};
pub use provider::{OdpTableBuilder, OdpTableProvider};
pub use selected_batch::{KeptReason, RowBounds, SelectedBatch};
pub use selection::{BatchStream, Selection};
pub use selection_builder::SelectionBuilder;
pub use selection_filter::SelectionFilter;
pub use ticket::BatchTicket;
