//! A node without databases: it does to its runner what it is told on a socket, one JSON object a line.

use app::link::Beats;
use app::policy::RestartPolicy;
use app::protocol::{DESCRIPTOR_VARIABLE, ToSupervisor};
use app::{Link, Runner, Spec, spawn};
use base::SystemClock;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Plays the node until it is told to end.
pub fn play(arguments: &[OsString]) -> ! {
    let home = Path::new(&arguments[0]);
    let beats = match arguments.get(1) {
        Some(ms) => {
            let horizon: u64 = ms.to_str().unwrap().parse().unwrap();
            Beats { interval: Duration::from_millis(horizon / 8), horizon: Duration::from_millis(horizon) }
        }
        None => Beats::default(),
    };
    let number = std::env::var(DESCRIPTOR_VARIABLE).unwrap().parse().unwrap();
    let link = Link::open(spawn::adopt_descriptor(number).unwrap(), beats).unwrap();
    let policy = RestartPolicy {
        delay: Duration::from_millis(100),
        ceiling: Duration::from_secs(1),
        ..Default::default()
    };
    let runner = Runner::new(link, Arc::new(SystemClock), policy);
    let draining = runner.clone();
    runner.on_terminate(move || {
        draining.stop("the supervisor was told to end").unwrap();
        std::process::exit(0);
    });
    let path = home.join("node.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    loop {
        let (stream, _) = listener.accept().unwrap();
        let runner = runner.clone();
        std::thread::spawn(move || serve(&runner, &stream));
    }
}

fn serve(runner: &Runner, stream: &UnixStream) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(line)) = lines.next() else { return };
    let request: Value = serde_json::from_str(&line).unwrap();
    let answer = obey(runner, &request);
    let mut stream = stream;
    let _ = writeln!(stream, "{answer}");
}

fn obey(runner: &Runner, request: &Value) -> Value {
    match request["do"].as_str().unwrap() {
        "start" => {
            let spec: Spec = serde_json::from_value(request["spec"].clone()).unwrap();
            runner.start(spec);
            json!({})
        }
        "stop" => match runner.stop("a test") {
            Ok(()) => json!({}),
            Err(error) => json!({ "error": error.to_string() }),
        },
        "logs" => {
            match runner.logs(request["lines"].as_u64().unwrap() as usize, request["stream"].as_str()) {
                Ok(lines) => json!(lines.iter().map(|line| line.text.clone()).collect::<Vec<_>>()),
                Err(error) => json!({ "error": error.to_string() }),
            }
        }
        // As many at once as one likes, none of them waited for.
        "ask_for_logs" => {
            for request in 0..request["times"].as_u64().unwrap() {
                let question = ToSupervisor::Logs { request: u64::MAX - request, lines: 2000, stream: None };
                runner.link().send(&question).unwrap();
            }
            json!({})
        }
        "pids" => json!(runner.descendants()),
        "authority" => {
            let ms = request["ms"].as_u64();
            let until = move |now: Duration| ms.map(|ms| now + Duration::from_millis(ms));
            runner.link().set_authority(Arc::new(until));
            json!({})
        }
        "exit_with_app" => {
            let finishing = runner.clone();
            runner.exit_when_app_ends(move |code| {
                finishing.finish(u8::try_from(code).unwrap()).unwrap();
                std::process::exit(0);
            });
            json!({})
        }
        "exit" => std::process::exit(i32::try_from(request["code"].as_i64().unwrap()).unwrap()),
        "finish" => {
            runner.finish(u8::try_from(request["code"].as_u64().unwrap()).unwrap()).unwrap();
            std::process::exit(0)
        }
        "status" => status(runner),
        other => panic!("no such command: {other}"),
    }
}

fn status(runner: &Runner) -> Value {
    let status = runner.status();
    json!({
        "node": std::process::id(),
        "nodes_before": runner.link().restarts(),
        "previous": runner.link().previous(),
        "state": status.state.name(),
        "pid": status.pid,
        "restarts": status.restarts,
        "code": status.last_exit.and_then(|exit| exit.code),
        "signal": status.last_exit.and_then(|exit| exit.signal),
        "error": status.error,
    })
}
