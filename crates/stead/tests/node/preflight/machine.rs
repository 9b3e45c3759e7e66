//! Full and read-only file systems, mounts that are missing, ports, and the environment.

use super::*;
use crate::support::{Node, Tmpfs};
use std::net::TcpListener;

#[test]
fn a_read_only_file_system_is_found_and_remounted_by_its_cure() {
    let home = Home::new();
    let small = Tmpfs::new(8);
    let path = directory(small.root().join("music"), (0, 0), 0o755);
    shell(&format!("mount -o remount,ro {}", small.root().display()));
    let path_text = path.to_str().unwrap();
    let said = look(&home, &["--dir", path_text]).finding("read_only");
    assert!(said["message"].as_str().unwrap().contains(small.root().to_str().unwrap()), "{said:#}");
    shell(said["fix"].as_str().unwrap());
    look(&home, &["--dir", path_text]).is_well();
}

#[test]
fn a_full_file_system_is_an_error_and_a_small_one_a_warning() {
    let home = Home::new();
    let small = Tmpfs::new(8);
    let path = directory(small.root().join("music"), (0, 0), 0o755);
    let path = path.to_str().unwrap();
    let low = look(&home, &["--dir", path]);
    low.is_well();
    assert_eq!(low.finding("disk_low")["severity"], "warning");
    small.fill(0);
    let full = look(&home, &["--dir", path]);
    assert_eq!((full.code, full.findings().len()), (Some(71), 1), "{:#}", full.said);
    let finding = full.finding("disk_full");
    assert!(finding["fix"].as_str().unwrap().contains("du -xh"), "{finding:#}");
    shell(finding["fix"].as_str().unwrap());
    small.empty();
    look(&home, &["--dir", path]).is_well();
}

#[test]
fn a_file_system_without_inodes_is_found() {
    let home = Home::new();
    let small = Tmpfs::with("size=1g,nr_inodes=20");
    let path = directory(small.root().join("music"), (0, 0), 0o755);
    let path = path.to_str().unwrap();
    let low = look(&home, &["--dir", path]);
    assert_eq!(low.finding("inodes_low")["severity"], "warning");
    let files: Vec<_> = (0..)
        .map(|n| small.root().join(n.to_string()))
        .map_while(|file| std::fs::write(&file, "").ok().map(|()| file))
        .collect();
    let full = look(&home, &["--dir", path]);
    assert_eq!(full.code, Some(71), "{:#}", full.said);
    shell(full.finding("inodes_full")["fix"].as_str().unwrap());
    files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    look(&home, &["--dir", path]).is_well();
}

#[test]
fn a_mount_point_that_is_not_mounted_is_found_and_mounted_by_its_cure() {
    let home = Home::new();
    let path = directory(home.beside("music"), (0, 0), 0o755);
    let fstab = home.beside("fstab");
    std::fs::write(&fstab, format!("none {} tmpfs size=512m 0 0\n", path.display())).unwrap();
    // In a mount namespace of its own, so that the machine's fstab stays as it is.
    let script = format!(
        "mount --bind {fstab} /etc/fstab && {stead} preflight --json --dir {path}; echo \"code $?\"; \
         mount {path} && {stead} preflight --json --dir {path} > /dev/null; echo \"code $?\"",
        fstab = fstab.display(),
        stead = crate::support::STEAD,
        path = path.display(),
    );
    let out =
        Command::new("unshare").args(["-m", "sh", "-c", &script]).env_remove("HOSTNAME").output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let codes: Vec<_> = said.lines().filter(|line| line.starts_with("code ")).collect();
    assert_eq!(codes, ["code 71", "code 0"], "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(
        said.contains("\"not_mounted\"") && said.contains(&format!("sudo mount {}", path.display())),
        "{said}"
    );
}

#[test]
fn a_taken_port_names_who_has_it_unless_it_is_this_homes_node() {
    let home = Home::new();
    let file = config_file(&home, &json!([]));
    let listener = TcpListener::bind(home.socket_address()).unwrap();
    let taken = look(&home, &["--config", &file]);
    assert_eq!(taken.code, Some(71), "{:#}", taken.said);
    let finding = taken.finding("port_taken");
    let pid = std::process::id();
    assert_eq!(finding["fix"], format!("sudo kill {pid}"), "{finding:#}");
    assert!(finding["message"].as_str().unwrap().contains(&format!("pid {pid}")), "{finding:#}");
    let run = home.stead(&["run", "--config", &file]);
    let told = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(71), "{told}");
    assert!(told.contains(&format!("pid {pid}")), "{told}");
    drop(listener);
    look(&home, &["--config", &file]).is_well();
    let _node = Node::start_with(&home, &["--config", &file]);
    look(&home, &["--config", &file]).is_well();
}

#[test]
fn variables_that_cannot_be_used_are_exit_78_and_unset_ones_nothing() {
    let home = Home::new();
    let dir = directory(home.beside("music"), (0, 0), 0o777);
    let dir = dir.to_str().unwrap();
    for (name, value, code, exit) in [
        ("UMASK", "zz", "umask_invalid", 78),
        ("PUID", "abc", "puid_invalid", 78),
        ("PGID", "-5", "pgid_invalid", 78),
        ("PGID", "100", "pgid_alone", 0),
        ("HOSTNAME", "somebody-else", "hostname_differs", 0),
    ] {
        let wrong = look_in(&home, &[(name, value)], &["--dir", dir]);
        assert_eq!((wrong.code, wrong.findings().len()), (Some(exit), 1), "{:#}", wrong.said);
        let finding = wrong.finding(code);
        assert_eq!(finding["path"], name);
        // The cure is a line of the shell that starts the node.
        let script = format!(
            "{}; exec {} preflight --dir {dir}",
            finding["fix"].as_str().unwrap(),
            crate::support::STEAD
        );
        let out = Command::new("sh").args(["-c", &script]).env(name, value).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        let message = finding["message"].as_str().unwrap().split(' ').take(3).collect::<Vec<_>>().join(" ");
        assert!(out.status.success() && !said.contains(&message), "{said}");
    }
}
