//! The command line: each command is a route of the node's API, or works on files without a node.
//!
//! [`args`] is the grammar, [`client`] asks the node, [`render`] shows answers, [`failure`] and [`exit`] say how a
//! command ends. No command has a way into the node that the API does not offer.

pub mod args;
mod client;
mod commands;
pub mod exit;
mod failure;
mod harmless;
pub mod import;
mod moment;
mod progress;
mod render;
mod terminal;
mod usage;

pub use args::{Cli, Command, RunArgs};
pub use exit::Exit;
pub use failure::Failure;

use clap::Parser;
use std::ffi::OsString;
use std::io::Write;

/// Reads the process's arguments. Help, versions and usage errors are shown and end the process.
pub fn parse() -> Cli {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let mut cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) if usage::is_shown_as_it_is(&error) => error.exit(),
        Err(error) => {
            let failure = usage::failure(&error, &arguments);
            show(&failure, usage::wants_json(&arguments));
            std::process::exit(failure.exit.code().into());
        }
    };
    let home = cli.global.home.clone();
    if let Command::Run(run) | Command::CheckRun(run) | Command::Node(run) = &mut cli.command {
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
    let outcome = outcome.and_then(|exit| match render::unwritten() {
        Some(error) => {
            let hint = "what was printed is not complete: make room where it goes";
            Err(Failure::system("standard output cannot be written", error, hint))
        }
        None => Ok(exit),
    });
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
    let _ = if json {
        writeln!(err, "{}", harmless::json(failure.to_json().to_string()))
    } else {
        write!(err, "{failure}")
    };
}

/// Whether lines on stderr may be coloured: on a terminal that can, unless `NO_COLOR` or its like says otherwise.
pub fn stderr_takes_colour() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}
