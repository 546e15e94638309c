//! SQL tests: one trial per file of `sql-tests/slt`, and one per Parquet file of the public corpora.
//!
//! `sql-tests/README.md` says how to run them and how to add one.

mod corpora;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use libtest_mimic::{Arguments, Failed, Trial};
use sqllogictest::{AsyncDB, ColumnType, DBOutput, Runner};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

type TestResult<T> = Result<T, Box<dyn Error>>;

/// Stands for the directory of a script's own, in its SQL and in what it expects.
const WORK_DIR: &str = "${WORK_DIR}";

#[expect(clippy::print_stderr, reason = "a test program says why it cannot start")]
fn main() -> ExitCode {
    let (flags, rest): (Vec<String>, Vec<String>) = std::env::args().partition(|arg| arg == "--complete");
    let is_completing = !flags.is_empty();
    let arguments = Arguments::from_iter(rest);
    let trials = slt_trials(is_completing).and_then(|mut trials| {
        if !is_completing {
            trials.extend(corpora::trials()?);
        }
        Ok(trials)
    });
    match trials {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("cannot collect the tests: {error}");
            ExitCode::FAILURE
        }
    }
}

fn slt_trials(is_completing: bool) -> TestResult<Vec<Trial>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql-tests/slt");
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "slt") {
            scripts.push(path);
        }
    }
    scripts.sort();
    let trials = scripts.into_iter().map(|script| {
        let name = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Trial::test(format!("slt::{name}"), move || {
            run_script(&script, is_completing).map_err(|error| Failed::from(error.to_string()))
        })
    });
    Ok(trials.collect())
}

/// Runs one script; with `is_completing`, writes what it gave into it.
fn run_script(script: &Path, is_completing: bool) -> TestResult<()> {
    runtime()?.block_on(async {
        let directory = TempDir::with_prefix("odp-slt-")?;
        let work_dir = directory.path().canonicalize()?;
        let mut runner = Runner::new(|| {
            let work_dir = work_dir.clone();
            async move { Session::try_new(work_dir) }
        });
        // For `system` records, below `control substitution on`.
        runner.set_var("WORK_DIR".to_owned(), work_dir.to_string_lossy().into_owned());
        runner.with_column_validator(sqllogictest::strict_column_validator);
        match is_completing {
            true => {
                let validator = sqllogictest::default_validator;
                let normalizer = sqllogictest::default_normalizer;
                let types = sqllogictest::strict_column_validator;
                runner.update_test_file(script, " ", validator, normalizer, types).await
            }
            false => Ok(runner.run_file_async(script).await?),
        }
    })
}

/// Threads have stacks that hold unoptimised DataFusion.
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).thread_stack_size(8 << 20).enable_all().build()
}

/// A session with this crate's tables and functions; plans do not depend on the machine.
fn session() -> datafusion::common::Result<SessionContext> {
    let config = SessionConfig::new()
        .with_target_partitions(4)
        .with_information_schema(true)
        .set_bool("datafusion.explain.physical_plan_only", true);
    let ctx = SessionContext::new_with_config(config);
    datafusion_odp::register(&ctx)?;
    Ok(ctx)
}

/// What scripts talk to.
struct Session {
    ctx: SessionContext,
    work_dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SqlError(String);

impl Session {
    fn try_new(work_dir: PathBuf) -> Result<Self, SqlError> {
        let ctx = session().map_err(|error| SqlError(error.to_string()))?;
        Ok(Self { ctx, work_dir })
    }

    async fn query(&self, sql: &str) -> Result<DBOutput<Kind>, DataFusionError> {
        let sql = sql.replace(WORK_DIR, &self.work_dir.to_string_lossy());
        let frame = self.ctx.sql(&sql).await?;
        let types: Vec<Kind> =
            frame.schema().fields().iter().map(|field| Kind::of(field.data_type())).collect();
        let batches = frame.collect().await?;
        if types.is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let mut rows = Vec::new();
        for batch in &batches {
            for row in text_rows(batch)? {
                rows.extend(
                    split_last(row).into_iter().map(|row| row.iter().map(|cell| self.stable(cell)).collect()),
                );
            }
        }
        Ok(DBOutput::Rows { types, rows })
    }

