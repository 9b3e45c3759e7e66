//! Every finding there is, produced for real: what it says, the cure it prints, and that this very cure mends it.

use super::scenes::{self, Scene};
use super::*;
use node::preflight::Code;

/// How a finding is mended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cure {
    /// By the printed command.
    Pasted,
    /// By the printed command, and as well by `--fix`.
    PastedOrFix,
    /// By a line of the shell that starts the program.
    Exported,
    /// By a person; the printed command shows where.
    ByHand,
}
use Cure::{ByHand, Exported, Pasted, PastedOrFix};

/// A code, what `stead preflight` ends with, the scene, the message, the cure, and who applies it. `@` stands for the
/// path of the finding and `%` for the other name of a scene; a message that ends with `…` goes on.
type Row = (Code, i32, fn() -> Scene, &'static str, &'static str, Cure);

const ROWS: &[Row] = &[
    (
        Code::DirectoryMissing,
        71,
        scenes::missing,
        "it does not exist",
        "sudo mkdir -p @ && sudo chown 1000:1000 @",
        PastedOrFix,
    ),
    (
        Code::NotADirectory,
        71,
        scenes::file,
        "it is no directory",
        "sudo mv -nT @ @.old && sudo mkdir -p @ && sudo chown 1000:1000 @",
        Pasted,
    ),
    (
        Code::DanglingLink,
        71,
        scenes::dangling,
        "it is a link to %, which does not exist",
        "sudo mkdir -p % && sudo chown 1000:1000 %",
        Pasted,
    ),
    (
        Code::LinkLoop,
        71,
        scenes::round,
        "it is a link that leads back to itself",
        "sudo mv -nT @ @.old && sudo mkdir -p @ && sudo chown 1000:1000 @",
        Pasted,
    ),
    (
        Code::WrongOwner,
        71,
        scenes::of_root,
        "it belongs to 0:0, not to 1000:1000",
        "sudo chown 1000:1000 @",
        PastedOrFix,
    ),
    (
        Code::NoPermission,
        71,
        scenes::closed_to_the_app,
        "user 1000:1000 may not write here: it belongs to 0:0, mode 0755",
        "sudo chown 1000:1000 @",
        PastedOrFix,
    ),
    (
        Code::NotSearchable,
        71,
        scenes::closed_above,
        "user 1000:1000 may not enter %: it belongs to 0:0, mode 0700",
        "sudo chmod o+x %",
        Pasted,
    ),
    (
        Code::Refused,
        71,
        scenes::access_list,
        "the permission bits allow it, but user 1000:1000 is refused (permission denied): an access list or a security module",
        "sudo setfacl -m u:1000:rwx @",
        Pasted,
    ),
    (
        Code::Immutable,
        71,
        scenes::immutable,
        "user 0:0 may not write here: it is set immutable",
        "sudo chattr -i @",
        Pasted,
    ),
    (
        Code::ReadOnly,
        71,
        scenes::read_only,
        "its file system, mounted at @, is read-only",
        "sudo mount -o remount,rw @",
        Pasted,
    ),
    (
        Code::WriteFailed,
        71,
        scenes::append_only,
        "a file cannot be removed: operation not permitted",
        "namei -l @",
        ByHand,
    ),
    (
        Code::DiskFull,
        71,
        scenes::full,
        "only 0 bytes are free",
        "sudo du -xh @ | sort -h | tail -n 20",
        ByHand,
    ),
    (Code::DiskLow, 0, scenes::small, "only 8 MiB are free", "sudo du -xh @ | sort -h | tail -n 20", ByHand),
    (
        Code::InodesFull,
        71,
        scenes::without_inodes,
        "only 0 of 20 inodes are free",
        "sudo du -x --inodes @ | sort -n | tail -n 20",
        ByHand,
    ),
    (
        Code::InodesLow,
        0,
        scenes::few_inodes,
        "only 18 of 20 inodes are free",
        "sudo du -x --inodes @ | sort -n | tail -n 20",
        ByHand,
    ),
    (
        Code::NotMounted,
        71,
        scenes::not_mounted,
        "@ is a mount point in /etc/fstab (none), and is not mounted",
        "sudo mount @",
        Pasted,
    ),
    (
        Code::NoAnswer,
        71,
        scenes::hung,
        "no answer for 5 s: its file system hangs",
        "sudo umount -f @ && sudo mount @",
        Pasted,
    ),
    (
        Code::NotAsked,
        71,
        scenes::after_three_that_hang,
        "not looked at, since other paths do not answer",
        "findmnt",
        ByHand,
    ),
    (
        Code::Unreadable,
        71,
        scenes::server_gone,
        "transport endpoint is not connected",
        "sudo umount -f @ && sudo mount @",
        Pasted,
    ),
    (
        Code::NotLookedAt,
        71,
        scenes::within_a_file_size,
        "it could not be looked at: the helper ended without an answer",
        "ulimit -a",
        ByHand,
    ),
    (
        Code::DatabaseIsNoFile,
        71,
        scenes::database_directory,
        "it is no file, but a database is to be there",
        "sudo mv -nT % %.old",
        Pasted,
    ),
    (
        Code::CommandMissing,
        71,
        scenes::no_command,
        "`@` of app.command does not exist (%)",
        "namei -l %",
        ByHand,
    ),
    (
        Code::CommandNotExecutable,
        71,
        scenes::no_program,
        "% of app.command is not executable for user 1000:1000",
        "sudo chmod a+x %",
        Pasted,
    ),
    (
        Code::CommandRefused,
        71,
        scenes::noexec,
        "@ of app.command may not be run (permission denied): a file system mounted noexec, an access list or a security module",
        "sudo mount -o remount,exec %",
        Pasted,
    ),
    (
        Code::InterpreterMissing,
        71,
        scenes::no_interpreter,
        "@ of app.before[0] is a script for %: does not exist",
        "head -n 1 @ # and install what it names",
        ByHand,
    ),
    (
        Code::UserNotSwitchable,
        71,
        scenes::not_root,
        "the app is to run as 1000:1000, and user 1234 may not become anybody else",
        "sudo stead run",
        ByHand,
    ),
    (
        Code::StoreUnusable,
        71,
        scenes::bucket_without_authority,
        "@: the certificates of %: …",
        "check that storage.endpoint is https, and name the authority's certificate in storage.ca_file or AWS_CA_BUNDLE",
        ByHand,
    ),
    (Code::PortTaken, 71, scenes::taken_port, "@ is taken by pid % (…", "sudo kill %", Pasted),
    (
        Code::PortRefused,
        71,
        scenes::low_port,
        "this user may not listen on port 80: …",
        "sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80",
        Pasted,
    ),
    (
        Code::AddressUnknown,
        71,
        scenes::foreign_address,
        "192.0.2.1 is no address of this machine",
        "ip address show",
        ByHand,
    ),
    (
        Code::PortUnusable,
        71,
        scenes::address_without_its_device,
        "@ cannot be listened on: …",
        "ip address show",
        ByHand,
    ),
    (
        Code::UmaskInvalid,
        78,
        || scenes::variable("UMASK", "zz"),
        "UMASK is `zz`, which is no umask: up to three octal digits",
        "export UMASK=022",
        Exported,
    ),
    (
        Code::PuidInvalid,
        78,
        || scenes::variable("PUID", "abc"),
        "PUID is `abc`, which is no number of a user or group",
        "export PUID=1000",
        Exported,
    ),
    (
        Code::PgidInvalid,
        78,
        || scenes::variable("PUID", "1000").with("PGID", "-5"),
        "PGID is `-5`, which is no number of a user or group",
        "export PGID=1000",
        Exported,
    ),
    (
        Code::PgidAlone,
        0,
        || scenes::variable("PGID", "100"),
        "PGID is set without PUID, and has no effect",
        "export PUID=1000",
        Exported,
    ),
    (
        Code::HostnameDiffers,
        0,
        || scenes::variable("HOSTNAME", "somebody-else"),
        "HOSTNAME is `somebody-else`, but this machine is called `%`",
        "export HOSTNAME=\"$(uname -n)\"",
        Exported,
    ),
];

