//! The `odp` shell.
use clap::Parser;
use datafusion::prelude::*;
use datafusion_cli::object_storage::instrumented::InstrumentedObjectStoreRegistry;
use datafusion_cli::print_options::{MaxRows, PrintOptions};
use std::sync::Arc;
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[derive(Parser)]
struct Args {
    #[clap(short='c', long, num_args = 0..)]
    command: Vec<String>,
    #[clap(short, long, num_args=0..)]
    file: Vec<String>,
    #[clap(short, long)]
    quiet: bool,
    #[clap(long, value_enum, default_value_t = datafusion_cli::print_format::PrintFormat::Automatic)]
    format: datafusion_cli::print_format::PrintFormat,
}
#[tokio::main]
async fn main() -> datafusion::error::Result<()> {
    env_logger::init();
    let args = Args::parse();
    let mut config = SessionConfig::from_env()?.with_information_schema(true);
    config.options_mut().format.null = "NULL".into();
    let ctx = SessionContext::new_with_config(config).enable_url_table();
    datafusion_odp::register(&ctx)?;
    let po = PrintOptions {
        format: args.format,
        quiet: args.quiet,
        maxrows: MaxRows::Unlimited,
        color: false,
        instrumented_registry: Arc::new(InstrumentedObjectStoreRegistry::new()),
    };
    if !args.file.is_empty() {
        datafusion_cli::exec::exec_from_files(&ctx, args.file, &po).await?;
    }
    if !args.command.is_empty() {
        datafusion_cli::exec::exec_from_commands(&ctx, args.command, &po).await?;
    }
    Ok(())
}