    /// `text` without what differs between runs: the work directory, and where row groups lie in a file.
    fn stable(&self, text: &str) -> String {
        let absolute = self.work_dir.to_string_lossy();
        let text =
            text.replace(absolute.as_ref(), WORK_DIR).replace(absolute.trim_start_matches('/'), WORK_DIR);
        without_write_ids(&without_byte_ranges(&text))
    }
}

#[async_trait]
impl AsyncDB for Session {
    type Error = SqlError;
    type ColumnType = Kind;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Kind>, SqlError> {
        let result = self.query(sql).await;
        result.map_err(|error| SqlError(self.stable(&error.strip_backtrace())))
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "datafusion-odp"
    }
}

/// The letters that DataFusion's own scripts use for column types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Boolean,
    Date,
    Integer,
    Timestamp,
    Real,
    Text,
    Other,
}

impl Kind {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Timestamp(..) => Self::Timestamp,
            DataType::Dictionary(_, value) => Self::of(value),
            other if other.is_integer() => Self::Integer,
            other if other.is_floating() || other.is_decimal() => Self::Real,
            other if other.is_string() => Self::Text,
            _ => Self::Other,
        }
    }
}

impl ColumnType for Kind {
    fn from_char(value: char) -> Option<Self> {
        Some(match value {
            'B' => Self::Boolean,
            'D' => Self::Date,
            'I' => Self::Integer,
            'P' => Self::Timestamp,
            'R' => Self::Real,
            'T' => Self::Text,
            '?' => Self::Other,
            _ => return None,
        })
    }

    fn to_char(&self) -> char {
        match self {
            Self::Boolean => 'B',
            Self::Date => 'D',
            Self::Integer => 'I',
            Self::Timestamp => 'P',
            Self::Real => 'R',
            Self::Text => 'T',
            Self::Other => '?',
        }
    }
}

fn text_rows(batch: &RecordBatch) -> Result<Vec<Vec<String>>, DataFusionError> {
    let options = FormatOptions::default().with_null("NULL");
    let formatters = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<Vec<_>, _>>()?;
    let cell = |formatter: &ArrayFormatter<'_>, row: usize| {
        let text = formatter.value(row).try_to_string()?;
        Ok(if text.is_empty() { "(empty)".to_owned() } else { text })
    };
    (0..batch.num_rows()).map(|row| formatters.iter().map(|f| cell(f, row)).collect()).collect()
}

/// A row whose last cell has several lines, as one row per line: numbered, with dashes for the indent, because
/// scripts are compared without regard to space.
fn split_last(mut row: Vec<String>) -> Vec<Vec<String>> {
    match row.pop() {
        Some(cell) if cell.contains('\n') => {
            let lines = cell.trim_end().lines().enumerate().map(|(i, line)| {
                let content = line.trim_start();
                vec![format!("{:02}){}{content}", i + 1, "-".repeat(line.len() - content.len()))]
            });
            std::iter::once(row).chain(lines).collect()
        }
        Some(cell) => {
            row.push(cell);
            vec![row]
        }
        None => vec![row],
    }
}

/// `text` with `<write>` for the id of a write in the name of a file.
fn without_write_ids(text: &str) -> String {
    const BEFORE: &str = "part-";
    let mut parts = text.split(BEFORE);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str(BEFORE);
        let words: Vec<&str> = part.splitn(3, '-').collect();
        let is_hex = |text: &str| text.len() >= 16 && text.chars().all(|c| c.is_ascii_hexdigit());
        match words.as_slice() {
            [version, id, rest] if is_hex(id) => {
                let version = version.trim_start_matches('0');
                shown.push_str(&format!("{version}-<write>-{rest}"));
            }
            _ => shown.push_str(part),
        }
    }
    shown
}

/// `text` with `:<range>` for `:4..9322` behind the name of a file.
fn without_byte_ranges(text: &str) -> String {
    const FILE: &str = ".parquet:";
    let mut parts = text.split(FILE);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str(FILE);
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        match rest.strip_prefix("..") {
            Some(rest) if rest.len() + 2 < part.len() => {
                shown.push_str("<range>");
                shown.push_str(rest.trim_start_matches(|c: char| c.is_ascii_digit()));
            }
            _ => shown.push_str(part),
        }
    }
    shown
}
