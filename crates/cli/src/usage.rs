//! Wrong usage, told in the same three lines as every other error.

use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::Failure;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Error};
use std::ffi::OsString;

/// Whether it is no error but a help or a version that was asked for, or the help that a command without a word gets.
pub fn is_shown_as_it_is(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// What is wrong with the arguments, program name first.
pub fn failure(error: &Error, arguments: &[OsString]) -> Failure {
    let command = command(arguments);
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let cause: Vec<&str> = first.trim_start_matches("error: ").lines().map(str::trim).collect();
    let mut hints: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    let usage =
        usage.trim_start_matches("Usage:").trim().lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let usage = format!("the usage is: {usage}");
    if hints.is_empty() && error.get(ContextKind::Usage).is_some() {
        hints.push(&usage);
    }
    let more = format!("`{command} --help` says more");
    hints.push(&more);
    Failure::new(Exit::Usage, format!("wrong usage of `{command}`"), cause.join(" "), hints.join("; "))
}

/// Whether `--json` is among them; what follows `--` is the app's.
pub fn wants_json(arguments: &[OsString]) -> bool {
    arguments.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// The command that was meant: the words that are names of commands, one below the other.
fn command(arguments: &[OsString]) -> String {
    let root = Cli::command();
    let mut below: &Command = &root;
    let mut name = "stead".to_owned();
    for word in arguments.iter().skip(1).take_while(|word| *word != "--").filter_map(|word| word.to_str()) {
        if let Some(found) = below.find_subcommand(word).filter(|found| !found.is_hide_set()) {
            below = found;
            name = format!("{name} {word}");
        } else if below.has_subcommands() && !word.starts_with('-') && name != "stead" {
            break;
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn told(line: &str) -> String {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        failure(&Cli::try_parse_from(&arguments).unwrap_err(), &arguments).to_string()
    }

    #[test]
    fn wrong_usage_says_what_why_and_what_was_probably_meant() {
        for (line, lines) in [
            (
                "stead status --wach",
                "error: wrong usage of `stead status`\n\
                 cause: unexpected argument '--wach' found\n\
                 hint: a similar argument exists: '--watch'; `stead status --help` says more\n",
            ),
            ("stead --home restore checkpoint show", "error: wrong usage of `stead restore`\ncause: "),
            (
                "stead checkpoint show",
                "error: wrong usage of `stead checkpoint show`\n\
                 cause: the following required arguments were not provided: <ID>\n\
                 hint: the usage is: stead checkpoint show <ID>; `stead checkpoint show --help` says more\n",
            ),
            (
                "stead checkpoint creat x",
                "error: wrong usage of `stead checkpoint`\n\
                 cause: unrecognized subcommand 'creat'\n\
                 hint: ",
            ),
            (
                "stead logs -n many",
                "error: wrong usage of `stead logs`\n\
                 cause: invalid value 'many' for '--lines <LINES>': invalid digit found in string\n\
                 hint: `stead logs --help` says more\n",
            ),
        ] {
            let told = told(line);
            assert!(told.starts_with(lines), "{line}: {told}");
            assert_eq!(told.lines().count(), 3, "{told}");
        }
    }

    #[test]
    fn json_is_wanted_by_a_flag_of_stead_not_of_the_app() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert!(wants_json(&words("stead status --wach --json")));
        assert!(!wants_json(&words("stead run --lisen x -- ./app --json")));
    }
}
