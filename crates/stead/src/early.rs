//! A configuration that `run` refuses, refused before anything of the home is touched.
//!
//! The supervisor knows no configurations and stays small, so a process of its own looks: it says what is wrong and ends
//! with the code that `run` then ends with. What `tmp/config.json` of the home holds is the node's to judge.

use crate::serve;
use cli::RunArgs;
use std::process::Command;

/// The exit code where the configuration is refused; it has been said why.
pub fn refused(args: &RunArgs) -> Option<u8> {
    let given = args.config.is_some() || args.listen.is_some() || args.store.is_some();
    if !given && args.command.is_empty() {
        return None;
    }
    let looked = Command::new("/proc/self/exe").arg("check-run").args(args.to_arguments()).status();
    // Where nobody could look, the node will.
    let code = looked.ok()?.code()?;
    u8::try_from(code).ok().filter(|code| *code != 0)
}

/// What that process does.
pub fn check(args: &RunArgs) -> u8 {
    match serve::check(args) {
        Ok(()) => 0,
        Err(failure) => {
            cli::show(&failure, false);
            failure.exit.code()
        }
    }
}
