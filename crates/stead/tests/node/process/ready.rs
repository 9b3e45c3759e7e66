//! `app.ready`: when an app that runs counts as ready, and what is seen until then.

use super::{app, app_with};
use crate::support::{Home, Node, alive, issue, until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

const SLEEP: &str = "exec sleep 1000";

/// An app that waits to be told which notices to send: a line of the pipe `say` each, to its socket.
const SPEAKER: &str = r#"
    use Socket;
    socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die;
    while (1) {
        open(my $lines, '<', 'say') or die;
        while (my $text = <$lines>) {
            chomp $text;
            $text =~ s/;/\n/g;
            send($s, $text, 0, pack_sockaddr_un($ENV{NOTIFY_SOCKET})) or die "$!";
        }
    }"#;

/// A server that answers every request with the status that is set.
struct Server {
    address: SocketAddr,
    status: Arc<AtomicU16>,
}

impl Server {
    fn start(status: u16) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU16::new(status));
        let answered = status.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let _ = write!(stream, "HTTP/1.1 {} Said So\r\n\r\n", answered.load(Ordering::SeqCst));
            }
        });
        Server { address, status }
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
}

fn ready(what: Value) -> Value {
    let mut what = what;
    what["interval"] = json!("100ms");
    app_with(SLEEP, "ready", what)
}

fn until_ready(node: &Node<'_>) -> Value {
    node.until("the app is ready", |status| status["process"]["ready"] == true)
}

#[test]
fn without_a_way_to_ask_an_app_is_ready_when_it_runs() {
    let home = Home::new();
    let node = Node::configured(&home, &app(SLEEP));
    node.until_app();
    let status = until_ready(&node);
    assert_eq!(status["process"]["waits_for"], Value::Null);
    assert_eq!(node.get("/primary").status, 200);
    node.post("/app", &json!({ "action": "stop" })).ok();
    assert_eq!(node.status()["process"]["ready"], false);
    assert_eq!(node.get("/primary").status, 503);
    assert_eq!(node.get("/api/health/ready").status, 200, "a stop on purpose makes no node unready");
}

// semantics: ready
#[test]
fn until_its_url_answers_well_the_node_is_not_ready_and_gets_no_traffic() {
    let home = Home::new();
    let server = Server::start(503);
    let url = format!("http://{}/health", server.address);
    let node = Node::configured(&home, &ready(json!({ "http": format!("{url}?key=of-the-app") })));
    let pid = node.until_app();
    let asked = format!("{url}: answered 503 Said So");
    let status = node.until("the answer is shown", |status| status["process"]["waits_for"] == asked);
    assert_eq!(status["process"]["ready"], false);
    assert_eq!(status["components"]["app"]["state"], "starting");
    assert_eq!(node.get("/primary").status, 503);
    let health = node.get("/api/health/ready?verbose=1");
    assert_eq!(health.status, 503);
    let check = health.json()["checks"]["app"].clone();
    assert_eq!((&check["status"], &check["output"]), (&json!("fail"), &json!(format!("waits for {asked}"))));
    assert!(!node.stderr().contains("of-the-app"), "a query may hold a secret:\n{}", node.stderr());

    server.answer(204);
    let status = until_ready(&node);
    assert_eq!(
        (&status["components"]["app"]["state"], &status["process"]["pid"]),
        (&json!("ok"), &json!(pid))
    );
    assert_eq!(node.get("/primary").status, 200);
    assert_eq!(node.get("/api/health/ready").status, 200);

    server.answer(500);
    node.post("/app", &json!({ "action": "restart" })).ok();
    node.until("a restart begins anew", |status| {
        status["process"]["state"] == "running" && status["process"]["ready"] == false
    });
}

// semantics: ready
#[test]
fn an_app_that_is_not_ready_in_time_is_an_issue_and_is_left_running() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    drop(taken);
    let node = Node::configured(&home, &ready(json!({ "tcp": address, "timeout": "300ms" })));
    let pid = node.until_app();
    let found = node.until_issue("app_not_ready");
    let said = format!("the app runs and was not ready within 300ms: tcp {address}: connection refused");
    assert_eq!(found["message"], said);
    let _listener = TcpListener::bind(&address).unwrap();
    let status = until_ready(&node);
    assert_eq!(status["process"]["pid"], pid);
    assert!(issue(&status, "app_not_ready").is_none());
}

#[test]
fn a_command_asks_as_the_apps_user_and_leaves_nothing_behind() {
    let home = Home::new();
    let shared = home.beside("shared");
    std::fs::create_dir(&shared).unwrap();
    open_to_all(&shared);
    let script = "id -u > asked; setsid sleep 1000 & echo $! > left; [ -e mark ] || exit 9";
    let mut config = ready(json!({ "command": ["sh", "-c", script] }));
    config["app"]["directory"] = json!(shared);
    config["app"]["user"] = json!("65534:65534");
    let node = Node::configured(&home, &config);
    node.until("the answer is shown", |status| {
        let asked = status["process"]["waits_for"].as_str().unwrap_or_default();
        asked.ends_with(": exited with code 9")
    });
    let read = |name: &str| std::fs::read_to_string(shared.join(name)).unwrap_or_default();
    assert_eq!(read("asked"), "65534\n");
    std::fs::write(shared.join("mark"), "").unwrap();
    until_ready(&node);
    let left: u32 = read("left").trim().parse().unwrap();
    until("what it left is gone", || (!alive(left)).then_some(()));
}

