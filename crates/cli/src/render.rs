//! Output for people: tables, ages, sizes, and colour only where a terminal wants it.

use crate::harmless;
use base::{Clock, SystemClock, Timestamp};
use comfy_table::{ColumnConstraint, ContentArrangement, Table};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

/// Blanks between two columns.
const GAP: u16 = 2;
/// The last column of a table is broken into lines of so many characters at least.
const LAST_COLUMN_MIN: usize = 12;

/// Why standard output could not be written, where somebody still reads it.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// Prints a line for people.
pub fn line(text: impl AsRef<str>) {
    // Whoever reads may have gone; that ends the output, not the work.
    let _ = try_line(text);
}

/// Prints a line, or says that nobody reads any more.
pub fn try_line(text: impl AsRef<str>) -> io::Result<()> {
    printed(writeln!(anstream::stdout(), "{}", harmless::shown(text.as_ref())))
}

/// Prints a line as it is where a program reads it, and for people on a terminal.
pub fn passed_on(text: &str) {
    if io::stdout().is_terminal() {
        line(text);
    } else {
        let _ = printed(writeln!(io::stdout(), "{text}"));
    }
}

/// Prints bytes that are for a program.
pub fn raw(bytes: &[u8]) {
    let mut out = io::stdout();
    let _ = printed(out.write_all(bytes).and_then(|()| out.flush()));
}

/// Remembers the first line that could not be written although somebody reads.
fn printed(written: io::Result<()>) -> io::Result<()> {
    if let Err(error) = &written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = UNWRITTEN.set(io::Error::new(error.kind(), error.to_string()));
    }
    written
}

/// Why what was printed is not all there, if that is so.
pub fn unwritten() -> Option<&'static io::Error> {
    UNWRITTEN.get()
}

/// Whether anybody still reads standard output: a pipe without a reader is in error before anything is written.
pub fn is_read() -> bool {
    let out = io::stdout();
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    let asked = poll(&mut fds, Some(&Timespec::default()));
    asked.is_err() || !fds[0].revents().intersects(gone)
}

/// Prints a line on stderr: what is said beside an answer.
pub fn aside(text: impl AsRef<str>) {
    let _ = writeln!(anstream::stderr(), "{}", harmless::shown(text.as_ref()));
}

/// Prints JSON for machines.
pub fn json(value: &Value) {
    line(pretty(value));
}

/// JSON as it is printed.
pub fn pretty(value: &Value) -> String {
    harmless::json(serde_json::to_string_pretty(value).unwrap_or_default())
}

/// A table without lines, as wide as the terminal at most.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    grid(head.map(str::to_owned).to_vec(), rows.into_iter().map(Vec::from))
}

/// The same, with columns that are known only now.
pub fn grid(head: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    grid_within(width(), head, rows)
}

/// The same, of so many columns at most: the last column is broken into lines, and where even that is too wide, each row
/// becomes a block of its own.
pub fn grid_within(
    width: Option<u16>,
    head: Vec<String>,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let head: Vec<String> = head.iter().map(|cell| harmless::in_one_line(cell)).collect();
    let whole = |row: Vec<String>| row.iter().map(|cell| harmless::in_one_line(cell)).collect();
    let rows: Vec<Vec<String>> = rows.into_iter().map(whole).collect();
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).chain(head.get(column));
        cells.flat_map(|cell| cell.lines()).map(|line| line.chars().count()).max().unwrap_or(0)
    };
    let last = head.len().saturating_sub(1);
    let before: usize = (0..last).map(|column| widest(column) + usize::from(GAP)).sum();
    if width.is_some_and(|width| before + widest(last).min(LAST_COLUMN_MIN) > usize::from(width)) {
        let block = |row: Vec<String>| {
            let told =
                head.iter().cloned().zip(row).filter(|(head, cell)| !(head.is_empty() && cell.is_empty()));
            pairs(width, told.map(|(head, cell)| [head, cell]))
        };
        return rows.into_iter().map(block).collect::<Vec<_>>().join("\n\n");
    }
    let mut table = plain(width);
    table.set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().take(last) {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    drawn(table)
}

/// Pairs of a label and a text, the texts below each other.
pub fn pairs(width: Option<u16>, rows: impl IntoIterator<Item = [String; 2]>) -> String {
    let mut table = plain(width);
    for row in rows {
        table.add_row(Vec::from(row));
    }
    drawn(table)
}

