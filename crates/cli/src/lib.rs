//! The command line: each command is a route of the node's API, or works on files without a node.
//!
//! [`args`] is the grammar, [`client`] asks the node, [`render`] shows answers, [`failure`] and [`exit`] say how a
//! command ends. No command has a way into the node that the API does not offer.

pub mod args;
mod client;
mod commands;
pub mod exit;
mod failure;
pub mod import;
mod moment;
mod progress;
mod render;

pub use args::{Cli, Command, RunArgs};
pub use exit::Exit;
pub use failure::Failure;

use clap::Parser;
use std::io::Write;

/// Reads the process's arguments. Help, versions and usage errors are shown and end the process.
pub fn parse() -> Cli {
    let mut cli = Cli::parse();
    let home = cli.global.home.clone();
    if let Command::Run(run) | Command::Node(run) = &mut cli.command {
        run.home = home;
    }
    cli
}

/// Runs any command but `run`, `node` and `probe`; the result is the process's exit code.
pub fn run(cli: Cli) -> u8 {
    let json = cli.global.json;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(commands::run(cli)),
        Err(error) => {
            Err(Failure::system("the command did not start", error, "see the limits of this user: ulimit -a"))
        }
    };
    match outcome {
        Ok(exit) => exit.code(),
        Err(failure) => {
            show(&failure, json);
            failure.exit.code()
        }
    }
}

/// Shows what keeps a node from starting on stderr, three lines each.
pub fn show_findings(report: &node::preflight::Report) {
    for finding in report.errors() {
        show(&Failure::of_finding(finding), false);
    }
}

/// Shows an error on stderr: three lines, or JSON.
pub fn show(failure: &Failure, json: bool) {
    let mut err = anstream::stderr();
    // Whoever reads may have gone; the exit code still tells.
    let _ = if json { writeln!(err, "{}", failure.to_json()) } else { write!(err, "{failure}") };
}
