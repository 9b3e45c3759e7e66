//! Attacks on a node of root's, by another user of the machine and by web pages: each is made for real, and changes
//! nothing and learns nothing. `docs/security.md` lists them.
//!
//! The attacker is uid 65534, in processes of its own; so these tests need root.

mod documented;
mod links;
mod others;
mod pages;
mod slow;

use crate::support::Home;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The attacker.
const OTHER: u32 = 65534;
/// What must not be seen anywhere.
const TOKEN: &str = "open-sesame-4711";

/// A home whose parents everyone may enter, as under `/srv`; the tests' own directories are private.
fn visible_home() -> Home {
    let home = Home::new();
    chmod(&home.beside(""), 0o755);
    home
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Makes a path the attacker's.
fn give_to_other(path: &Path) {
    chown(path, Some(OTHER), Some(OTHER)).expect("this test needs root");
}

/// A command of the attacker's, run to its end.
fn as_other(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).current_dir("/").uid(OTHER).gid(OTHER);
    command.output().unwrap_or_else(|error| panic!("{program} as uid {OTHER}: {error}"))
}

/// A shell script of the attacker's that must succeed: what it plants must be there.
fn other_does(script: &str) {
    let output = as_other("sh", &["-euc", script]);
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A request of the attacker's: status and body.
fn other_asks(address: &str, method: &str, path: &str, body: &str, token: Option<&str>) -> (u16, String) {
    let url = format!("http://{address}{path}");
    let mut args = vec!["-sS", "--max-time", "30", "-X", method, "-w", "\n%{http_code}", &url];
    let header = token.map(|token| format!("Authorization: Bearer {token}"));
    if let Some(header) = &header {
        args.extend(["-H", header]);
    }
    if !body.is_empty() {
        args.extend(["-d", body]);
    }
    let output = as_other("curl", &args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{args:?}: {output:?}"));
    (status.parse().unwrap(), body.to_owned())
}
