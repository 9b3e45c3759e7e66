//! Another user of the machine owns a directory on the way, or what a path names: nothing is changed where they lead,
//! no printed cure can be turned against whoever pastes it, and nothing waits.

use super::*;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{lchown, symlink};

/// Another user of the machine.
const MALLORY: (u32, u32) = (4321, 4321);

/// A directory of the other user, and one of root's that they are after.
fn ground(home: &Home) -> (PathBuf, PathBuf) {
    let prize = directory(home.beside("prize/spool"), (0, 0), 0o700);
    (directory(home.beside("theirs"), MALLORY, 0o755), prize)
}

fn link(to: &Path, at: &Path) {
    symlink(to, at).unwrap();
    lchown(at, Some(MALLORY.0), Some(MALLORY.1)).unwrap();
}

#[test]
fn fix_gives_nothing_away_behind_somebody_elses_link() {
    let home = Home::new();
    let (theirs, prize) = ground(&home);
    link(prize.parent().unwrap(), &theirs.join("app"));
    let path = theirs.join("app/spool");
    let tried = look(&home, &["--fix", "--dir", &for_app(&path)]);
    assert_eq!(tried.code, Some(71), "{:#}", tried.said);
    let finding = tried.finding("wrong_owner");
    let why = format!("and {} is a link that others can lead elsewhere", theirs.join("app").display());
    assert!(finding["message"].as_str().unwrap().contains(&why), "{finding:#}");
    assert_eq!(finding["fix"], format!("namei -l {}", prize.display()), "whoever reads decides");
    assert_eq!((owner(&prize), prize.metadata().unwrap().mode() & 0o7777), ((0, 0), 0o700));
}

#[test]
fn fix_makes_nothing_behind_somebody_elses_link() {
    let home = Home::new();
    let (theirs, prize) = ground(&home);
    link(&prize, &theirs.join("app"));
    let path = theirs.join("app/a/b");
    let config = config_file(&home, &json!([{ "path": path, "create": true, "owner": "1000:1000" }]));
    for args in [["--fix", "--dir", &for_app(&path)], ["--fix", "--config", &config]] {
        let tried = look(&home, &args);
        assert_eq!(tried.code, Some(71), "{:#}", tried.said);
        let finding = tried.finding("directory_missing");
        assert!(!finding["fix"].as_str().unwrap().contains("sudo"), "{finding:#}");
    }
    let run = home.stead(&["run", "--config", &config]);
    assert_eq!(run.status.code(), Some(71), "a start makes nothing there either");
    assert_eq!(prize.read_dir().unwrap().count(), 0);
}

#[test]
fn fix_makes_nothing_behind_a_link_that_leads_nowhere_yet() {
    let home = Home::new();
    let (theirs, prize) = ground(&home);
    let path = theirs.join("music");
    link(&prize.join("new"), &path);
    let tried = look(&home, &["--fix", "--dir", &for_app(&path)]);
    let finding = tried.finding("dangling_link");
    assert!(!prize.join("new").exists());
    // The cure moves the link away, and makes the directory where it was asked for.
    shell(finding["fix"].as_str().unwrap());
    look(&home, &["--dir", &for_app(&path)]).is_well();
    assert!(!prize.join("new").exists() && owner(&path) == APP);
}

#[test]
fn a_printed_cure_that_is_pasted_later_is_not_led_elsewhere() {
    let home = Home::new();
    let (theirs, prize) = ground(&home);
    let path = directory(theirs.join("app/spool"), (0, 0), 0o755);
    chown(theirs.join("app"), Some(MALLORY.0), Some(MALLORY.1)).unwrap();
    let found = look(&home, &["--dir", &for_app(&path)]);
    let fix = found.finding("wrong_owner")["fix"].as_str().unwrap().to_owned();
    assert_eq!(fix, format!("sudo stead preflight --fix --dir {}", for_app(&path)));
    // Between the look and the paste.
    std::fs::rename(theirs.join("app"), theirs.join("before")).unwrap();
    link(prize.parent().unwrap(), &theirs.join("app"));
    let pasted = Command::new("sh").args(["-c", &plain(&fix)]).current_dir(home.beside("")).output().unwrap();
    assert_eq!((pasted.status.code(), owner(&prize)), (Some(71), (0, 0)), "{pasted:?}");
    // And where nobody interferes the same line mends.
    std::fs::remove_file(theirs.join("app")).unwrap();
    std::fs::rename(theirs.join("before"), theirs.join("app")).unwrap();
    shell(&fix);
    look(&home, &["--dir", &for_app(&path)]).is_well();
}

