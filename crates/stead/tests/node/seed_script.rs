//! The specification's own commands, literally, by bash and curl on port 8080.
//!
//! A network namespace of its own makes port 8080 free whatever runs on the machine; that needs root.

use crate::support::STEAD;
use serde_json::json;
use std::process::Command;

#[test]
fn the_commands_of_the_specification_work_as_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    std::os::unix::fs::symlink(STEAD, home.join("state-manager")).unwrap();
    let config = json!({
        "name": "seed",
        "app": { "command": ["sh", "-c", "sqlite3 data/database.sqlite 'CREATE TABLE IF NOT EXISTS t(x)'; exec sleep 1000"],
            "restart_delay": "50ms", "stop_timeout": "5s" },
    });
    std::fs::write(home.join("config.json"), config.to_string()).unwrap();
    let failing =
        json!({ "name": "seed", "app": { "command": ["sh", "-c", "exit 3"], "restart_delay": "50ms" } });
    std::fs::write(home.join("failing.json"), failing.to_string()).unwrap();
    let out = Command::new("timeout")
        .args(["60", "unshare", "--net", "bash", "-c", include_str!("seed_script.sh")])
        .current_dir(home)
        .env_remove("STEAD_HOME")
        .env_remove("STEAD_CONFIG")
        .env_remove("STEAD_LISTEN")
        .output()
        .unwrap();
    let (said, complained) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{}\n{said}\n{complained}", out.status);
    assert!(said.ends_with("all of it\n"), "{said}\n{complained}");
}
