//! Lines as another form writes them, but those that only repeat what was said.
//!
//! What is at least as important as `info` is judged by [`Repeats`]; what is written to find a fault is all written.

use super::repeats::{Held, Key, Repeats, WINDOW};
use base::{Clock, SystemClock};
use std::fmt::{self, Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The event after which no further one comes.
const LAST: &str = "node ends";
/// The details that say what an event is about.
const ABOUT: [&str; 10] = ["path", "file", "code", "id", "to", "name", "what", "state", "step", "check"];

/// Another form, counted.
pub struct Counted<F> {
    pub form: F,
    pub json: bool,
    pub repeats: Arc<Mutex<Repeats>>,
}

impl<S, N, F> FormatEvent<S, N> for Counted<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if *event.metadata().level() > Level::INFO {
            return self.form.format_event(context, out, event);
        }
        let mut about = About::default();
        event.record(&mut about);
        let (mut due, written) = {
            let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut due, written) = repeats.judge(about.0.clone(), SystemClock.boottime());
            if about.0.event == LAST {
                due.extend(repeats.end());
            }
            (due, written)
        };
        for held in due.drain(..) {
            self.tell(&mut out, &held)?;
        }
        if written { self.form.format_event(context, out, event) } else { Ok(()) }
    }
}

impl<F> Counted<F> {
    fn tell(&self, out: &mut Writer<'_>, Held { key, count }: &Held) -> fmt::Result {
        let (time, seconds) = (SystemClock.now().rfc3339(), WINDOW.as_secs());
        if self.json {
            let line = serde_json::json!({
                "timestamp": time, "level": "WARN", "event": "repeated", "of": key.event, "about": key.of,
                "count": count, "message": format!("{count} more in {seconds} s"),
            });
            return writeln!(out, "{line}");
        }
        let about = if key.of.is_empty() { String::new() } else { format!("  {}", key.of) };
        writeln!(out, "{time} WARN  repeated: {}: … {count} more in {seconds} s{about}", key.event)
    }
}

#[derive(Default)]
struct About(Key);

impl Visit for About {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if ABOUT.contains(&field.name()) {
            let between = if self.0.of.is_empty() { "" } else { " " };
            // Writing to a text cannot fail.
            let _ = write!(self.0.of, "{between}{}={value:?}", field.name());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            value.clone_into(&mut self.0.event);
        } else {
            self.record_debug(field, &format_args!("{value}"));
        }
    }
}
