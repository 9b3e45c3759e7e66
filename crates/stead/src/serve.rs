//! The node's process: takes the home, opens the API, starts the node, and waits for the end.
//!
//! ```text
//! home lock ─► configuration ─► doors bound ─► ledger ─► Node accepts ─► API serves ─► preflight, Node begins
//!                                                                                   │
//!      exit code ◄─ API ends ◄─ drain ◄── SIGTERM, SIGINT, the supervisor's word, or the app's end
//! ```
//! The doors are bound before anything starts, so that a port in use costs nothing; the API answers before the
//! databases are up, so that a slow start can be watched. Whatever ends this process for good is told to the
//! supervisor as the final word, so that it ends with the same code instead of starting another node.

use app::{Link, RestartPolicy, Runner};
use cli::{Exit, Failure, RunArgs};
use configuration::Found;
use database::ledger::Ledger;
use database::{Engine, Machine};
use logging::Logging;
use node::config::{ListenAddress, Log, LogFormat, Secret, limits};
use node::home::{Home, HomeError, HomeLock};
use node::node::Look;
use node::node::parts::{Databases, StartDatabases, Supervised};
use node::preflight::{self, Context, Environment, Holder, Preflight, holder};
use node::{Node, Setup};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

mod configuration;
mod from;
pub mod heap;
mod logging;

/// Threads for the API's connections; requests that block have threads of their own.
const API_THREADS: usize = 2;
/// How long a node waits for a home that another process has; the supervisor has made sure that no node runs there.
const HOME_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks whether the home is free.
const HOME_PAUSE: Duration = Duration::from_millis(20);
/// How long the API may take to finish running requests at the end.
const API_END_LIMIT: Duration = Duration::from_secs(10);

