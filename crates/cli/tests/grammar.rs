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

/// Where the made part of the reference begins.
const MADE: &str =
    "<!-- What follows is made from the grammar: STEAD_DOCS=write cargo test -p cli --test grammar -->\n";

/// Every command that does something, with its whole name.
fn commands<'a>(command: &'a clap::Command, name: String, into: &mut Vec<(String, &'a clap::Command)>) {
    if !command.has_subcommands() {
        into.push((name, command));
        return;
    }
    for below in command.get_subcommands() {
        if !below.is_hide_set() && below.get_name() != "help" {
            commands(below, format!("{name} {}", below.get_name()), into);
        }
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// A row for an argument: how it is written, what it means, its default and its variable.
fn row(arg: &clap::Arg) -> String {
    let mut written = arg.to_string();
    if let Some(short) = arg.get_short() {
        written = format!("-{short}, {written}");
    }
    let mut means = cell(&arg.get_help().map(ToString::to_string).unwrap_or_default());
    let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
    if let (Some(default), true) = (default, arg.get_action().takes_values()) {
        means.push_str(&format!(" [default: `{default}`]"));
    }
    if let Some(variable) = arg.get_env() {
        means.push_str(&format!(" [`{}`]", variable.to_string_lossy()));
    }
    format!("| `{}` | {means} |\n", cell(&written))
}

fn rows<'a>(arguments: impl Iterator<Item = &'a clap::Arg>) -> String {
    arguments.map(row).collect()
}

fn reference() -> String {
    let mut root = Cli::command();
    root.build();
    let mut all = Vec::new();
    commands(&root, "stead".to_owned(), &mut all);
    let shared = |arg: &&clap::Arg| arg.is_global_set() && !arg.is_hide_set();
    let own = |arg: &&clap::Arg| {
        !arg.is_global_set() && !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version")
    };
    let mut out = format!("{MADE}\n## Flags of every command\n\n| flag | means |\n|---|---|\n");
    out.push_str(&rows(root.get_arguments().filter(shared)));
    out.push_str("\n## Every command\n\n| command | does |\n|---|---|\n");
    for (name, command) in &all {
        let about = cell(&command.get_about().map(ToString::to_string).unwrap_or_default());
        out.push_str(&format!("| [`{name}`](#{}) | {about} |\n", name.replace(' ', "-")));
    }
    for (name, command) in &all {
        let mut command = (*command).clone();
        let usage = command.render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ").trim();
        out.push_str(&format!("\n### {name}\n\n```text\n{usage}\n```\n"));
        let arguments = rows(command.get_arguments().filter(own));
        if !arguments.is_empty() {
            out.push_str(&format!("\n| argument | means |\n|---|---|\n{arguments}"));
        }
        if let Some(more) = command.get_after_help() {
            out.push_str(&format!("\n```text\n{}\n```\n", more.to_string().trim_end()));
        }
    }
    out
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the reference is a file of the source")]
fn the_reference_is_made_from_the_grammar() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/cli.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let head = text.split(MADE).next().unwrap();
    let expected = format!("{head}{}", reference());
    if std::env::var_os("STEAD_DOCS").is_some_and(|word| word == "write") {
        std::fs::write(&file, expected).unwrap();
        return;
    }
    assert!(
        text == expected,
        "docs/reference/cli.md is not what the grammar says; the line above its commands tells how it is made"
    );
}

#[test]
fn every_command_has_examples() {
    let mut root = Cli::command();
    root.build();
    let mut all = Vec::new();
    commands(&root, "stead".to_owned(), &mut all);
    assert!(all.len() >= 25);
    for (name, command) in all {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example") && help.contains(&name), "{name}: {help}");
    }
}

#[test]
fn a_slip_is_answered_with_what_was_probably_meant() {
    for (line, meant) in [
        ("stead statsu", "status"),
        ("stead checkpoint creat", "create"),
        ("stead db veryfy", "verify"),
        ("stead status --wach", "--watch"),
        ("stead run --lisen 127.0.0.1:1", "--listen"),
        ("stead completions bsh", "bash"),
    ] {
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(
            error.to_string().contains("similar") && error.to_string().contains(meant),
            "{line}: {error}"
        );
    }
}

#[test]
fn every_shell_has_completions_and_every_command_a_page() {
    use clap::ValueEnum;
    for shell in clap_complete::Shell::value_variants() {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Cli::command(), "stead", &mut script);
        let script = String::from_utf8(script).unwrap();
        for word in ["checkpoint", "release-lease", "import", "query", "--dry-run"] {
            let word = word.trim_start_matches("--");
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    let mut root = Cli::command();
    root.build();
    let mut all = Vec::new();
    commands(&root, "stead".to_owned(), &mut all);
    for (name, command) in all {
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains("Example"), "{name}: {page}");
    }
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