#[test]
fn a_command_that_hangs_is_ended_with_all_it_has_started_and_a_stop_does_not_wait_for_it() {
    let home = Home::new();
    let script = "echo $$ > hangs; trap '' TERM; sleep 1000 & echo $! > child; wait";
    let node = Node::configured(&home, &ready(json!({ "command": ["sh", "-c", script] })));
    let pid = |name: &'static str| until("it runs", || home.read(name).trim().parse::<u32>().ok());
    let (first, child) = (pid("hangs"), pid("child"));
    node.until("its limit passes", |status| {
        let asked = status["process"]["waits_for"].as_str().unwrap_or_default();
        asked.ends_with(": did not end within 5 s")
    });
    assert!(!alive(first) && !alive(child));
    let second = until("it is asked again", || Some(pid("hangs")).filter(|pid| *pid != first && alive(*pid)));
    node.post("/app", &json!({ "action": "stop" })).ok();
    assert!(!alive(second));
}

/// An app that says what is written to a pipe in its directory, which everybody may use.
struct Speaker(PathBuf);

impl Speaker {
    fn new(home: &Home) -> Speaker {
        let directory = home.beside("shared");
        std::fs::create_dir(&directory).unwrap();
        let pipe = directory.join("say");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        open_to_all(&pipe);
        open_to_all(&directory);
        Speaker(directory)
    }

    fn config(&self, user: &str) -> Value {
        let mut config = app("true");
        config["app"]["command"] = json!(["perl", "-e", SPEAKER]);
        config["app"]["directory"] = json!(self.0);
        config["app"]["user"] = json!(user);
        config["app"]["ready"] = json!({ "notify": true });
        config
    }

    fn say(&self, line: &str) {
        std::fs::write(self.0.join("say"), format!("{line}\n")).unwrap();
    }
}

fn socket_of(pid: u32) -> PathBuf {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    let text = String::from_utf8_lossy(&environment);
    let path = text.split('\0').find_map(|entry| entry.strip_prefix("NOTIFY_SOCKET=")).unwrap();
    PathBuf::from(path)
}

// semantics: ready
#[test]
fn an_app_says_by_itself_that_it_is_ready_and_what_it_is_at() {
    let home = Home::new();
    let speaker = Speaker::new(&home);
    let node = Node::configured(&home, &speaker.config("0:0"));
    let pid = node.until_app();
    speaker.say("STATUS=loading 3 of 7");
    let status = node.until("it is shown", |status| status["process"]["says"] == "loading 3 of 7");
    assert_eq!(status["process"]["waits_for"], "READY=1 from the app: loading 3 of 7");
    assert_eq!(node.get("/primary").status, 503);
    speaker.say("READY=1;STATUS=serving");
    let status = until_ready(&node);
    assert_eq!((&status["process"]["says"], &status["process"]["pid"]), (&json!("serving"), &json!(pid)));
    let socket = socket_of(pid);
    assert_eq!(node.stop(), 0);
    assert!(!socket.parent().unwrap().exists());
}

#[test]
fn an_apps_user_reaches_its_socket_though_nobody_may_list_the_home_and_nobody_else_counts() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let home = Home::new();
    let speaker = Speaker::new(&home);
    std::fs::create_dir(home.root()).unwrap();
    std::fs::set_permissions(home.root(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let node = Node::configured(&home, &speaker.config("65534:65534"));
    let pid = node.until_app();
    let socket = socket_of(pid);
    let seen = std::fs::metadata(&socket).unwrap();
    assert_eq!((seen.uid(), seen.mode() & 0o777), (65534, 0o600));

    // Root may send, and is no process of the app.
    let stranger = std::os::unix::net::UnixDatagram::unbound().unwrap();
    stranger.send_to(b"READY=1\nSTATUS=faked", &socket).unwrap();
    speaker.say("STATUS=mine");
    let status = node.until("what came later is shown", |status| status["process"]["says"] == "mine");
    assert_eq!(status["process"]["ready"], false);
    speaker.say("READY=1");
    until_ready(&node);
}

#[test]
fn a_script_says_it_with_the_tool_that_everybody_has() {
    let home = Home::new();
    let script = "systemd-notify --ready --status=up && echo told > told; exec sleep 1000";
    let mut config = app(script);
    config["app"]["ready"] = json!({ "notify": true });
    let node = Node::configured(&home, &config);
    let status = until_ready(&node);
    assert_eq!(status["process"]["says"], "up");
    until("the tool has ended", || home.exists("told").then_some(()));
}

#[test]
fn a_daemon_that_names_its_successor_has_not_ended_and_another_process_cannot_be_named() {
    let home = Home::new();
    let script = "sleep 1000 & echo $! > next; systemd-notify MAINPID=$(cat next) READY=1; exit 0";
    let mut config = app(script);
    config["app"]["ready"] = json!({ "notify": true });
    let node = Node::configured(&home, &config);
    let next = |restarts: u64| {
        node.until("the successor is the main process", |status| {
            let next = home.read("next").trim().parse::<u64>().ok();
            status["process"]["ready"] == true
                && status["process"]["restarts"] == restarts
                && next.is_some_and(|next| status["process"]["pid"] == next)
        })
    };
    let status = next(0);
    assert_eq!(status["process"]["last_exit"], Value::Null);
    crate::support::signal(crate::support::app_pid(&status), "KILL");
    let status = next(1);
    assert_eq!(status["process"]["last_exit"]["signal"], "SIGKILL");
    let pid = crate::support::app_pid(&status);
    node.post("/app", &json!({ "action": "stop" })).ok();
    assert!(!alive(pid));

    let foreign = json!(["sh", "-c", "systemd-notify MAINPID=1 READY=1; exit 7"]);
    config["app"]["command"] = foreign;
    node.request("PUT", "/config", &config.to_string()).ok();
    node.post("/app", &json!({ "action": "start" })).ok();
    node.until("it has ended", |status| status["process"]["last_exit"]["code"] == 7);
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    // The directory that a test's home lies in is its owner's alone.
    let above = path.parent().unwrap();
    std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755)).unwrap();
}
