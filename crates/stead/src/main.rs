//! The binary: `run` is the supervisor, `node` the process it starts, everything else the command line.

use cli::Command;
use std::process::ExitCode;

mod early;
mod query_process;
mod serve;
mod supervisor;

fn main() -> ExitCode {
    let cli = cli::parse();
    let code = match cli.command {
        Command::Run(args) => {
            early::refused(&args).unwrap_or_else(|| supervisor::run(&args.home, args.to_arguments()))
        }
        Command::CheckRun(args) => early::check(&args),
        Command::Node(args) => serve::run(&args),
        Command::QueryProcess => query_process::run(),
        Command::Probe => node::preflight::serve_probe(),
        _ => {
            // A restore from a store reads by many threads.
            serve::heap::keep_small();
            cli::run(cli)
        }
    };
    ExitCode::from(code)
}