#[test]
fn a_database_that_its_app_made_a_link_is_no_reason_to_give_away_what_it_leads_to() {
    let home = Home::new();
    let (_, prize) = ground(&home);
    let shadow = prize.join("shadow");
    std::fs::write(&shadow, "secret").unwrap();
    directory(prize.clone(), (0, 0), 0o755);
    directory(home.path("data"), APP, 0o755);
    link(&shadow, &home.path("data/database.sqlite"));
    let config = json!({ "name": "pre", "listen": home.address(),
        "app": { "command": ["sleep", "1"], "user": "1000:1000" } });
    let file = write_config(&home, &config);
    let finding = look(&home, &["--config", &file]).finding("no_permission");
    assert!(finding["fix"].as_str().unwrap().starts_with("namei -l "), "{finding:#}");
    // A file in its place is given, as itself and not as what it could have become.
    std::fs::remove_file(home.path("data/database.sqlite")).unwrap();
    std::fs::write(home.path("data/database.sqlite"), "").unwrap();
    chown(home.path("data/database.sqlite"), Some(MALLORY.0), None).unwrap();
    let finding = look(&home, &["--config", &file]).finding("no_permission");
    assert_eq!(
        finding["fix"],
        format!("sudo chown -h 1000:1000 {}", home.path("data/database.sqlite").display())
    );
}

#[test]
fn pipes_sockets_and_devices_are_told_without_waiting_for_them() {
    let home = Home::new();
    let (pipe, socket, device) = (home.beside("pipe"), home.beside("socket"), home.beside("device"));
    shell(&format!("mkfifo {} && mknod {} c 1 8", pipe.display(), device.display()));
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [&pipe, &socket, &device] {
        for fix in [&["--fix"][..], &[]] {
            let found = look(&home, &[fix, &["--dir", &for_app(path)]].concat());
            assert_eq!(found.finding("not_a_directory")["message"], "it is no directory", "{:#}", found.said);
        }
        let config = json!({ "name": "pre", "listen": home.address(), "app": { "command": [path] } });
        let found = look(&home, &["--config", &write_config(&home, &config)]);
        assert!(found.finding("command_not_executable")["message"].as_str().unwrap().ends_with("is no file"));
    }
    directory(home.path("data"), (0, 0), 0o755);
    std::fs::rename(&pipe, home.path("data/database.sqlite")).unwrap();
    look(&home, &["--config", &config_file(&home, &json!([]))]).finding("database_is_no_file");
}

#[test]
fn a_name_that_is_a_script_is_pasted_as_a_name() {
    let home = Home::new();
    for name in
        ["a\ntouch pwned", "$(touch pwned)`touch pwned`", "'; touch pwned; '", "\u{1b}[2J\u{7}\u{9b}", "-R ü"]
    {
        let path = home.beside(name);
        let found = look(&home, &["--dir", &for_app(&path)]);
        let finding = found.finding("directory_missing");
        assert_eq!(finding["path"], path.to_str().unwrap());
        let text = home.stead(&["preflight", "--dir", &for_app(&path)]);
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(!text.chars().any(|char| char.is_control() && char != '\n'), "{text:?}");
        let fix = finding["fix"].as_str().unwrap();
        assert!(text.contains(&format!("fix: {fix}\n")) && !fix.contains('\n'), "{text:?}");
        let ran = Command::new("sh").args(["-c", &plain(fix)]).current_dir(home.beside("")).status().unwrap();
        assert!(ran.success() && !home.beside("pwned").exists(), "{fix}");
        look(&home, &["--dir", &for_app(&path)]).is_well();
    }
}

#[test]
fn a_link_to_bytes_that_are_no_text_hides_nothing_of_the_others() {
    let home = Home::new();
    let (strange, missing) = (home.beside("strange"), home.beside("missing"));
    let target = home.beside("").join(OsStr::from_bytes(b"\xff\xfe\x1b"));
    symlink(&target, &strange).unwrap();
    let args = ["--dir", &for_app(&strange), "--dir", &for_app(&missing)];
    let found = look(&home, &args);
    found.finding("directory_missing");
    let finding = found.finding("dangling_link");
    assert!(!finding["message"].as_str().unwrap().chars().any(char::is_control), "{finding:#}");
    shell(finding["fix"].as_str().unwrap());
    assert_eq!(owner(&target), APP);
    look(&home, &["--fix", "--dir", &for_app(&missing), "--dir", &for_app(&strange)]).is_well();
}

#[test]
fn nothing_is_tried_where_databases_lie() {
    let home = Home::new();
    let data = directory(home.path("data"), (0, 0), 0o755);
    let beside = directory(home.path("shop"), (0, 0), 0o755);
    for file in ["data/database.sqlite", "shop/orders.db"] {
        crate::support::sqlite3(&home.path(file), "PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
    }
    let config = json!({ "name": "pre", "listen": home.address(),
        "databases": [{ "path": "data/database.sqlite" }, { "path": "shop/orders.db" }],
        "preflight": { "directories": [{ "path": data }, { "path": beside }] } });
    let file = write_config(&home, &config);
    let when = |path: &PathBuf| {
        let at = path.metadata().unwrap();
        (at.mtime(), at.mtime_nsec(), at.ctime(), at.ctime_nsec(), at.len())
    };
    let all = [data, beside, home.path("data/database.sqlite"), home.path("shop/orders.db")];
    let before = all.each_ref().map(when);
    for args in [&["--config", file.as_str()][..], &["--fix", "--config", file.as_str()]] {
        look(&home, args).is_well();
        assert_eq!(all.each_ref().map(when), before, "{args:?}");
    }
}