/// A text in lines of so many columns, broken between words where there are some.
pub fn wrap(width: Option<u16>, text: &str) -> String {
    let mut table = plain(width);
    table.add_row([text]);
    drawn(table)
}

/// The same, each line after an indent.
pub fn hanging(width: Option<u16>, indent: &str, text: &str) -> String {
    let room = width.map(|width| width.saturating_sub(u16::try_from(indent.len()).unwrap_or(width)).max(1));
    let lines: Vec<String> = wrap(room, text).lines().map(|line| format!("{indent}{line}")).collect();
    lines.join("\n")
}

fn plain(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table
}

fn drawn(mut table: Table) -> String {
    let columns = table.column_count();
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index + 1 == columns { 0 } else { GAP }));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// How wide a line may be: what `COLUMNS` says, else the terminal; a pipe takes any.
pub fn width() -> Option<u16> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col);
    said.or_else(terminal).filter(|columns| *columns > 0)
}

/// So many of something: `1 database`, `2 databases`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A text in a field, or a dash.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// How long ago a field's time was: `3m`.
pub fn age(value: &Value) -> String {
    time(value).map_or_else(|| "-".to_owned(), |time| age_between(time, SystemClock.now()))
}

/// A field's time: milliseconds since 1970, or RFC 3339.
pub fn time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(ms) => ms.as_i64().map(Timestamp),
        Value::String(text) => {
            text.parse::<jiff::Timestamp>().ok().map(|time| Timestamp(time.as_millisecond()))
        }
        _ => None,
    }
}

fn age_between(then: Timestamp, now: Timestamp) -> String {
    span(now.0.saturating_sub(then.0).max(0).unsigned_abs())
}

/// Milliseconds as people say them: the two largest units at most.
pub fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3600 => format!("{}m{}s", s / 60, s % 60),
        3600..86_400 => format!("{}h{}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d{}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// Bytes as people say them.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// What a word is worth, as colour.
#[derive(Clone, Copy, Debug)]
pub enum Tone {
    /// Well.
    Good,
    /// To be looked at.
    Warning,
    /// Wrong.
    Bad,
    /// A heading.
    Strong,
}

/// Colours a text; where it is printed, colours are taken out unless a terminal wants them.
pub fn tone(tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Good => "32",
        Tone::Warning => "33",
        Tone::Bad => "31",
        Tone::Strong => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_read_easily() {
        for (ms, shown) in [
            (5, "5ms"),
            (999, "999ms"),
            (59_999, "59s"),
            (61_000, "1m1s"),
            (7_260_000, "2h1m"),
            (90_000_000, "1d1h"),
        ] {
            assert_eq!(span(ms), shown);
        }
        for (count, shown) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (10 << 30, "10.0 GiB")] {
            assert_eq!(bytes(count), shown);
        }
        assert_eq!(age_between(Timestamp(1000), Timestamp(500)), "0ms");
    }

    #[test]
    fn a_table_keeps_within_a_narrow_terminal_and_loses_nothing() {
        let head = || ["DATABASE", "MODE", "TXID", "STORED"].map(str::to_owned).to_vec();
        let row = || ["data/shop/orders.sqlite", "wal", "123456", "123455"].map(str::to_owned).to_vec();
        let shown = grid_within(Some(40), head(), [row()]);
        assert!(shown.lines().all(|line| line.chars().count() <= 40), "{shown}");
        let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
        assert_eq!(letters(&shown), letters(&(head().concat() + &row().concat())), "{shown}");
        assert_eq!(grid_within(None, head(), [row()]).lines().count(), 2);
        let commented = |comment: &str| vec!["a".to_owned(), "3m".to_owned(), comment.to_owned()];
        let head = vec!["ID".to_owned(), "AGE".to_owned(), "COMMENT".to_owned()];
        let shown = grid_within(Some(30), head, [commented("before the large upgrade of it")]);
        assert_eq!(shown, "ID  AGE  COMMENT\na   3m   before the large\n         upgrade of it");
    }

    #[test]
    fn a_table_has_no_trailing_blanks() {
        let shown =
            table(["ID", "AGE"], [["a".to_owned(), "3m".to_owned()], ["longer".to_owned(), "1s".to_owned()]]);
        assert_eq!(shown, "ID      AGE\na       3m\nlonger  1s");
    }
}
