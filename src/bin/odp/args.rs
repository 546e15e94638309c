//! The command line: flags as typed ([`Args`]), then as meant ([`Meaning`]).

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Parser;
use datafusion_cli::object_storage::instrumented::InstrumentedObjectStoreMode;
use datafusion_cli::object_storage::is_stdin_location;
use datafusion_cli::pool_type::PoolType;
use datafusion_cli::print_format::PrintFormat;
use datafusion_cli::print_options::MaxRows;

/// SQL over partitioned ocean datasets: datafusion-cli with STORED AS ODP.
///
/// Settings can also come from the environment: datafusion.execution.batch_size from
/// DATAFUSION_EXECUTION_BATCH_SIZE, and so on.
#[derive(Debug, Parser)]
#[command(name = "odp", version, after_help = "Exit codes: 0 done, 1 a query failed, 2 wrong usage.")]
pub(crate) struct Args {
    /// Directory that relative paths start from [default: the current directory]
    #[arg(short = 'p', long, value_parser = directory)]
    data_path: Option<PathBuf>,

    /// Rows per record batch [default: that of DataFusion]
    #[arg(short = 'b', long)]
    batch_size: Option<NonZeroUsize>,

    /// Run these statements, then exit; the first one that fails ends the run
    #[arg(short = 'c', long, num_args = 1.., value_parser = command)]
    command: Vec<String>,

    /// Memory that queries may use, such as 10g [default: no limit]
    #[arg(short = 'm', long, value_parser = size)]
    memory_limit: Option<usize>,

    /// Run the statements in these files, then exit; the first one that fails ends the run
    #[arg(short = 'f', long, num_args = 1.., value_parser = file)]
    file: Vec<PathBuf>,

    /// Run these files on start-up instead of ~/.datafusionrc
    #[arg(short = 'r', long, num_args = 0.., value_parser = file, conflicts_with = "file")]
    rc: Option<Vec<PathBuf>>,

    /// How results are written
    #[arg(long, value_enum, default_value_t = PrintFormat::Automatic)]
    format: PrintFormat,

    /// Print results only
    #[arg(short = 'q', long)]
    quiet: bool,

    /// How queries share a memory limit: greedy or fair
    #[arg(long, default_value_t = PoolType::Greedy)]
    mem_pool_type: PoolType,

    /// Consumers to name when memory runs out; 0 = do not track them
    #[arg(long, default_value_t = 3)]
    top_memory_consumers: usize,

    /// Rows to show of a table, a number or inf; other formats always have all rows
    #[arg(long, default_value = "40")]
    maxrows: MaxRows,

    /// Highlight syntax
    #[arg(long)]
    color: bool,

    /// Disk space that spilling queries may use, such as 10g [default: that of DataFusion, 100g]
    #[arg(short = 'd', long, value_parser = size)]
    disk_limit: Option<usize>,

    /// Requests to object stores to print: disabled, summary or trace
    #[arg(long, default_value_t = InstrumentedObjectStoreMode::Disabled)]
    object_store_profiling: InstrumentedObjectStoreMode,

    /// Partitions to process at a time [default: the number of cores]
    #[arg(long)]
    threads: Option<NonZeroUsize>,

    /// Let queries without ORDER BY give rows in any order
    #[arg(long)]
    no_source_order: bool,
}

