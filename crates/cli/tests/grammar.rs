//! The command line's grammar: every help text as it was published, and what is accepted and refused.

use clap::{CommandFactory, Parser};
use cli::args::{Cli, Command};
use std::path::Path;

/// The help of a command and of everything below it.
fn helps(command: &mut clap::Command, path: &str, into: &mut String) {
    let help = command.render_long_help().to_string();
    into.push_str(&format!("## {path}\n\n{}\n\n", help.trim_end()));
    for below in command.get_subcommands_mut() {
        if !below.is_hide_set() && below.get_name() != "help" {
            let path = format!("{path} {}", below.get_name());
            helps(below, &path, into);
        }
    }
}

fn without_environment(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(without_environment)
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_help_is_the_one_that_was_published() {
    // Values of the environment of whoever runs the test must not be in it.
    let mut command = without_environment(Cli::command()).term_width(100);
    command.build();
    let mut text = String::new();
    helps(&mut command, "stead", &mut text);
    let plain: Vec<&str> = text.lines().map(str::trim_end).collect();
    insta::assert_snapshot!("help", plain.join("\n"));
}

#[test]
fn everything_after_the_dashes_is_the_app() {
    let cli = Cli::try_parse_from(["stead", "run", "--listen", "127.0.0.1:1", "--", "./app", "--json", "-x"])
        .unwrap();
    let Command::Run(run) = cli.command else { panic!("not run") };
    assert_eq!(run.command, ["./app", "--json", "-x"]);
    assert_eq!(run.listen.as_deref(), Some("127.0.0.1:1"));
    assert!(!cli.global.json);
}

#[test]
fn the_node_gets_what_run_got() {
    let all = [
        "stead",
        "run",
        "--config",
        "c.yaml",
        "--listen",
        "127.0.0.1:1",
        "--store",
        "file:///b",
        "--",
        "a",
        "--",
    ];
    let Command::Run(mut run) = Cli::try_parse_from(all).unwrap().command else { panic!("not run") };
    run.home = "/srv/a b".into();
    let arguments = ["stead".into(), "node".into()].into_iter().chain(run.to_arguments());
    let again = Cli::try_parse_from(arguments).unwrap();
    let Command::Node(node) = again.command else { panic!("not node") };
    assert_eq!(again.global.home, Path::new("/srv/a b"));
    assert_eq!(
        (node.config, node.listen, node.store),
        (run.config.clone(), run.listen.clone(), run.store.clone())
    );
    assert_eq!(node.command, ["a", "--"]);
}

#[test]
fn global_flags_stand_before_or_after_the_command() {
    for line in [["stead", "--json", "status"], ["stead", "status", "--json"]] {
        assert!(Cli::try_parse_from(line).unwrap().global.json);
    }
}

#[test]
fn wrong_usage_is_refused() {
    for line in [
        "stead",
        "stead frobnicate",
        "stead run ./app",
        "stead restore",
        "stead restore c1 --undo",
        "stead restore --time 10m --undo",
        "stead checkpoint",
        "stead checkpoint show",
        "stead checkpoint export c1",
        "stead db export data/a.db",
        "stead db export data/a.db f --time 1m --txid 3",
        "stead db export data/a.db f --txid x",
        "stead db restore data/a.db",
        "stead app dance",
        "stead logs -n many",
        "stead completions tcsh2",
    ] {
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn the_token_shows_nowhere() {
    let cli = Cli::try_parse_from(["stead", "--token", "hunter2", "status"]).unwrap();
    assert!(!format!("{cli:?}").contains("hunter2"));
    assert!(!Cli::command().render_long_help().to_string().contains("STEAD_TOKEN="));
}
