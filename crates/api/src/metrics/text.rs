//! The text that Prometheus reads: for each metric a sentence, its kind, and its samples.
//!
//! Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.

use super::table::Metric;
use std::fmt::Write;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text in the making.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// A metric with its samples: the values of its labels in the table's order, and the number. Without a sample
    /// nothing is said of it.
    pub fn metric<'a, const N: usize>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) {
        debug_assert_eq!(metric.labels.len(), N, "{}", metric.name);
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        // Infallible: a String takes any text.
        let _ = writeln!(self.0, "# HELP {} {}", metric.name, metric.help);
        let _ = writeln!(self.0, "# TYPE {} {}", metric.name, metric.kind.word());
        for (values, number) in samples {
            self.0.push_str(metric.name);
            for (n, (label, value)) in metric.labels.iter().zip(values).enumerate() {
                let open = if n == 0 { '{' } else { ',' };
                let _ = write!(self.0, "{open}{label}=\"{}\"", escaped(value));
            }
            let close = if N > 0 { "}" } else { "" };
            let _ = writeln!(self.0, "{close} {number}");
        }
    }

    /// A metric without labels, where it has a value.
    pub fn one(&mut self, metric: &Metric, number: Option<f64>) {
        self.metric(metric, number.map(|number| ([], number)));
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.0
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
