//! Starts that cannot be: each ends with its exit code and three lines, waits for nothing, and leaves nothing behind.

use crate::support::{Home, STEAD, Tmpfs, clean, words};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// However slow the machine is, a start that cannot be has ended by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends as it must, and says why in three lines; what it said.
fn refused(home: &Home, args: &[&str], code: i32) -> String {
    let mut command = Command::new(STEAD);
    clean(&mut command).args(["run", "--listen", &home.address(), "--home"]).arg(home.root()).args(args);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = crate::support::until_within(PATIENCE, &format!("{} ends", home.root().display()), || {
        let ended = child.try_wait().unwrap();
        if ended.is_none() && home_is_served(home) {
            let _ = child.kill();
            panic!("{} is served", home.root().display());
        }
        ended
    });
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(ended.code(), Some(code), "{}: {told}", home.root().display());
    assert_eq!(error_lines(&told), ["error:", "cause:", "hint:"], "{told}");
    let left: Vec<_> = (processes().into_iter())
        .filter(|pid| words(*pid).iter().any(|w| Path::new(w) == home.root()))
        .collect();
    assert_eq!(left, [0; 0], "{told}");
    told
}

/// The first words of the error, without what the supervisor then says of the process that ended.
fn error_lines(told: &str) -> Vec<&str> {
    let of_nobody_else = |line: &&str| !line.starts_with("stead: the node (pid ");
    let lines = told.lines().skip_while(|line| !line.starts_with("error: ")).filter(of_nobody_else);
    lines.map(|line| line.split(' ').next().unwrap_or_default()).collect()
}

fn home_is_served(home: &Home) -> bool {
    crate::support::request(home.socket_address(), "GET", "/api/health/live", "").is_ok()
}

fn processes() -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn mount(options: &str, at: &Tmpfs) {
    let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(at.root()).status();
    assert!(done.unwrap().success());
}

#[test]
fn a_home_on_a_read_only_disk_is_told_and_nothing_is_tried_elsewhere() {
    let small = Tmpfs::new(8);
    for (name, made) in [("new", false), ("empty", true)] {
        mount("rw", &small);
        let home = Home::at(&small.root().join(name));
        if made {
            std::fs::create_dir(home.root()).unwrap();
        }
        mount("ro", &small);
        let told = refused(&home, &[], 71);
        assert!(
            told.contains("ead-only file system") && told.contains(home.root().to_str().unwrap()),
            "{told}"
        );
        assert_eq!((home.root().exists(), home.list("")), (made, vec![]));
    }
}

#[test]
fn a_home_that_was_used_and_is_read_only_now_is_told_and_comes_back() {
    let small = Tmpfs::new(64);
    let home = Home::at(&small.root().join("home"));
    let node = crate::support::Node::configured(&home, &super::config());
    home.db("data/other.db").insert_rows(3);
    node.until_sealed("data/other.db");
    assert_eq!(node.stop(), 0);
    mount("ro", &small);
    let told = refused(&home, &[], 71);
    assert!(told.contains("ead-only file system"), "{told}");
    mount("rw", &small);
    let node = crate::support::Node::start(&home);
    node.until_sealed("data/other.db");
}

#[test]
fn a_home_on_a_disk_without_room_is_told() {
    let small = Tmpfs::new(8);
    let home = Home::at(&small.root().join("home"));
    small.fill(0);
    let told = refused(&home, &[], 71);
    assert!(told.contains("o space left"), "{told}");
    let few = Tmpfs::with("size=8m,nr_inodes=2");
    let home = Home::at(&few.root().join("home"));
    let told = refused(&home, &[], 71);
    assert!(told.contains("o space left"), "{told}");
}

#[test]
fn a_home_whose_parts_are_something_else_is_told() {
    type Make = fn(&Path);
    let file: Make = |at| std::fs::write(at, "a file").unwrap();
    let dir: Make = |at| std::fs::create_dir(at).unwrap();
    let round: Make = |at| symlink(at.file_name().unwrap(), at).unwrap();
    let pipe: Make = |at| assert!(Command::new("mkfifo").arg(at).status().unwrap().success());
    let noise: Make = |at| std::fs::write(at, [0xff; 8192]).unwrap();
    for (name, make) in [
        ("", file),
        ("", round),
        ("data", file),
        ("data", round),
        ("tmp", file),
        (".stead", file),
        (".stead", round),
        (".stead/lock", dir),
        (".stead/lock", round),
        (".stead/lock", pipe),
        (".stead/node.json", dir),
        (".stead/node.json", noise),
        (".stead/node.json", pipe),
        (".stead/ledger.sqlite", dir),
        (".stead/ledger.sqlite", noise),
        (".stead/ledger.sqlite", pipe),
        (".stead/api.sock", dir),
    ] {
        let home = Home::new();
        let at = home.path(name).components().collect::<std::path::PathBuf>();
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        make(&at);
        let told = refused(&home, &[], 71);
        assert!(told.contains(name), "{name}: {told}");
        assert!(at.symlink_metadata().is_ok(), "{name} is left as it was: {told}");
    }
}

#[test]
fn a_named_configuration_that_is_no_readable_file_is_three_lines_and_no_node() {
    let home = Home::new();
    let at = |name: &str| home.beside(name).to_str().unwrap().to_owned();
    std::fs::create_dir(at("directory.yaml")).unwrap();
    symlink("loop.yaml", at("loop.yaml")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe.yaml")).status().unwrap().success());
    std::fs::write(at("binary.yaml"), [0xff, 0x00, 0x80]).unwrap();
    for (name, code, says) in [
        ("directory.yaml", 71, "s a directory"),
        ("loop.yaml", 71, "ymbolic link"),
        ("missing.yaml", 71, "No such file"),
        ("pipe.yaml", 71, "not a regular file"),
        ("binary.yaml", 78, "UTF-8"),
    ] {
        let told = refused(&home, &["--config", &at(name)], code);
        assert!(told.contains(says) && told.contains(name), "{told}");
        assert!(!home.exists("tmp/config.json"), "nothing was accepted: {told}");
        assert!(!home.exists("data/database.sqlite"), "{told}");
    }
}

#[test]
fn a_port_in_use_is_three_lines_and_the_next_start_has_it() {
    let home = Home::new();
    let listener = std::net::TcpListener::bind(home.socket_address()).unwrap();
    let told = {
        // It answers nobody; a look whether the home is served would wait for it.
        let out = home.stead(&["run", "--listen", &home.address(), "--", "sleep", "1000"]);
        assert_eq!(out.status.code(), Some(71), "{out:?}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    assert_eq!(error_lines(&told), ["error:", "cause:", "hint:"], "{told}");
    assert!(told.contains(&format!("pid {}", std::process::id())), "{told}");
    assert!(!home.exists("data/database.sqlite") && !home.exists("tmp/config.json"), "{told}");
    drop(listener);
    crate::support::Node::start_with(&home, &["--", "sleep", "1000"]).until_app();
}