/// Rows that are played side by side.
const AT_ONCE: usize = 5;

#[test]
fn every_finding_is_produced_told_and_mended_by_its_cure() {
    let without: Vec<_> = Code::ALL.iter().filter(|code| !ROWS.iter().any(|row| row.0 == **code)).collect();
    assert!(without.is_empty(), "nothing here produces {without:?}");
    let mut failed = Vec::new();
    for rows in ROWS.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let played: Vec<_> = rows
                .iter()
                .map(|row| {
                    let thread = std::thread::Builder::new().name(row.0.to_string());
                    (row.0, thread.spawn_scoped(scope, || play(row)).unwrap())
                })
                .collect();
            failed.extend(played.into_iter().filter_map(|(code, thread)| thread.join().err().map(|_| code)));
        });
    }
    assert!(failed.is_empty(), "{failed:?}; see above");
}

fn play(row @ &(code, exit, scene, message, fix, cure): &Row) {
    let mut set = scene();
    let named = |text: &str| text.replace('@', &set.path).replace('%', &set.other);
    let (message, fix) = (named(message), named(fix));
    let first = set.look();
    assert_eq!(first.code, Some(exit), "{code}: {:#}", first.said);
    let finding = first.finding(code.word());
    let (said, printed) = (finding["message"].as_str().unwrap(), finding["fix"].as_str().unwrap());
    match message.strip_suffix('…') {
        Some(begin) => assert!(said.starts_with(begin), "{code}: {finding:#}"),
        None => assert_eq!(said, message, "{code}"),
    }
    assert_eq!((printed, finding["path"].as_str()), (fix.as_str(), Some(set.path.as_str())), "{code}");
    let (severity, word) = if exit == 0 { ("warning", "warn  ") } else { ("error", "FAIL  ") };
    assert_eq!(finding["severity"], severity, "{code}");
    let text = String::from_utf8_lossy(&set.stead(&[]).stdout).into_owned();
    assert!(text.contains(&format!("fix: {fix}\n")) && text.contains(word), "{code}: {text}");
    match cure {
        Pasted | PastedOrFix => set.shell(&fix),
        Exported => set.export(&fix),
        ByHand => {}
    }
    set.mend_by_hand();
    set.is_well();
    if cure == PastedOrFix {
        mended_by_fix(row);
    }
}

fn mended_by_fix(&(code, _, scene, ..): &Row) {
    let set = scene();
    let said: Value = serde_json::from_slice(&set.stead(&["--json", "--fix"]).stdout).unwrap();
    let done = said["checks"].as_array().unwrap().iter().any(|check| check["done"].is_array());
    assert!(done && said["status"] == "ok", "{code}: {said:#}");
    set.is_well();
}

/// The handbook's table, by the codes of its first column.
#[test]
fn the_handbook_has_a_row_for_every_finding_and_for_nothing_else() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/how-to/containers.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, table) = page.split_once("| code | means | cure |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    let mut told: Vec<&str> =
        rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect();
    let mut all: Vec<&str> = Code::ALL.iter().map(|code| code.word()).collect();
    told.sort_unstable();
    all.sort_unstable();
    assert_eq!(told, all);
}
