//! Statements typed at a terminal.
//!
//! `datafusion_cli::exec::exec_from_repl` runs statements in a way that this shell cannot add to (see
//! `table_options`), so the loop is here; editing, hints and completion are those of `datafusion_cli`.

use std::io::{self, Write};
use std::path::PathBuf;

use datafusion::common::{DataFusionError, Result};
use datafusion_cli::cli_context::CliSessionContext;
use datafusion_cli::helper::CliHelper;
use datafusion_cli::print_options::PrintOptions;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Editor, Result as LineResult};

use crate::report;
use crate::script::{is_quit, run_command, run_statements};
use crate::session::Shell;

/// Reads and runs statements until `\q` or the end of input. Failed statements are reported.
pub(crate) async fn run(shell: &Shell, print_options: &mut PrintOptions) -> Result<()> {
    let mut editor = editor(shell, print_options.color).map_err(external)?;
    loop {
        let text = match editor.readline("> ") {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => {
                writeln!(io::stdout(), "^C")?;
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(external(error)),
        };
        let text = text.trim();
        // History is a convenience: what cannot be kept is not worth a word.
        let _ = editor.add_history_entry(text);
        let command = text.strip_prefix('\\');
        if command.is_some_and(is_quit) {
            break;
        }
        let run = async {
            match command {
                Some(command) => run_command(shell, command, print_options).await,
                None => run_statements(shell, text.to_owned(), print_options).await,
            }
        };
        tokio::select! {
            result = run => match result {
                Ok(()) => {}
                Err(error) => report(&error),
            },
            // The terminal shows ^C itself while a query runs.
            _ = tokio::signal::ctrl_c() => writeln!(io::stdout())?,
        }
        if let Some(helper) = editor.helper_mut() {
            helper.set_dialect(&shell.task_ctx().session_config().options().sql_parser.dialect);
        }
    }
    if let Some(path) = history_path() {
        let _ = editor.save_history(&path);
    }
    Ok(())
}

fn editor(shell: &Shell, color: bool) -> LineResult<Editor<CliHelper, DefaultHistory>> {
    let mut editor = Editor::new()?;
    let dialect = shell.task_ctx().session_config().options().sql_parser.dialect;
    editor.set_helper(Some(CliHelper::new(&dialect, color)));
    if let Some(path) = history_path() {
        let _ = editor.load_history(&path);
    }
    Ok(editor)
}

/// In the home directory: directories of data may be read-only, or shared.
fn history_path() -> Option<PathBuf> {
    Some(std::env::home_dir()?.join(".odp_history"))
}

fn external(error: ReadlineError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
