//! How long things took, beside how long they may take.

use super::lane::Event;
use std::collections::BTreeMap;
use std::time::Duration;

/// The times of one round.
#[derive(Clone, Debug)]
pub struct Times {
    /// What happened.
    pub event: Event,
    /// With which app.
    pub app: &'static str,
    /// From the event to the first process of the app that was asked to end.
    pub asked: Option<Duration>,
    /// From the event until nothing of the app was left, and nothing of the node where that is to end too.
    pub dead: Duration,
    /// From the event until another node, or the same, had another app running.
    pub well: Duration,
}

/// Those of all rounds.
#[derive(Debug, Default)]
pub struct Figures {
    all: Vec<Times>,
}

impl Figures {
    /// One more round.
    pub fn take(&mut self, times: Times) {
        self.all.push(times);
    }

    /// The rounds in which something took longer than it may.
    pub fn late(&self) -> Vec<&Times> {
        let late = |times: &&Times| {
            let asked = times.asked.zip(times.event.asked_bound());
            times.dead > times.event.dead_bound() || asked.is_some_and(|(took, bound)| took > bound)
        };
        self.all.iter().filter(late).collect()
    }

    /// A table of them.
    pub fn print(&self) {
        let mut events: BTreeMap<Event, Vec<&Times>> = BTreeMap::new();
        let mut apps: BTreeMap<&str, usize> = BTreeMap::new();
        for times in &self.all {
            events.entry(times.event).or_default().push(times);
            *apps.entry(times.app).or_default() += 1;
        }
        for (event, rounds) in events {
            println!("{} times {event}", rounds.len());
            line("app asked to end", rounds.iter().filter_map(|times| times.asked), event.asked_bound());
            line("all dead", rounds.iter().map(|times| times.dead), Some(event.dead_bound()));
            line("well again", rounds.iter().map(|times| times.well), None);
        }
        let apps: Vec<String> = apps.iter().map(|(app, rounds)| format!("{rounds} {app}")).collect();
        println!("apps: {}", apps.join(", "));
        println!("never two copies of the app, none was left over");
    }
}

fn line(what: &str, times: impl Iterator<Item = Duration>, bound: Option<Duration>) {
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64() * 1000.0).collect();
    times.sort_by(f64::total_cmp);
    let (Some(max), Some(middle)) = (times.last(), times.get(times.len() / 2)) else { return };
    let bound = bound.map(|bound| format!(", bound {} ms", bound.as_millis())).unwrap_or_default();
    println!("  {what}: p50 {middle:.1} ms, max {max:.1} ms{bound} ({} measured)", times.len());
}
