//! Programs that are missing, not executable, or scripts for nobody.

use super::*;

fn with_command(home: &Home, command: &Value) -> String {
    let config = json!({ "name": "pre", "listen": home.address(), "app": { "command": command, "user": "1000:1000" } });
    write_config(home, &config)
}

fn script(home: &Home, head: &str, mode: u32) -> PathBuf {
    let path = home.write("server", format!("{head}\nexec sleep 1000\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_command_that_is_nowhere_is_found() {
    let home = Home::new();
    for (command, says) in
        [("no-such-program --x", "is in no directory of PATH"), ("./server", "does not exist")]
    {
        let found = look(&home, &["--config", &with_command(&home, &json!(command))]);
        assert_eq!(found.code, Some(71), "{:#}", found.said);
        let finding = found.finding("command_missing");
        assert!(finding["message"].as_str().unwrap().contains(says), "{finding:#}");
        assert_eq!(finding["path"], command.split(' ').next().unwrap());
    }
    script(&home, "#!/bin/sh", 0o755);
    look(&home, &["--config", &with_command(&home, &json!("./server"))]).is_well();
}

#[test]
fn a_command_that_is_not_executable_is_made_so_by_its_cure() {
    let home = Home::new();
    let path = script(&home, "#!/bin/sh", 0o644);
    let file = with_command(&home, &json!(["./server"]));
    let said = found_and_mended(&home, &["--config", &file], "command_not_executable", Path::new("./server"));
    assert!(said.contains(path.to_str().unwrap()), "{said}");
}

#[test]
fn a_script_without_its_interpreter_is_found() {
    let home = Home::new();
    script(&home, "#! /no/such/interpreter -x", 0o755);
    let found = look(&home, &["--config", &with_command(&home, &json!(["./server"]))]);
    assert_eq!(found.code, Some(71));
    let finding = found.finding("interpreter_missing");
    assert!(
        finding["message"].as_str().unwrap().ends_with("/no/such/interpreter: does not exist"),
        "{finding:#}"
    );
    shell(finding["fix"].as_str().unwrap());
    script(&home, "#!/bin/sh", 0o755);
    look(&home, &["--config", &with_command(&home, &json!(["./server"]))]).is_well();
}

#[test]
fn a_working_directory_that_is_missing_is_found() {
    let home = Home::new();
    let config = json!({ "name": "pre", "listen": home.address(),
        "app": { "command": ["sleep", "1"], "directory": "work" } });
    let file = write_config(&home, &config);
    found_and_mended(&home, &["--config", &file], "directory_missing", &home.path("work"));
}

#[test]
fn a_node_that_may_not_become_the_apps_user_is_told_so() {
    use std::os::unix::process::CommandExt;
    let home = Home::new();
    let file = with_command(&home, &json!("sleep 1"));
    // Where another user can run it, wherever it was built.
    let program = home.beside("stead");
    std::fs::copy(crate::support::STEAD, &program).unwrap();
    let args = ["--home", home.root().to_str().unwrap(), "preflight", "--json", "--config", &file];
    let out = Command::new(program).args(args).env_remove("HOSTNAME").uid(1234).gid(1234).output().unwrap();
    let said = serde_json::from_slice(&out.stdout).unwrap();
    let found = Look { code: out.status.code(), said };
    assert_eq!(found.code, Some(71), "{:#}", found.said);
    let finding = found.finding("user_not_switchable");
    assert!(
        finding["message"].as_str().unwrap().contains("user 1234 may not become anybody else"),
        "{finding:#}"
    );
    look(&home, &["--config", &file]).is_well();
}
