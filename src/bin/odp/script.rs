//! Statements from files and pipes.
//!
//! `datafusion_cli::exec::exec_from_files` goes on after a failed statement and forgets that it failed; here the
//! exit code has to tell. What a script may hold is the same, and the `\` commands of the shell besides.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use datafusion::common::{DataFusionError, Result, exec_datafusion_err};
use datafusion_cli::cli_context::CliSessionContext;
use datafusion_cli::command::{Command, OutputFormat};
use datafusion_cli::exec::exec_from_commands;
use datafusion_cli::print_options::PrintOptions;

use crate::report;
use crate::session::Shell;
use crate::table_options::in_odp_namespace;

/// What a failed statement does to the rest of its script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnError {
    /// Ends it, with the statement's error.
    Stop,
    /// Nothing; the error is printed.
    Report,
}

/// Runs the script in the file `path`.
pub(crate) async fn run_file(
    shell: &Shell,
    path: &Path,
    print_options: &mut PrintOptions,
    on_error: OnError,
) -> Result<()> {
    let file = File::open(path).map_err(|error| read_error(error, &path.display().to_string()))?;
    run_lines(shell, BufReader::new(file), print_options, on_error).await
}

/// Runs the script that `reader` gives. A statement ends at a line that ends in `;`, or at the end; lines that
/// start with `--` or `#!` are skipped.
pub(crate) async fn run_lines(
    shell: &Shell,
    reader: impl BufRead,
    print_options: &mut PrintOptions,
    on_error: OnError,
) -> Result<()> {
    let mut pending = String::new();
    for line in reader.lines() {
        let line = line.map_err(|error| read_error(error, "the script"))?;
        let line = line.trim_end();
        if line.starts_with("--") || line.starts_with("#!") {
            continue;
        }
        let result = match line.strip_prefix('\\') {
            Some(command) if pending.trim().is_empty() => match command.trim() {
                command if is_quit(command) => return Ok(()),
                command => run_command(shell, command, print_options).await,
            },
            _ => {
                pending.push_str(line);
                pending.push('\n');
                match line.ends_with(';') {
                    true => run_statements(shell, std::mem::take(&mut pending), print_options).await,
                    false => Ok(()),
                }
            }
        };
        match result {
            Err(error) if on_error == OnError::Report => report(&error),
            result => result?,
        }
    }
    match (run_statements(shell, pending, print_options).await, on_error) {
        (Err(error), OnError::Report) => {
            report(&error);
            Ok(())
        }
        (result, _) => result,
    }
}

/// Runs the statements in `text` up to the first that fails.
pub(crate) async fn run_statements(shell: &Shell, text: String, print_options: &PrintOptions) -> Result<()> {
    if text.trim().is_empty() {
        return Ok(());
    }
    shell.stream_results_as(print_options.format);
    let text = {
        let task = shell.task_ctx();
        in_odp_namespace(text, task.session_config().options().sql_parser.dialect.as_ref())
    };
    Box::pin(exec_from_commands(shell, vec![text], print_options)).await
}

/// True for the `\` command, here without the `\`, that ends the session.
pub(crate) fn is_quit(text: &str) -> bool {
    text.trim() == "q"
}

/// Runs a `\` command, here without the `\`.
pub(crate) async fn run_command(shell: &Shell, text: &str, print_options: &mut PrintOptions) -> Result<()> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let unknown = || exec_datafusion_err!("'\\{text}' is not a valid command, use '\\?' to see all commands");
    shell.collect_results();
    match text.parse::<Command>().map_err(|()| unknown())? {
        Command::OutputFormat(Some(format)) => {
            format.parse::<OutputFormat>().map_err(|()| unknown())?.execute(print_options)
        }
        Command::OutputFormat(None) => Err(unknown()),
        command => Box::pin(command.execute(shell, print_options)).await,
    }
}

fn read_error(error: io::Error, name: &str) -> DataFusionError {
    DataFusionError::IoError(error).context(format!("cannot read {name}"))
}
