//! The service manager above: what it is told, and that nobody else inherits the way to it.

use super::{app, app_with};
use crate::support::{DEADLINE, Home, Node, STEAD, until};
use serde_json::json;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

/// A manager that listens.
struct Listener {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Listener {
    fn at(path: &Path) -> Listener {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Listener { socket, heard: Vec::new() }
    }

    /// Listens until somebody says that line.
    fn until(&mut self, line: &str) {
        let mut buffer = [0; 4096];
        while !self.heard(line) {
            let count = self.socket.recv(&mut buffer);
            let count = count.unwrap_or_else(|error| panic!("never {line}: {error}\n{:#?}", self.heard));
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            self.heard.extend(text.lines().map(str::to_owned));
        }
    }

    fn heard(&self, line: &str) -> bool {
        self.heard.iter().any(|heard| heard == line)
    }
}

/// Starts a node below a manager that listens.
fn managed<'a>(home: &'a Home, args: &[&str], watchdog_usec: &str) -> (Node<'a>, Listener) {
    let path = home.beside("manager");
    let listener = Listener::at(&path);
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", watchdog_usec)];
    (Node::spawn_with(home, args, &variables), listener)
}

// semantics: manager
#[test]
fn a_node_is_ready_for_its_manager_when_its_app_is_and_says_when_it_stops() {
    let home = Home::new();
    let config = app_with(
        "exec sleep 1000",
        "ready",
        json!({ "command": ["test", "-e", "mark"], "interval": "100ms" }),
    );
    let config = home.write("config.json", config.to_string());
    let (node, mut manager) = managed(&home, &["--config", config.to_str().unwrap()], "400000");
    manager.until("STATUS=primary; the app is not ready: running");
    manager.until("WATCHDOG=1");
    assert!(manager.heard("EXTEND_TIMEOUT_USEC=30000000"));
    assert!(!manager.heard("READY=1"));
    home.write("mark", "");
    manager.until("READY=1");
    assert!(manager.heard("STATUS=primary; the app is ready"));
    assert_eq!(node.stop(), 0);
    manager.until("STOPPING=1");
}

#[test]
fn a_node_that_waits_for_its_configuration_is_ready_once_it_can_be_given_one() {
    let home = Home::new();
    let (node, mut manager) = managed(&home, &[], "0");
    manager.until("READY=1");
    assert!(manager.heard("STATUS=waits for its configuration: POST /config"));
    node.configure(&app("exec sleep 1000"));
    manager.until("STATUS=primary; the app is ready");
    assert!(!manager.heard("WATCHDOG=1"));
}

#[test]
fn neither_the_node_nor_the_app_inherits_the_way_to_the_manager() {
    let home = Home::new();
    let (node, mut manager) = managed(&home, &[], "60000000");
    manager.until("READY=1");
    node.configure(&app("env > seen; echo whole >> seen; exec sleep 1000"));
    let app = node.until_app();
    until("the app wrote", || home.read("seen").ends_with("whole\n").then_some(()));
    for pid in [app, node.node_pid()] {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        let text = String::from_utf8_lossy(&environment);
        assert!(!text.contains("NOTIFY_SOCKET") && !text.contains("WATCHDOG"), "{text}");
    }
}

/// The unit of the reference, with the program under test.
#[test]
fn the_unit_that_is_documented_is_one() {
    let page = include_str!("../../../../../docs/reference/systemd.md");
    let unit = page.split("```ini\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let home = Home::new();
    std::fs::create_dir_all(home.root()).unwrap();
    let file = home.path("stead.service");
    std::fs::write(&file, unit.replace("/usr/local/bin/stead", STEAD)).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success(), "{said}");
    let about_it: Vec<_> = said.lines().filter(|line| line.contains("stead.service")).collect();
    assert!(about_it.is_empty(), "{about_it:#?}");
}
