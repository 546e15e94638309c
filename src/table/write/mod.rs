//! Writing: `COPY … STORED AS ODP`, `INSERT INTO`, `DataFrame`s and selections, all of them through one sink.

mod data_frame;
mod file_format;
mod partition_columns;
mod plan;
mod refresh;

pub use data_frame::WriteOdp;
pub(super) use data_frame::{names_a_file, write_rows};
pub(crate) use file_format::OdpFormatFactory;
pub(super) use plan::{Columns, Destination, plan_write, session_state};
pub(super) use refresh::Refresh;
