//! The `copyseg` command: restores snapshots, and lets an operator see and steer every job.

mod args;
mod commands;
mod catalog;
mod signals;
mod threads;
mod output;
mod log;
mod exit;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};
use crate::commands::{backends, check, gc, job, restore, stats};
use crate::exit::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return exit::report_usage(&error, args::format_wanted(std::env::args_os())),
    };
    let format = arguments.output;
    log::to_stderr(format);
    threads::end_process_without(format);
    let ended = tokio::runtime::Runtime::new().map_err(Failure::not_started).and_then(|runtime| {
        let ended = runtime.block_on(run(arguments));
        // A system call that never ends, on a dead network disk, must not keep a stopped process from ending.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(format),
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { catalog: given, output: format, command } = arguments;
    let output = Output { format };
    let url = || catalog::url(given.as_deref());
    match command {
        Command::Restore(restore) => restore::run(given.as_deref(), output, restore).await,
        Command::Job(job) => job::run(&url()?, output, job).await,
        Command::Gc(gc) => gc::run(&url()?, output, gc).await,
        Command::Stats => stats::run(&url()?, output).await,
        Command::Backends => backends::run(output),
        Command::Check(check) => check::run(&url()?, output, check).await,
    }
}
