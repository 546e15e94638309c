//! Large partitioned ocean datasets as DataFusion tables.
//!
//! A dataset is a directory of Parquet files. Opened as a table it is a sequence of **batches**: ordered row
//! ranges, by default one per row group, known with row counts, bounds and extents before any data is read.
//!
//! ```
//! use datafusion::prelude::SessionContext;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> datafusion::error::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().display();
//! let ctx = SessionContext::new();
//! datafusion_odp::register(&ctx)?;
//! # let sql = format!("COPY (SELECT 5.0 AS longitude, 55.0 AS latitude) TO '{path}/a.parquet' STORED AS PARQUET");
//! # ctx.sql(&sql).await?.collect().await?;
//! ctx.sql(&format!("CREATE EXTERNAL TABLE observations STORED AS ODP LOCATION '{path}/'")).await?;
//! let area = "POLYGON((-5 51, 9 51, 9 62, -5 62, -5 51))";
//! let found = ctx
//!     .sql(&format!("SELECT * FROM observations WHERE st_within(st_point(longitude, latitude), '{area}')"))
//!     .await?;
//! assert_eq!(found.count().await?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # The way of the data
//!
//! ```text
//!  CREATE EXTERNAL TABLE t STORED AS ODP LOCATION '…'  │  OdpTableProvider::open(ctx, location)
//!         │
//!  discover   lists files, pins their versions; reads a snapshot file that speaks of them, or their footers  ── I/O ──
//!         │
//!  dataset    DatasetSnapshot: ordered batches, their statistics and extents                 ── plain data ──
//!         │
//!  table      OdpTableProvider: filters and limit of a query; Selection: the batches of a filter; BatchTicket: one elsewhere
//!         │
//!  scan       pruning: the batches that may match     ◄──  geo: area against extent, three-valued
//!         │   DataSourceExec: one partition per batch, in order; neighbours merged where there are too many
//!         │   gate: a few batches open at a time; reader: the pinned version of a file, or an error
//!         │   spatial: row groups and pages outside an area are skipped, inside it kept, the rest tested row by row
//!         │
//!  DataFusion's operators, and GroupByCodesExec for groups by text that has dictionaries
//!         │
//!         └──► OrderedConcatExec where order is wanted ──► record batches, or
//!         │
//!  sink       row groups cut, encoded several at a time, put together in order; one commit record makes them visible
//! ```
//!
//! # Modules
//!
//! Private; what is public is re-exported here. Each imports only from those above it.
//!
//! | module | holds |
//! |---|---|
//! | `error` | [`OdpError`], and how it crosses into DataFusion |
//! | `options` | every setting, with its unit and default: [`OdpOptions`], [`TableOptions`] |
//! | `geo` | WKT and WKB, prepared areas, the spatial functions, what a scan can prune by |
//! | `dataset` | [`DatasetSnapshot`]: files, batches, statistics; no I/O |
//! | `filter` | the ODP filter language: from text and [`FilterVariables`] to an expression; no I/O |
//! | `discover` | from locations to a snapshot: listing, footers or the snapshot file, partitions, one schema |
//! | `scan` | which batches, through which plan, how many at a time, in which order |
//! | `aggregate` | groups of text, by the codes that a scan gives for it; groups that bounds keep apart, in one step |
//! | `sink` | writing: [`WriteOptions`], [`WriteReport`]; partitions, GeoParquet, the commit |
//! | `table` | [`OdpTableProvider`], its factory for SQL, [`Selection`], [`BatchTicket`], the table functions `odp_…` |
//! | `register` | [`register`]: all of it added to a session |
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `cli` | no | the `odp` shell: `datafusion-cli` with this crate's tables and functions |
//! | `h3` | no | `h3_cell` and `h3_boundary`: the H3 grid of hexagons |
//!
//! Options, settings, rules and what is not supported yet: `README.md`.
mod aggregate;
mod dataset;
mod date_part;
mod discover;
mod error;
mod filter;
mod geo;
mod options;
mod register;
mod row_bytes;
mod scan;
mod sink;
mod table;

pub use dataset::{BatchId, BatchMetadata, DatasetFile, DatasetSnapshot, RowGroup};
pub use discover::WrittenSnapshot;
pub use error::OdpError;
pub use filter::{FilterDate, FilterTime, FilterTimestamp, FilterValue, FilterVariables, print_filter};
pub use options::{BatchUnit, MetadataFiles, OdpOptions, OnInvalidGeometry, TableOptions};
pub use register::register;
pub use sink::{WriteMetadataFiles, WriteMode, WriteOptions, WriteReport, WrittenColumn, WrittenFile};
pub use table::{
    BatchStream, BatchTicket, KeptReason, OdpTableBuilder, OdpTableProvider, RowBounds, SelectedBatch,
    Selection, SelectionBuilder, SelectionFilter, WriteOdp,
};

/// The Rust programs of the README, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
