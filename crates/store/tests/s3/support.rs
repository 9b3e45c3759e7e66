//! Real S3 servers on loopback, for the tests of any crate (`#[path]` includes this file).
//!
//! A server has a port, a directory and credentials of its own, and ends with its value. It can be frozen, let go on,
//! killed and started again on the same port. `scripts/stores` installs the programs.
#![allow(dead_code, reason = "each test uses what it needs of it")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    child: Option<Child>,
    port: u16,
    dir: TempDir,
    tls: Option<Certificates>,
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
        Server::start_with(kind, None)
    }

    /// Starts it over https.
    pub fn start_tls(kind: Kind, certificates: &Certificates) -> Server {
        Server::start_with(kind, Some(certificates.clone()))
    }

    fn start_with(kind: Kind, tls: Option<Certificates>) -> Server {
        let mut server =
            Server { kind, child: None, port: free_port(), dir: tempfile::tempdir().unwrap(), tls };
        server.run();
        server
    }

    /// `http://127.0.0.1:port`, or `https://localhost:port`.
    pub fn endpoint(&self) -> String {
        match self.tls {
            None => format!("http://127.0.0.1:{}", self.port),
            Some(_) => format!("https://localhost:{}", self.port),
        }
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
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

    /// Starts it again after [`Server::kill`], on the same port with the same directory.
    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(done.success(), "{name}");
    }

    fn run(&mut self) {
        let program = match self.kind {
            Kind::Versity => tools().join("bin/versitygw"),
            Kind::Minio => tools().join("bin/minio"),
        };
        assert!(program.exists(), "{} is missing: run scripts/stores", program.display());
        let mut command = Command::new(program);
        std::fs::create_dir_all(self.dir.path().join("buckets")).unwrap();
        match self.kind {
            Kind::Versity => {
                command.args(["--port", &format!("127.0.0.1:{}", self.port), "--keep-alive", "--quiet"]);
                if let Some(tls) = &self.tls {
                    command.arg("--cert").arg(&tls.cert).arg("--key").arg(&tls.key);
                }
                command.arg("posix").arg(self.dir.path().join("buckets"));
                command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
            }
            Kind::Minio => {
                command.args(["server", "--quiet", "--address", &format!("127.0.0.1:{}", self.port)]);
                command.arg("--console-address").arg(format!("127.0.0.1:{}", free_port()));
                command.arg("--certs-dir").arg(self.dir.path()).arg(self.dir.path().join("buckets"));
                command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
                command.env("MINIO_UPDATE", "off").env("MINIO_CALLHOME_ENABLE", "off");
            }
        }
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().unwrap();
        let began = Instant::now();
        while TcpStream::connect(self.address()).is_err() {
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
    }
}

impl Certificates {
    /// Makes them in a directory, for `localhost`.
    pub fn make(dir: &Path) -> Certificates {
        let openssl = |args: &[&str]| {
            let done = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256"];
        let mut ca = vec!["req", "-x509", "-days", "2", "-subj", "/CN=Stead test authority"];
        ca.extend(curve);
        ca.extend(["-keyout", "ca.key", "-out", "ca.pem"]);
        openssl(&ca);
        let mut request = vec!["req", "-subj", "/CN=localhost"];
        request.extend(curve);
        request.extend(["-keyout", "server.key", "-out", "server.csr"]);
        openssl(&request);
        std::fs::write(
            dir.join("ext"),
            "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
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

/// Waits until something is so.
pub fn until(mut look: impl FnMut() -> bool) {
    let began = Instant::now();
    while !look() {
        assert!(began.elapsed() < START_LIMIT, "never");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A port that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Where `scripts/stores` installs: `target/tools` of the workspace.
fn tools() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = here.ancestors().find(|dir| dir.join("Cargo.lock").exists()).expect("a workspace");
    workspace.join("target/tools")
}
