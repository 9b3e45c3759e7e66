//! Databases that come while the load runs; a restore takes those away that its target does not have.

use super::super::journal::now;
use super::Run;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

/// The name in the journal of the files' numbers.
pub const JOURNAL: &str = "churn";
/// How many rows each gets.
pub const ROWS: i64 = 50;

/// The file of a number, as the node names it.
pub fn path(number: i64) -> String {
    format!("data/churn/{number}.db")
}

/// The number of a file, where it is one of these.
pub fn number(path: &str) -> Option<i64> {
    path.strip_prefix("data/churn/")?.strip_suffix(".db")?.parse().ok()
}

/// Makes one every second or so.
pub fn create_now_and_then(run: &Run) {
    let mut journal = std::fs::File::create(run.desk.journal(JOURNAL)).unwrap();
    std::fs::create_dir_all(run.node.home().join("data/churn")).unwrap();
    let mut number = 0;
    while run.goes_on() {
        number += 1;
        writeln!(journal, "b {number} {}", now()).unwrap();
        let sql = format!(
            "PRAGMA journal_mode=WAL; BEGIN; CREATE TABLE entries(id INTEGER PRIMARY KEY, data);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
             INSERT INTO entries SELECT i, randomblob(500) FROM n; COMMIT;"
        );
        let made = Command::new("sqlite3")
            .args(["-cmd", ".timeout 60000"])
            .arg(run.node.home().join(path(number)))
            .arg(sql)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        writeln!(journal, "a {number} {}", now()).unwrap();
        std::thread::sleep(Duration::from_millis(1100));
    }
}