/// Why the process ends.
enum End {
    /// Somebody asked for it.
    Asked(&'static str),
    /// The app ended, and the configuration says that the node ends with it.
    App(i32),
}

/// Runs the node until it ends; the result is the process's exit code.
pub fn run(args: &RunArgs) -> u8 {
    heap::keep_small();
    let logging = Arc::new(Logging::start());
    let link = match Link::from_env() {
        Ok(link) => link.unwrap_or_else(Link::detached),
        Err(error) => {
            let hint = "start the node with `stead run`";
            return refuse(&Failure::system("the node has no line to its supervisor", error, hint));
        }
    };
    let code = match serve(args, &link, &logging) {
        Ok(code) => code,
        Err(failure) => refuse(&failure),
    };
    // Without a supervisor, or with one that is gone, there is nobody to tell.
    let _ = link.final_word(code);
    Logging::flush();
    code
}

/// Whether a node would take the configuration that it is given; nothing is touched.
pub fn check(args: &RunArgs) -> Result<(), Failure> {
    configuration::check(&args.home, args.config.as_deref(), &args.overrides(), &host_name())
}

fn refuse(failure: &Failure) -> u8 {
    Logging::flush();
    cli::show(failure, false);
    failure.exit.code()
}

fn serve(args: &RunArgs, link: &Link, logging: &Arc<Logging>) -> Result<u8, Failure> {
    let machine = Machine::real();
    let (home, _lock) = take_home(args, &machine)?;
    let name = host_name();
    let overrides = args.overrides();
    let identity = home.identity(&*machine.random, machine.clock.now()).map_err(home_failure)?;
    let look = look(home.root().to_owned(), name.clone(), &machine);
    let mut file = args.config.clone();
    if let Some(url) = &args.from {
        let given = from::Given { url, file: args.config.as_deref(), overrides: &overrides, name: &name };
        if let Some(report) = from::bring(&home, &identity, &machine, &given, &look)? {
            cli::show_findings(&report);
            return Ok(report.exit_code());
        }
        // Whoever brings a volume up is told what its configuration lacks.
        file.get_or_insert_with(|| home.config_file());
    }
    let found = configuration::find(&home, file.as_deref(), &overrides, &name, machine.clock.now())?;
    if let Found::Config(config, _) = &found {
        // Every line of a start has the form that it asks for.
        change_log(logging, link, &config.log);
    }
    tracing::info!(event = "startup", step = "home", path = %home.root().display(), result = "ok");
    if let Found::Config(_, from) = &found {
        tracing::info!(event = "startup", step = "configuration", result = "ok", %from);
    }
    let config = match &found {
        Found::Config(config, _) => Some(&**config),
        Found::Nothing | Found::Unusable(_) => None,
    };
    from::return_home(&home, &identity, &name, &machine, config)?;
    let listen = listen_address(&found, overrides.listen.as_deref())?;
    let doors = api::bind(listen, &home.socket()).map_err(|error| not_bound(&error, listen))?;
    let address = doors.address();
    tracing::info!(event = "startup", step = "listen", %address, result = "ok");
    let ledger = Ledger::open(&home.ledger(), machine.vfs.as_deref()).map_err(|error| {
        Failure::system("the ledger cannot be opened", error, "mend or move away .stead/ledger.sqlite")
    })?;
    let ledger = Arc::new(ledger);
    tracing::info!(event = "startup", step = "ledger", path = %home.ledger().display(), result = "ok");
    let (ends, ended) = channel();
    let runner = Runner::new(link.clone(), machine.clock.clone(), RestartPolicy::default());
    let app_ends = ends.clone();
    let app = Supervised::new(runner.clone(), Arc::new(move |code| tell(&app_ends, End::App(code))));
    let (log, supervisor) = (logging.clone(), link.clone());
    let environment = Environment::of_this_process();
    let node = Arc::new(Node::new(Setup {
        home,
        identity,
        name,
        version: env!("CARGO_PKG_VERSION"),
        start_databases: start_databases(ledger.clone()),
        ledger,
        machine,
        app: Arc::new(app),
        api_url: url(address),
        logging: Box::new(move |changed: &Log| change_log(&log, &supervisor, changed)),
        listening: listen,
        flags: overrides,
        app_user: environment.app_user(),
        app_umask: environment.app_umask(),
        look,
    }));
    listen_to(&runner, &node, &ends);
    accept(&node, found)?;
    let running = Running::start(doors, &node, ends)?;
    tracing::info!(event = "node listens", %address, home = %args.home.display());
    if let Some(previous) = link.previous() {
        tracing::warn!(event = "node before ended", previous, "it did not end well");
    }
    let begun = node.begin();
    // Who started it by hand is told; who configured it over HTTP sees it there, and it is tried again.
    if let Err(report) = begun
        && (args.config.is_some() || args.from.is_some() || args.overrides().configure())
    {
        running.end(&node, "preflight failed");
        cli::show_findings(&report);
        return Ok(report.exit_code());
    }
    Ok(running.wait(&node, &ended))
}

/// What the supervisor says has the form of what the node says.
fn change_log(logging: &Logging, supervisor: &Link, log: &Log) {
    logging.change(log);
    if let Err(error) = supervisor.log_as(log.format == LogFormat::Json) {
        tracing::debug!(%error, "the supervisor's lines stay as they are");
    }
}

fn not_bound(error: &api::BindError, listen: SocketAddr) -> Failure {
    let what = "the API cannot be reached";
    match holder(listen).filter(|_| error.error.kind() == std::io::ErrorKind::AddrInUse) {
        Some(Holder { pid, name }) => {
            let cause = format!("{error}: pid {pid} ({name}) has it");
            Failure::system(what, cause, format!("sudo kill {pid}, or choose another --listen"))
        }
        None => Failure::system(what, error, "end who listens there, or choose another --listen"),
    }
}

/// Looks at what a configuration stands on, as this process sees it.
fn look(home: PathBuf, machine_name: String, machine: &Machine) -> Box<Look> {
    let clock = machine.clock.clone();
    Box::new(move |config, how| {
        let context = Context {
            environment: Environment::of_this_process(),
            path: std::env::var("PATH").ok(),
            machine: machine_name.clone(),
            // The API has it already.
            listen: None,
            node: None,
            starts: true,
        };
        Preflight::default().look(&preflight::plan(config, home.clone(), context), how, &*clock)
    })
}

/// A node that was killed gives its home back when its last thread is gone, which may wait for a disk.
fn take_home(args: &RunArgs, machine: &Machine) -> Result<(Home, HomeLock), Failure> {
    let home = Home::open(machine.disk.clone(), &args.home).map_err(home_failure)?;
    let until = machine.clock.boottime() + HOME_PATIENCE;
    loop {
        match home.lock() {
            Ok(lock) => return Ok((home, lock)),
            Err(HomeError::InUse { .. }) if machine.clock.boottime() < until => {
                machine.clock.sleep(HOME_PAUSE);
            }
            Err(error) => return Err(home_failure(error)),
        }
    }
}

fn home_failure(error: HomeError) -> Failure {
    match error {
        HomeError::InUse { pid, .. } => {
            let hint = match pid {
                Some(pid) => format!("end pid {pid}, or give this node a home of its own with --home"),
                None => "end the other node, or give this one a home of its own with --home".to_owned(),
            };
            Failure::new(Exit::TryAgain, "another node runs on this home", error, hint)
        }
        HomeError::Identity { .. } => {
            Failure::system("the node does not know who it is", error, "mend or remove .stead/node.json")
        }
        HomeError::Directory { .. } | HomeError::Lock { .. } => Failure::system(
            "the home cannot be used",
            error,
            "mend the path or its permissions, or choose another --home",
        ),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The flag, else the configuration, else the default.
fn listen_address(found: &Found, flag: Option<&str>) -> Result<SocketAddr, Failure> {
    if let Found::Config(config, _) = found {
        return Ok(config.listen.0);
    }
    let text = flag.unwrap_or(limits::LISTEN);
    let parsed = ListenAddress::parse(text);
    let wrong = |fault: node::config::Fault| {
        Failure::new(Exit::Configuration, "the API cannot be reached", &fault.message, fault.hint.clone())
    };
    Ok(parsed.map_err(wrong)?.0)
}

/// How the app on this machine reaches the API.
fn url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

fn start_databases(ledger: Arc<Ledger>) -> Box<StartDatabases> {
    Box::new(move |settings, notify| {
        let engine = Engine::start(settings, ledger.clone(), notify).map_err(|error| error.to_string())?;
        Ok(Box::new(engine) as Box<dyn Databases>)
    })
}

/// An end that nobody waits for any more changes nothing.
fn tell(ends: &Sender<End>, end: End) {
    let _ = ends.send(end);
}

/// Takes what the runner says to the node and to the one who waits for the end.
fn listen_to(runner: &Runner, node: &Arc<Node>, ends: &Sender<End>) {
    let weak: Weak<Node> = Arc::downgrade(node);
    runner.subscribe(move |event| {
        if let Some(node) = weak.upgrade() {
            node.app_changed(event);
        }
    });
    let ends = ends.clone();
    runner.on_terminate(move || tell(&ends, End::Asked("the supervisor was told to end")));
}

fn accept(node: &Node, found: Found) -> Result<(), Failure> {
    match found {
        Found::Nothing => Ok(()),
        Found::Unusable(issue) => {
            node.explain(issue);
            Ok(())
        }
        Found::Config(config, reason) => node.accept(*config, &reason).map_err(|error| {
            Failure::system("the configuration was not taken", error, "mend the cause and start again")
        }),
    }
}

/// The API and the signals, on their runtime.
struct Running {
    runtime: Runtime,
    api: tokio::task::JoinHandle<()>,
    end_api: oneshot::Sender<()>,
}

impl Running {
    fn start(doors: api::Bound, node: &Arc<Node>, ends: Sender<End>) -> Result<Running, Failure> {
        let no_threads =
            |error| Failure::system("the API did not start", error, "see the limits of this user: ulimit -a");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(API_THREADS)
            .thread_name("api")
            .enable_all()
            .build()
            .map_err(no_threads)?;
        let (end_api, api_ends) = oneshot::channel::<()>();
        // The app does not inherit it: the supervisor's copy is kept from it as well.
        let token = std::env::var("STEAD_TOKEN").ok().filter(|text| !text.is_empty()).map(Secret::new);
        let control: Arc<dyn node::Control> = node.clone();
        let api = runtime.spawn(async move {
            let shutdown = async move { drop(api_ends.await) };
            if let Err(error) = doors.serve(control, token, shutdown).await {
                tracing::error!(event = "API ended", %error);
            }
        });
        let signals = {
            let _inside = runtime.enter();
            Signals::take().map_err(no_threads)?
        };
        runtime.spawn(signals.forward(ends));
        Ok(Running { runtime, api, end_api })
    }

    /// Waits for the end, drains the node, ends the API; the exit code.
    fn wait(self, node: &Node, ended: &Receiver<End>) -> u8 {
        let (reason, code) = match ended.recv() {
            Ok(End::Asked(reason)) => (reason, Exit::Done.code()),
            Ok(End::App(code)) => ("the app ended", u8::try_from(code).unwrap_or(Exit::Failed.code())),
            Err(_) => ("nobody is left who could end it", Exit::Bug.code()),
        };
        self.end(node, reason);
        code
    }

    /// Drains the node and ends the API.
    fn end(self, node: &Node, reason: &str) {
        tracing::info!(event = "node ends", reason);
        node.drain(reason);
        let _ = self.end_api.send(());
        let ended = self.runtime.block_on(async { tokio::time::timeout(API_END_LIMIT, self.api).await });
        if ended.is_err() {
            tracing::warn!(
                event = "requests broken off",
                "requests that did not end in time were broken off"
            );
        }
        self.runtime.shutdown_background();
    }
}

/// The signals that ask a process to end.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn take() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn forward(mut self, ends: Sender<End>) {
        loop {
            let reason = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
            };
            tell(&ends, End::Asked(reason));
        }
    }
}
