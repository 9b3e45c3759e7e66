//! What a node and its app stand on: every finding produced for real, told with its cause and its cure, mended by
//! exactly that cure, and then gone. These tests change owners and mount file systems: they need root.

mod attacks;
mod diagnosis;
mod directories;
mod every;
mod health;
mod hung;
mod machine;
mod programs;
mod scenes;
mod start;

use crate::support::Home;
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Somebody who is not the node.
const APP: (u32, u32) = (1000, 1000);

/// What `stead preflight --json` said.
struct Look {
    code: Option<i32>,
    said: Value,
}

fn look(home: &Home, args: &[&str]) -> Look {
    look_in(home, &[], args)
}

fn look_in(home: &Home, variables: &[(&str, &str)], args: &[&str]) -> Look {
    let out = home.stead_in(variables, &[&["preflight", "--json"], args].concat());
    let said = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out.stderr)));
    Look { code: out.status.code(), said }
}

impl Look {
    fn findings(&self) -> Vec<Value> {
        let checks = self.said["checks"].as_array().unwrap();
        checks.iter().flat_map(|check| check["findings"].as_array().unwrap().clone()).collect()
    }

    /// The one finding of a code.
    fn finding(&self, code: &str) -> Value {
        let found = self.findings().into_iter().find(|finding| finding["code"] == code);
        found.unwrap_or_else(|| panic!("no {code}: {:#}", self.said))
    }

    /// Everything is as it must be.
    fn is_well(&self) {
        assert_eq!(self.code, Some(0), "{:#}", self.said);
    }
}

/// Looks, finds exactly this error, is told the same as text, does what the cure says, and looks again.
fn found_and_mended(home: &Home, args: &[&str], code: &str, path: &Path) -> String {
    let first = look(home, args);
    assert_eq!((first.code, first.findings().len()), (Some(71), 1), "{:#}", first.said);
    let finding = first.finding(code);
    assert_eq!(finding["path"], path.to_str().unwrap(), "{finding:#}");
    let fix = finding["fix"].as_str().unwrap();
    let text = home.stead(&[&["preflight"], args].concat());
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains(&format!("fix: {fix}")) && text.contains("FAIL"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour off a terminal: {text}");
    shell(fix);
    look(home, args).is_well();
    finding["message"].as_str().unwrap().to_owned()
}

/// Runs a cure as root, who needs no sudo.
fn shell(fix: &str) {
    let ran = Command::new("sh").args(["-c", &plain(fix)]).status().unwrap();
    assert!(ran.success(), "{fix}");
}

/// A cure as root types it, with the program under test.
fn plain(fix: &str) -> String {
    fix.replace("sudo stead ", &format!("{} ", crate::support::STEAD)).replace("sudo ", "")
}

/// A directory with an owner and a mode.
fn directory(path: PathBuf, owner: (u32, u32), mode: u32) -> PathBuf {
    std::fs::create_dir_all(&path).unwrap();
    chown(&path, Some(owner.0), Some(owner.1)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn owner(path: &Path) -> (u32, u32) {
    let at = path.symlink_metadata().unwrap();
    (at.uid(), at.gid())
}

/// `--dir` for the app's user.
fn for_app(path: &Path) -> String {
    format!("{}:{}:{}", path.display(), APP.0, APP.1)
}

/// A configuration file with these directories and an app that does nothing.
fn config_file(home: &Home, directories: &Value) -> String {
    let config = json!({
        "name": "pre",
        "listen": home.address(),
        "app": { "command": ["sleep", "1000"] },
        "preflight": { "directories": directories },
    });
    write_config(home, &config)
}

fn write_config(home: &Home, config: &Value) -> String {
    let path = home.beside("stead.json");
    std::fs::write(&path, config.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}
