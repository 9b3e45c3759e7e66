//! `stead logs`: the app's last output.

use super::{Outcome, items};
use crate::client::Client;
use crate::exit::Exit;
use crate::{harmless, render};
use serde_json::Value;
use std::time::Duration;

/// How often a followed log is asked for what is new.
const EVERY: Duration = Duration::from_millis(500);
/// How many lines a followed log takes at once.
const FOLLOWED_LINES: usize = 2000;

pub async fn run(client: &Client, lines: usize, stderr: bool, follow: bool, json: bool) -> Outcome {
    let stream = if stderr { "&stream=stderr" } else { "" };
    let answer = client.get(&format!("/logs?lines={lines}{stream}")).await;
    let answer = answer.map_err(|failure| failure.of("the app's output cannot be shown"))?;
    let mut shown = items(&answer, "lines").to_vec();
    shown.iter().for_each(|line| print(line, json));
    if !follow {
        return Ok(Exit::Done);
    }
    loop {
        if !render::is_read() {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(EVERY).await;
        let answer = client.get(&format!("/logs?lines={FOLLOWED_LINES}{stream}")).await?;
        let now = items(&answer, "lines");
        let known = already(&shown, now);
        if known == 0 && !shown.is_empty() && !now.is_empty() {
            render::aside("lines are missing here: more came than are kept, or the node was started again");
        }
        now[known..].iter().for_each(|line| print(line, json));
        shown = now.to_vec();
    }
}

fn print(line: &Value, json: bool) {
    if json {
        render::line(harmless::json(line.to_string()))
    } else {
        render::passed_on(line["text"].as_str().unwrap_or(""))
    }
}

/// How many of the lines there are now had been shown: as many as end what was shown before.
fn already(shown: &[Value], now: &[Value]) -> usize {
    let most = shown.len().min(now.len());
    let overlap = |count: &usize| {
        // What was shown may have been cut at its start by a smaller number of lines.
        let ends =
            (0..=now.len() - count).find(|start| now[*start..start + count] == shown[shown.len() - count..]);
        ends.map(|start| start + count)
    };
    if most == 0 { 0 } else { (1..=most).rev().find_map(|count| overlap(&count)).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn following_shows_each_line_once() {
        let lines = |texts: &[u64]| texts.iter().map(|text| json!(text)).collect::<Vec<_>>();
        for (shown, now, from) in [
            (vec![], vec![1, 2], 0),
            (vec![1, 2], vec![1, 2], 2),
            (vec![1, 2], vec![1, 2, 3], 2),
            (vec![2, 3], vec![1, 2, 3, 4], 3),
            (vec![1, 2, 3], vec![2, 3, 4], 2),
            (vec![1], vec![5, 6], 0),
            (vec![1, 2], vec![], 0),
        ] {
            assert_eq!(already(&lines(&shown), &lines(&now)), from, "{shown:?} {now:?}");
        }
    }
}
