//! `stead restore …`

use super::{Outcome, items, said};
use crate::args::Restore;
use crate::client::Client;
use crate::failure::Failure;
use crate::moment;
use crate::progress;
use crate::render::{self, text};
use base::{Clock, SystemClock};
use jiff::tz::TimeZone;
use reqwest::Method;
use serde_json::{Value, json};

pub async fn run(client: &Client, args: Restore, json: bool) -> Outcome {
    let what = if args.dry_run { "a restore would not succeed now" } else { "nothing was restored" };
    let body = body(&args)?;
    let asked = client.json(Method::POST, "/restore", Some(&body));
    let answer = progress::during("restoring", asked).await;
    let answer = answer.map_err(|failure| failure.of(what))?;
    Ok(said(&answer, json, &report(&answer)))
}

fn body(args: &Restore) -> Result<Value, Failure> {
    let mut body = match (&args.checkpoint, &args.time) {
        (Some(id), _) => json!({ "id": id }),
        (None, Some(time)) => {
            let time = moment::parse(time, SystemClock.now(), &TimeZone::system())?;
            json!({ "time": time.rfc3339() })
        }
        (None, None) => json!({ "undo": true }),
    };
    if args.dry_run {
        body["dry_run"] = true.into();
    }
    Ok(body)
}

fn report(restored: &Value) -> String {
    let dry = restored["dry_run"] == true;
    let as_of = render::time(&restored["as_of"]).map_or_else(|| "-".to_owned(), |time| time.to_string());
    let rows = items(restored, "databases").iter().map(|database| {
        let txid = |key: &str| text(&database[key]["txid"]);
        [
            text(&database["path"]),
            text(&database["change"]),
            txid("from"),
            txid("to"),
            text(&database["pages"]),
        ]
    });
    let table = render::table(["DATABASE", "CHANGE", "FROM", "TO", "PAGES"], rows);
    let last = if dry {
        format!(
            "nothing was changed; this is what a restore to {} ({as_of}) would do",
            text(&restored["target"])
        )
    } else {
        let steps: Vec<String> = items(restored, "steps")
            .iter()
            .map(|step| format!("{} {:.0} ms", text(&step["step"]), step["ms"].as_f64().unwrap_or(0.0)))
            .collect();
        let ms = restored["ms"].as_f64().unwrap_or(0.0);
        format!(
            "restored to {} ({as_of}) in {ms:.0} ms: {}\n`stead restore --undo` takes it back",
            text(&restored["target"]),
            steps.join(", ")
        )
    };
    let moved = items(restored, "databases").iter().filter(|database| database["aside"].is_string());
    let moved: String = moved
        .map(|database| {
            format!(
                "{}: what lay there is in no history: moved to {}\n",
                text(&database["path"]),
                text(&database["aside"])
            )
        })
        .collect();
    format!("{table}\n{moved}{last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_changed_and_how_to_undo_it() {
        let answer = json!({"target": "c1", "dry_run": false, "as_of": 0, "ms": 12.4,
            "databases": [{"path": "data/a.db", "change": "turned_back", "from": {"txid": 9}, "to": {"txid": 4}, "pages": 3},
                          {"path": "data/b.db", "change": "removed", "from": {"txid": 1}, "to": null, "pages": 0}],
            "steps": [{"step": "validate", "ms": 1.0}, {"step": "apply", "ms": 11.0}]});
        insta::assert_snapshot!("restore_report", report(&answer));
    }

    #[test]
    fn the_request_names_one_target() {
        let args = |checkpoint: Option<&str>, undo, dry_run| Restore {
            checkpoint: checkpoint.map(str::to_owned),
            time: None,
            undo,
            dry_run,
        };
        assert_eq!(body(&args(Some("c"), false, true)).unwrap(), json!({"id": "c", "dry_run": true}));
        assert_eq!(body(&args(None, true, false)).unwrap(), json!({"undo": true}));
    }
}
