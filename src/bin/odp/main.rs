//! `odp`: the SQL shell of DataFusion with this crate's tables and functions.
//!
//! Results go to stdout, errors to stderr. Exit codes: 0 done, 1 a query failed, 2 wrong usage. A reader that
//! closes stdout early has what it wants: that is 0 too.

mod args;
mod progress;
mod repl;
mod script;
mod session;
mod table_options;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result};
use datafusion_cli::print_options::PrintOptions;

use crate::args::{Args, Input, Meaning};
use crate::script::OnError;
use crate::session::Shell;

// Less memory than with mimalloc and the system's allocator, above all for writing; see `.cargo/config.toml`.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    env_logger::init();
    // Wrong usage, `--help` and `--version` end here, with the exit codes of clap.
    let meaning = Meaning::from(Args::parse());
    end_quietly_on_closed_stdout();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let result = runtime.block_on(Box::pin(run(meaning)));
    // Reads that nobody waits for must not delay the end.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_stdout(&error) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn run(meaning: Meaning) -> Result<()> {
    if !meaning.quiet {
        writeln!(io::stdout(), "{}", banner())?;
    }
    if let Some(path) = &meaning.data_path {
        std::env::set_current_dir(path)?;
    }
    let (shell, mut print_options) = session::open(&meaning).await?;
    match meaning.input {
        Input::Given { files, commands } => {
            for file in &files {
                script::run_file(&shell, file, &mut print_options, OnError::Stop).await?;
            }
            for command in commands {
                script::run_statements(&shell, command, &print_options).await?;
            }
            Ok(())
        }
        Input::Stdin { rc } => run_stdin(&shell, &rc, &mut print_options).await,
    }
}

/// Statements of stdin: typed at a terminal, or a script.
async fn run_stdin(shell: &Shell, rc: &[PathBuf], print_options: &mut PrintOptions) -> Result<()> {
    for file in rc {
        script::run_file(shell, file, print_options, OnError::Report).await?;
    }
    if io::stdin().is_terminal() {
        repl::run(shell, print_options).await
    } else {
        script::run_lines(shell, io::stdin().lock(), print_options, OnError::Stop).await
    }
}

/// `odp v0.1.0 (DataFusion 55.2)`
fn banner() -> String {
    let datafusion = datafusion::DATAFUSION_VERSION;
    let minor = datafusion.rsplit_once('.').map_or(datafusion, |(minor, _patch)| minor);
    format!("odp v{} (DataFusion {minor})", env!("CARGO_PKG_VERSION"))
}

fn failed(error: &DataFusionError) -> ExitCode {
    report(error);
    ExitCode::FAILURE
}

/// Writes `error` and its causes to stderr. A closed stderr has no reader: nothing to do about it.
fn report(error: &DataFusionError) {
    let _ = writeln!(io::stderr(), "Error: {}", chain(error));
}

/// The message of `error`, and those of its causes that it does not repeat, in one line unless one has several.
fn chain(error: &DataFusionError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let message = next.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = next.source();
    }
    text.replace(".\ncaused by\n", ": ").replace("\ncaused by\n", ": ")
}

/// True where writing a result failed because nobody reads stdout any more. The reading side of a query never
/// gives these variants: storage errors come as `ObjectStore` or `External`.
fn is_closed_stdout(error: &DataFusionError) -> bool {
    match error {
        DataFusionError::IoError(error) => error.kind() == io::ErrorKind::BrokenPipe,
        DataFusionError::ArrowError(error, _) => match error.as_ref() {
            ArrowError::IoError(_, error) => error.kind() == io::ErrorKind::BrokenPipe,
            // Arrow's writers keep the text only.
            ArrowError::CsvError(text) | ArrowError::JsonError(text) => text.contains("Broken pipe"),
            _ => false,
        },
        DataFusionError::Context(_, error) | DataFusionError::Diagnostic(_, error) => is_closed_stdout(error),
        _ => false,
    }
}

/// `datafusion_cli` prints the answers of `\h`, `\quiet` and the like with `println!`, which panics on a closed
/// stdout; the program ends there as it does for rows.
fn end_quietly_on_closed_stdout() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload_as_str().unwrap_or_default();
        if message.starts_with("failed printing to stdout") && message.contains("Broken pipe") {
            std::process::exit(0);
        }
        default(panic);
    }));
}
