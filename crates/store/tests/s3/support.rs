//! Real S3 servers on loopback, for the tests of any crate (`#[path]` includes this file).
//!
//! A server has an address in 127.0.0.0/8 and a directory of its own, and ends with its value. It can be frozen, let go
//! on, killed and started again at the same address. `scripts/stores` installs the programs.
#![allow(dead_code, reason = "each test uses what it needs of it")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use store::S3Options;
use tempfile::TempDir;

/// How long a server may take to begin to listen, on a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked whether it listens.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub const ACCESS_KEY: &str = "steadtest";
pub const SECRET_KEY: &str = "stead-test-secret";

/// The kinds of server there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// versitygw over a directory.
    Versity,
    /// MinIO over a directory.
    Minio,
}

/// Says which kinds are run: `all`, or else only the first.
const KINDS_VARIABLE: &str = "STEAD_TEST_SERVERS";

impl Kind {
    /// The kinds that are run: the second takes minutes to build, so that only `make stores` asks for it.
    pub fn each() -> &'static [Kind] {
        match std::env::var(KINDS_VARIABLE).as_deref() {
            Ok("all") => &[Kind::Versity, Kind::Minio],
            _ => &[Kind::Versity],
        }
    }

    /// Whether `scripts/stores` has installed it.
    pub fn is_installed(self) -> bool {
        self.program().exists()
    }

    fn program(self) -> PathBuf {
        match self {
            Kind::Versity => tools().join("bin/versitygw"),
            Kind::Minio => tools().join("bin/minio"),
        }
    }
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    child: Option<Child>,
    address: SocketAddr,
    dir: TempDir,
    tls: Option<Certificates>,
    /// Whether its directory is a file system of its own.
    mounted: bool,
    /// The domain below which the hosts are buckets.
    domain: Option<&'static str>,
}

/// A certificate authority of its own and a server's certificate.
#[derive(Clone, Debug)]
pub struct Certificates {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Server {
    pub fn start(kind: Kind) -> Server {
        Server::start_with(kind, false)
    }

    /// Starts it over https, with a certificate authority of its own.
    pub fn start_tls(kind: Kind) -> Server {
        Server::start_with(kind, true)
    }

    /// Starts it over a file system of so many bytes, which needs root.
    pub fn start_small(kind: Kind, bytes: u64) -> Server {
        let mut server = Server::prepare(kind, false);
        let buckets = server.dir.path().join("buckets");
        std::fs::create_dir_all(&buckets).unwrap();
        let size = format!("size={bytes}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&buckets));
        server.mounted = true;
        server.run();
        server
    }

    /// Starts it so that hosts below a domain are buckets.
    pub fn start_virtual(kind: Kind, domain: &'static str) -> Server {
        let mut server = Server::prepare(kind, false);
        server.domain = Some(domain);
        server.run();
        server
    }

    fn start_with(kind: Kind, tls: bool) -> Server {
        let mut server = Server::prepare(kind, tls);
        server.run();
        server
    }

    fn prepare(kind: Kind, tls: bool) -> Server {
        let (address, dir) = (own_address(), tempfile::tempdir().unwrap());
        let tls = tls.then(|| Certificates::make(dir.path(), address));
        Server { kind, child: None, address, dir, tls, mounted: false, domain: None }
    }

    /// `http://127.…:9000`, or with https.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is reached, with its credentials.
    pub fn options(&self) -> S3Options {
        S3Options {
            endpoint: Some(self.endpoint()),
            region: Some("us-east-1".to_owned()),
            access_key_id: Some(ACCESS_KEY.to_owned()),
            secret_access_key: Some(SECRET_KEY.to_owned()),
            ca_file: self.tls.as_ref().map(|tls| tls.ca.clone()),
            ..S3Options::default()
        }
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        match self.kind {
            Kind::Versity | Kind::Minio => std::fs::create_dir(self.bucket_dir(name)).unwrap(),
        }
    }

    /// The directory that is a bucket.
    pub fn bucket_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join("buckets").join(name)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// SIGSTOP: connections are accepted, and nothing is answered.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again after [`Server::kill`], at the same address with the same directory.
    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address()) else { return false };
        if self.kind == Kind::Versity {
            return true;
        }
        let asked = stream
            .write_all(b"GET /minio/health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
    }

