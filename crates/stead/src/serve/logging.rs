//! What the node says about itself, on standard error: a line for people or a JSON object, as `log` has it.
//!
//! The configuration may come after the first lines, so both form and level can be changed while the node runs.
//! `RUST_LOG`, where it is set, wins over the level. Who logs never waits for the reader ([`queue`]).

use counted::Counted;
use line::Line;
use node::config::{Log, LogFormat, LogLevel};
use repeats::Repeats;
use std::sync::{Arc, Mutex};
use tracing::Subscriber;
use tracing_subscriber::layer::{Layer, Layered, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::{EnvFilter, reload};

mod counted;
mod line;
mod queue;
mod repeats;

/// A filter of its own, not one around the lines: the library cannot exchange those.
type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// The way to change the log.
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    lines: reload::Handle<Lines, Filtered>,
    repeats: Arc<Mutex<Repeats>>,
}

impl Logging {
    /// Begins to log as an empty configuration would.
    pub fn start() -> Logging {
        let (subscriber, logging) = Logging::prepare();
        app::spawn::set_last_act(Logging::flush);
        if tracing::subscriber::set_global_default(subscriber).is_err() {
            // Only a test has another one already; its lines go there.
            tracing::debug!("the log was begun before");
        }
        logging
    }

    fn prepare() -> (impl Subscriber + Send + Sync, Logging) {
        let log = Log::default();
        let (filter_layer, filter) = reload::Layer::new(filter(&log));
        let repeats = Arc::new(Mutex::new(Repeats::default()));
        let (lines_layer, lines) = reload::Layer::new(lines(&log, &repeats));
        let subscriber = tracing_subscriber::registry().with(filter_layer).with(lines_layer);
        (subscriber, Logging { filter, lines, repeats })
    }

    /// Waits a moment for what was said to be written, before something else is or the process ends.
    pub fn flush() {
        queue::flush();
    }

    /// Logs as the configuration says from now on.
    pub fn change(&self, log: &Log) {
        let changed =
            self.filter.reload(filter(log)).and_then(|()| self.lines.reload(lines(log, &self.repeats)));
        if let Err(error) = changed {
            tracing::warn!(event = "log unchanged", %error);
        }
    }
}

fn filter(log: &Log) -> EnvFilter {
    let asked = std::env::var("RUST_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    asked.unwrap_or_else(|| EnvFilter::new(level(log.level)))
}

fn lines(log: &Log, repeats: &Arc<Mutex<Repeats>>) -> Lines {
    use tracing_subscriber::fmt::format;
    let repeats = Arc::clone(repeats);
    let layer = tracing_subscriber::fmt::layer().with_writer(|| queue::Writer);
    match log.format {
        LogFormat::Json => {
            let form = format().json().flatten_event(true);
            layer.json().event_format(Counted { form, json: true, repeats }).boxed()
        }
        LogFormat::Text => layer
            .with_ansi(cli::stderr_takes_colour())
            .event_format(Counted { form: Line, json: false, repeats })
            .boxed(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_and_level_change_while_the_node_runs() {
        let (subscriber, logging) = Logging::prepare();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("a line for people");
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
            logging.change(&Log { format: LogFormat::Json, level: LogLevel::Debug });
            tracing::info!("an object");
            assert!(tracing::enabled!(tracing::Level::DEBUG) || std::env::var_os("RUST_LOG").is_some());
            logging.change(&Log { format: LogFormat::Text, level: LogLevel::Error });
            assert!(!tracing::enabled!(tracing::Level::INFO) || std::env::var_os("RUST_LOG").is_some());
        });
    }
}
