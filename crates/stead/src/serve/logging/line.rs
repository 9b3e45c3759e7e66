//! One event as a line for people: when, how bad, what happened and why, then the details.
//!
//! ```text
//! 2026-11-21T18:11:08.869Z WARN  store failed: no space left on device  path=data/a.db
//! ```
//! Machines get the same as JSON, with every field by its name.

use base::{Clock, SystemClock};
use std::fmt::{self, Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes lines for people.
pub struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let (level, colour) = level(*event.metadata().level());
        write!(out, "{} ", SystemClock.now().rfc3339())?;
        if out.has_ansi_escapes() {
            write!(out, "\u{1b}[{colour}m{level:<5}\u{1b}[0m ")?;
        } else {
            write!(out, "{level:<5} ")?;
        }
        writeln!(out, "{}", parts.text())
    }
}

/// A level's word and its colour.
fn level(level: Level) -> (&'static str, u8) {
    match level {
        Level::ERROR => ("ERROR", 31),
        Level::WARN => ("WARN", 33),
        Level::INFO => ("INFO", 32),
        Level::DEBUG => ("DEBUG", 34),
        Level::TRACE => ("TRACE", 35),
    }
}

/// The fields of an event, sorted into what happened, why, and details.
#[derive(Default)]
struct Parts {
    event: String,
    message: String,
    error: String,
    details: String,
}

impl Parts {
    fn text(&self) -> String {
        // With an event's name the message says what follows from it; without one it is the event.
        let (what, follows) = match self.event.as_str() {
            "" => (&self.message, ""),
            _ => (&self.event, self.message.as_str()),
        };
        let mut text = what.clone();
        for (between, part) in
            [(": ", self.error.as_str()), (if self.error.is_empty() { ": " } else { "; " }, follows)]
        {
            if !part.is_empty() {
                text.push_str(between);
                text.push_str(part);
            }
        }
        text.push_str(&self.details);
        text
    }

    fn take(&mut self, name: &str, value: &str) {
        // A line stays a line, and moves no cursor, whatever a path or an error holds.
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match name {
            "event" => self.event = value,
            "message" => self.message = value,
            "error" => self.error = value,
            _ => {
                self.details.push_str(if self.details.is_empty() { "  " } else { " " });
                let quoted = value.is_empty() || value.contains([' ', '"']);
                // Writing to a text cannot fail.
                let _ = if quoted {
                    write!(self.details, "{name}={value:?}")
                } else {
                    write!(self.details, "{name}={value}")
                };
            }
        }
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field.name(), &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_happened_and_why_before_the_details() {
        let parts = |fields: &[(&str, &str)]| {
            let mut parts = Parts::default();
            fields.iter().for_each(|(name, value)| parts.take(name, value));
            parts.text()
        };
        for (fields, line) in [
            (
                &[("message", "the node listens"), ("address", "[::1]:1")][..],
                "the node listens  address=[::1]:1",
            ),
            (
                &[("event", "store failed"), ("path", "data/a b.db"), ("error", "no\nspace")],
                "store failed: no space  path=\"data/a b.db\"",
            ),
            (&[("event", "database"), ("message", "followed")], "database: followed"),
            (
                &[("event", "seal failed"), ("error", "no space"), ("message", "tried again each second")],
                "seal failed: no space; tried again each second",
            ),
        ] {
            assert_eq!(parts(fields), line);
        }
    }
}