    fn signal(&self, name: &str) {
        run(Command::new("kill").args([format!("-{name}"), self.pid().to_string()]));
    }

    fn run(&mut self) {
        let program = self.kind.program();
        assert!(program.exists(), "{} is missing: run scripts/stores", program.display());
        let mut command = Command::new(program);
        std::fs::create_dir_all(self.dir.path().join("buckets")).unwrap();
        match self.kind {
            Kind::Versity => {
                command.args(["--port", &self.address.to_string(), "--keep-alive", "--quiet"]);
                if let Some(tls) = &self.tls {
                    command.arg("--cert").arg(&tls.cert).arg("--key").arg(&tls.key);
                }
                if let Some(domain) = self.domain {
                    command.args(["--virtual-domain", domain]);
                }
                command.arg("posix").arg(self.dir.path().join("buckets"));
                command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
            }
            Kind::Minio => {
                command.args(["server", "--quiet", "--address", &self.address.to_string()]);
                command.arg("--console-address").arg(format!("{}:9001", self.address.ip()));
                command.arg("--certs-dir").arg(self.dir.path()).arg(self.dir.path().join("buckets"));
                command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
                command
                    .env("MINIO_SITE_REGION", "us-east-1")
                    .env("MINIO_DOMAIN", self.domain.unwrap_or(""))
                    .env("MINIO_UPDATE", "off")
                    .env("MINIO_CALLHOME_ENABLE", "off");
            }
        }
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        while !self.is_ready() {
            let ended = child.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(ended.is_none(), "the server ended: {}", log());
            assert!(began.elapsed() < START_LIMIT, "the server does not listen: {}", log());
            std::thread::sleep(LOOK_EVERY);
        }
        self.child = Some(child);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if self.mounted {
            run(Command::new("umount").arg(self.dir.path().join("buckets")));
        }
    }
}

impl Certificates {
    /// Makes them in a directory, for an address.
    pub fn make(dir: &Path, address: SocketAddr) -> Certificates {
        let openssl = |args: &[&str]| run(Command::new("openssl").args(args).current_dir(dir));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256"];
        let mut ca = vec!["req", "-x509", "-days", "2", "-subj", "/CN=Stead test authority"];
        ca.extend(curve);
        ca.extend(["-keyout", "ca.key", "-out", "ca.pem"]);
        openssl(&ca);
        let mut request = vec!["req", "-subj", "/CN=Stead test server"];
        request.extend(curve);
        request.extend(["-keyout", "server.key", "-out", "server.csr"]);
        openssl(&request);
        let extensions = format!("subjectAltName=IP:{}\nbasicConstraints=CA:FALSE\n", address.ip());
        std::fs::write(dir.join("ext"), extensions).unwrap();
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            "ext",
            "-out",
            "server.pem",
        ]);
        Certificates { ca: dir.join("ca.pem"), cert: dir.join("server.pem"), key: dir.join("server.key") }
    }
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Waits until something is so.
pub fn until(mut look: impl FnMut() -> bool) {
    let began = Instant::now();
    while !look() {
        assert!(began.elapsed() < START_LIMIT, "never");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// An address that is nobody else's, also of tests in other processes.
pub fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(number != 0, "more servers than addresses");
    // Not the lowest ones, which other tests use.
    (Ipv4Addr::new(127, 64 | (high & 63), low, number), 9000).into()
}

/// Where `scripts/stores` installs: `target/tools` of the workspace.
fn tools() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = here.ancestors().find(|dir| dir.join("Cargo.lock").exists()).expect("a workspace");
    workspace.join("target/tools")
}
