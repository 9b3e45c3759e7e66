//! What the node says about itself, on standard error: a line for people or a JSON object, as `log` has it.
//!
//! The configuration may come after the first lines, so both form and level can be changed while the node runs.
//! `RUST_LOG`, where it is set, wins over the level.

use node::config::{Log, LogFormat, LogLevel};
use std::io::IsTerminal;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// The way to change the log.
pub struct Logging {
    lines: reload::Handle<Lines, Registry>,
}

impl Logging {
    /// Begins to log as an empty configuration would.
    pub fn start() -> Logging {
        let (layer, lines) = reload::Layer::new(lines(&Log::default()));
        // A second subscriber in one process can only be a test's; its lines go there.
        let _ = tracing_subscriber::registry().with(layer).try_init();
        Logging { lines }
    }

    /// Logs as the configuration says from now on.
    pub fn change(&self, log: &Log) {
        if let Err(error) = self.lines.reload(lines(log)) {
            tracing::warn!(%error, "the log stays as it was");
        }
    }
}

fn lines(log: &Log) -> Lines {
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(level(log.level)));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => layer.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            layer.with_ansi(colours).with_filter(filter).boxed()
        }
    }
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}
