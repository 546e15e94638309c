//! What users hold: the table provider, its factory for SQL, selections, tickets, table functions.

mod current_snapshot;
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
mod write;

pub(crate) use factory::OdpTableFactory;
pub(crate) use functions::{
    AnalyzeFunction, BatchesFunction, CleanFunction, FilesFunction, OpenTicketFunction, SelectFunction,
    TicketsFunction, WriteReportFunction,
};
pub use provider::{OdpTableBuilder, OdpTableProvider};
pub use selected_batch::{KeptReason, RowBounds, SelectedBatch};
pub use selection::{BatchStream, Selection};
pub use selection_builder::SelectionBuilder;
pub use selection_filter::SelectionFilter;
pub use ticket::BatchTicket;
pub(crate) use write::OdpFormatFactory;
pub use write::WriteOdp;
