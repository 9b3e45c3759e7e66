//! The other side: Litestream 0.5.18, of `LITESTREAM` or the path. Without it only Stead's side is run.

use crate::servers::{ACCESS_KEY, SECRET_KEY};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The version that figures are compared with.
pub const VERSION: &str = "v0.5.18";

/// The program, where it is there in the right version.
pub fn find() -> Option<PathBuf> {
    let program = std::env::var_os("LITESTREAM").map_or_else(|| PathBuf::from("litestream"), PathBuf::from);
    let version = Command::new(&program).arg("version").output();
    if version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).trim() == VERSION) {
        return Some(program);
    }
    println!(
        "litestream {VERSION} is not in the path: go install github.com/benbjohnson/litestream/cmd/litestream@{VERSION}, \
         or name it with LITESTREAM; only Stead's side is run"
    );
    None
}

/// How both sides reach a server on loopback.
pub fn environment<'a>(command: &'a mut Command, endpoint: &str) -> &'a mut Command {
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_REGION", "us-east-1")
        // Litestream 0.5.18 does not start with it.
        .env_remove("AWS_CA_BUNDLE")
}

/// A place in a bucket, as Litestream writes it.
pub fn bucket_url(bucket: &str, prefix: &str, endpoint: &str) -> String {
    format!("s3://{bucket}/{prefix}?endpoint={endpoint}&region=us-east-1&forcePathStyle=true")
}

/// It, replicating one database until dropped.
pub struct Replicating(Child);

impl Replicating {
    /// Starts it with both of its intervals at this (`None`: its own default, a second each).
    pub fn start(
        program: &Path,
        database: &Path,
        url: &str,
        interval: Option<&str>,
        endpoint: &str,
    ) -> Replicating {
        let (monitor, sync) = interval.map_or_else(Default::default, |interval| {
            (format!("    monitor-interval: {interval}\n"), format!("      sync-interval: {interval}\n"))
        });
        let config = database.with_extension("yml");
        let path = database.display();
        let text = format!("dbs:\n  - path: \"{path}\"\n{monitor}    replica:\n      url: \"{url}\"\n{sync}");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command.arg("replicate").arg("-config").arg(&config);
        environment(&mut command, endpoint).stdout(Stdio::null()).stderr(Stdio::null());
        Replicating(command.spawn().unwrap())
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Replicating {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}