/// What a command line asks for.
#[derive(Debug)]
pub(crate) struct Meaning {
    /// Where statements come from.
    pub(crate) input: Input,
    /// Directory to go to first.
    pub(crate) data_path: Option<PathBuf>,
    /// Results only: no banner, no times, no progress.
    pub(crate) quiet: bool,
    /// How results are written.
    pub(crate) format: PrintFormat,
    /// Rows to print of a result.
    pub(crate) maxrows: MaxRows,
    /// Highlight syntax.
    pub(crate) color: bool,
    /// Rows per record batch.
    pub(crate) batch_size: Option<NonZeroUsize>,
    /// `target_partitions`.
    pub(crate) threads: Option<NonZeroUsize>,
    /// `odp.source_order`.
    pub(crate) source_order: bool,
    /// Memory of all queries together.
    pub(crate) memory: Option<MemoryLimit>,
    /// Disk space for spilling.
    pub(crate) disk_limit_bytes: Option<u64>,
    /// Which requests to object stores are recorded.
    pub(crate) profiling: InstrumentedObjectStoreMode,
    /// Statements come through stdin, so that no table can.
    pub(crate) stdin_is_taken: bool,
}

/// Where statements come from.
#[derive(Debug)]
pub(crate) enum Input {
    /// The command line: files first.
    Given {
        /// Scripts.
        files: Vec<PathBuf>,
        /// One or more statements each.
        commands: Vec<String>,
    },
    /// The terminal, or a pipe.
    Stdin {
        /// Scripts to run first.
        rc: Vec<PathBuf>,
    },
}

/// A bound on the memory of all queries together.
#[derive(Debug, Clone)]
pub(crate) struct MemoryLimit {
    /// The bound.
    pub(crate) bytes: usize,
    /// How queries share it.
    pub(crate) pool: PoolType,
    /// Consumers to name in errors; `None` = not tracked.
    pub(crate) top_consumers: Option<NonZeroUsize>,
}

impl From<Args> for Meaning {
    fn from(args: Args) -> Self {
        let is_given = !args.command.is_empty() || !args.file.is_empty();
        let stdin_is_taken =
            !is_given || args.file.iter().any(|file| file.to_str().is_some_and(is_stdin_location));
        let input = match is_given {
            true => Input::Given { files: args.file, commands: args.command },
            false => Input::Stdin { rc: args.rc.unwrap_or_else(|| home_rc().into_iter().collect()) },
        };
        // A limit would cut other formats between two record batches without a word.
        let is_table = matches!(args.format, PrintFormat::Table | PrintFormat::Automatic);
        Self {
            input,
            data_path: args.data_path,
            quiet: args.quiet,
            format: args.format,
            maxrows: if is_table { args.maxrows } else { MaxRows::Unlimited },
            color: args.color,
            batch_size: args.batch_size,
            threads: args.threads,
            source_order: !args.no_source_order,
            memory: args.memory_limit.map(|bytes| MemoryLimit {
                bytes,
                pool: args.mem_pool_type,
                top_consumers: NonZeroUsize::new(args.top_memory_consumers),
            }),
            disk_limit_bytes: args.disk_limit.map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX)),
            profiling: args.object_store_profiling,
            stdin_is_taken,
        }
    }
}

/// `~/.datafusionrc`, if there is one.
fn home_rc() -> Option<PathBuf> {
    let rc = std::env::home_dir()?.join(".datafusionrc");
    rc.is_file().then_some(rc)
}

fn command(text: &str) -> Result<String, String> {
    match text.is_empty() {
        true => Err("expected a statement".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn directory(text: &str) -> Result<PathBuf, String> {
    match Path::new(text).is_dir() {
        true => Ok(text.into()),
        false => Err("not a directory".to_owned()),
    }
}

/// The file's absolute path: `--data-path` changes directory before it is opened.
fn file(text: &str) -> Result<PathBuf, String> {
    if is_stdin_location(text) {
        return Ok(text.into());
    }
    match Path::new(text).is_file() {
        true => std::path::absolute(text).map_err(|error| error.to_string()),
        false => Err("not a file".to_owned()),
    }
}

/// Bytes in `512`, `64k`, `10mb`, `2G`: powers of 1024.
fn size(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let unit_at = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(unit_at);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        _ => return Err("expected a number and one of b, k, m, g, t, such as 10g".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a number of bytes, such as 10g".to_owned())?;
    let bytes = number.checked_mul(1 << shift).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| "too large".to_owned())
}
