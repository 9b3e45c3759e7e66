//! The page as HTML. Everything that a visitor wrote passes through `escaped`, in text and in attributes alike.

use crate::book::{Entry, Leaf};
use crate::entry::{MESSAGE_CHARS_MAX, NAME_CHARS_MAX};
use std::fmt::{self, Write};

/// The style sheet, served at `/style.css`.
pub const STYLE: &str = include_str!("style.css");

/// What the form shows: nothing, or what was refused and why.
#[derive(Debug, Default)]
pub struct Draft {
    /// Why the last try was refused.
    pub problem: Option<String>,
    /// The name as it was typed.
    pub name: String,
    /// The message as it was typed.
    pub message: String,
}

/// Where the page stands.
#[derive(Debug, Default)]
pub struct Place {
    /// It shows the newest entries, not older ones.
    pub newest: bool,
    /// The node's address, where Stead runs this program.
    pub node: Option<String>,
}

/// The whole page.
pub fn render(leaf: &Leaf, draft: &Draft, place: &Place) -> String {
    let mut html = String::with_capacity(4096 + leaf.entries.len() * 256);
    // Writing to a String cannot fail.
    let _ = write_page(&mut html, leaf, draft, place);
    html
}

fn write_page(html: &mut String, leaf: &Leaf, draft: &Draft, place: &Place) -> fmt::Result {
    let count = match leaf.count {
        1 => "1 entry".to_owned(),
        n => format!("{n} entries"),
    };
    write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Guestbook</title>\n\
         <link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>\n<main>\n<h1>Guestbook</h1>\n\
         <p class=\"facts\">{count} · served by process {}</p>\n",
        std::process::id()
    )?;
    if place.newest {
        write_form(html, draft)?;
    } else {
        html.write_str("<p><a href=\"/\">Newest entries</a></p>\n")?;
    }
    for entry in &leaf.entries {
        write_entry(html, entry)?;
    }
    if leaf.entries.is_empty() {
        html.write_str("<p class=\"empty\">Nobody has written here yet.</p>\n")?;
    }
    if let (true, Some(last)) = (leaf.more, leaf.entries.last()) {
        writeln!(html, "<p><a href=\"/?before={}\">Older entries</a></p>", last.id)?;
    }
    write_footer(html, place)?;
    html.write_str("</main>\n</body>\n</html>\n")
}

fn write_form(html: &mut String, draft: &Draft) -> fmt::Result {
    html.write_str("<form method=\"post\" action=\"/sign\">\n")?;
    if let Some(problem) = &draft.problem {
        writeln!(html, "<p class=\"problem\" role=\"alert\">{}</p>", escaped(problem))?;
    }
    // The line end after <textarea> is dropped by browsers: one that the visitor typed first stays.
    write!(
        html,
        "<label>Your name\n<input name=\"name\" value=\"{}\" required maxlength=\"{NAME_CHARS_MAX}\" \
         autocomplete=\"name\"></label>\n\
         <label>Your message\n<textarea name=\"message\" required maxlength=\"{MESSAGE_CHARS_MAX}\">\n{}</textarea>\
         </label>\n<button>Sign</button>\n</form>\n",
        escaped(&draft.name),
        escaped(&draft.message)
    )
}

fn write_entry(html: &mut String, entry: &Entry) -> fmt::Result {
    let created = escaped(&entry.created);
    write!(
        html,
        "<article id=\"entry-{}\">\n<header><bdi>{}</bdi> <time datetime=\"{created}Z\">{created} UTC</time>\
         </header>\n<p>{}</p>\n</article>\n",
        entry.id,
        escaped(&entry.name),
        escaped(&entry.message)
    )
}

fn write_footer(html: &mut String, place: &Place) -> fmt::Result {
    html.write_str(
        "<footer>\n<p>Try it: <code>stead checkpoint create first</code>, write something more, then \
         <code>stead restore first</code> and reload. <code>stead restore --undo</code> brings it back.",
    )?;
    if let Some(node) = place.node.as_deref().filter(|url| url.starts_with("http://")) {
        write!(html, " The node that keeps this book: <a href=\"{0}\">{0}</a>.", escaped(node))?;
    }
    html.write_str("</p>\n</footer>\n")
}

/// The text with every character that HTML reads as its own replaced by a reference.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "\"><script>alert('x')</script>&amp;";
    const HARMLESS: &str = "&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;amp;";

    fn newest() -> Place {
        Place { newest: true, node: None }
    }

    #[test]
    fn every_character_that_html_reads_is_escaped() {
        assert_eq!(escaped(HOSTILE), HARMLESS);
        assert_eq!(escaped("Grüße, 東京"), "Grüße, 東京");
    }

    #[test]
    fn what_visitors_wrote_never_becomes_markup() {
        let entry = Entry { id: 1, created: HOSTILE.into(), name: HOSTILE.into(), message: HOSTILE.into() };
        let draft = Draft { problem: Some(HOSTILE.into()), name: HOSTILE.into(), message: HOSTILE.into() };
        let place = Place { newest: true, node: Some(format!("http://{HOSTILE}")) };
        let html = render(&Leaf { count: 1, entries: vec![entry], more: false }, &draft, &place);
        assert!(!html.contains("<script"), "{html}");
        assert_eq!(html.matches(HARMLESS).count(), 9);
    }

    #[test]
    fn only_a_web_address_becomes_a_link() {
        let html = |node: &str| {
            render(&Leaf::default(), &Draft::default(), &Place { newest: true, node: Some(node.into()) })
        };
        assert!(html("http://127.0.0.1:8080").contains("<a href=\"http://127.0.0.1:8080\">"));
        assert!(!html("javascript:alert(1)").contains("javascript"));
    }

    #[test]
    fn counts_read_as_english() {
        let html = |count| render(&Leaf { count, ..Leaf::default() }, &Draft::default(), &newest());
        assert!(html(0).contains("0 entries ·"));
        assert!(html(1).contains("1 entry ·"));
        assert!(html(2).contains("2 entries ·"));
    }
}
