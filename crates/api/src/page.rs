//! The status as a plain page for a browser: no scripts, nothing from elsewhere, every text escaped.

use node::control::Status;
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd;\
vertical-align:top}code{font:13px ui-monospace,monospace}.issue{border-left:4px solid #c60;padding-left:.75rem;margin:.75rem 0}\
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}th,td{border-color:#333}}";

/// The whole page.
pub fn render(status: &Status) -> String {
    let name = status.name.as_deref().unwrap_or("unconfigured");
    let state = word(&status.state);
    let mut rows = vec![
        ("Node", escape(&status.node)),
        ("State", format!("{state} since {}: {}", status.since, escape(&status.reason))),
        ("App", app_text(status)),
        ("Checkpoints", checkpoints_text(status)),
        ("Version", escape(status.version)),
    ];
    if let Some(lease) = &status.lease {
        rows.insert(2, ("Lease", format!("{}, {}", escape(lease.r#type), escape(lease.state))));
    }
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0} · Stead</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body><h1>{0}</h1>",
        escape(name)
    );
    page.push_str("<table>");
    for (label, text) in rows {
        let _ = write!(page, "<tr><th>{label}</th><td>{text}</td></tr>");
    }
    page.push_str("</table>");
    for issue in &status.issues {
        let path =
            issue.path.as_deref().map(|path| format!(" <code>{}</code>", escape(path))).unwrap_or_default();
        let _ = write!(
            page,
            "<p class=\"issue\"><strong>{}</strong> {}{path}<br>{}</p>",
            escape(&issue.code),
            escape(&issue.message),
            escape(&issue.hint)
        );
    }
    page.push_str(&databases(status));
    page.push_str("<p>The same as JSON: <a href=\"/status\">/status</a></p></body></html>\n");
    page
}

fn databases(status: &Status) -> String {
    if status.databases.is_empty() {
        return String::new();
    }
    let mut table = String::from(
        "<h2>Databases</h2><table><tr><th>Path</th><th>Mode</th><th>TXID</th><th>Pages</th><th>Lag</th><th>Stored</th></tr>",
    );
    for database in &status.databases {
        let stored = database.stored_txid.map_or_else(|| "–".to_owned(), |txid| txid.to_string());
        let _ = write!(
            table,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td>{} ms</td><td>{stored}</td></tr>",
            escape(database.path.as_str()),
            escape(database.mode),
            database.txid,
            database.pages,
            database.lag_ms
        );
    }
    table.push_str("</table>");
    table
}

fn app_text(status: &Status) -> String {
    let process = &status.process;
    let mut text = escape(&process.state);
    if let Some(pid) = process.pid {
        let _ = write!(text, ", pid {pid}");
    }
    if process.restarts > 0 {
        let _ = write!(text, ", restarted {} times", process.restarts);
    }
    text
}

fn checkpoints_text(status: &Status) -> String {
    match &status.checkpoints.latest {
        Some(latest) => {
            format!("{}, the newest is <code>{}</code>", status.checkpoints.count, escape(latest))
        }
        None => status.checkpoints.count.to_string(),
    }
}

/// A value's word in JSON.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(escape)).unwrap_or_default()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
