//! Text that a terminal only shows: what others wrote (an application, a file's name, a comment) moves no cursor, sets no
//! title, writes no clipboard.

/// The colours that [`crate::render::tone`] gives, and their end.
const COLOURS: [&str; 5] = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"];

/// The text with `\u{fffd}` for every control character but line ends, tabs and colours.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_acted_upon) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let colour = COLOURS.iter().find(|colour| from.starts_with(**colour));
        let skipped = match colour {
            Some(colour) => {
                out.push_str(colour);
                colour.len()
            }
            None => {
                out.push('\u{fffd}');
                from.chars().next().map_or(0, char::len_utf8)
            }
        };
        rest = &from[skipped..];
    }
    out + rest
}

/// The same in one line: for a cell of a table, whose rows nobody else may begin.
pub fn in_one_line(text: &str) -> String {
    shown(&text.replace(['\n', '\r', '\t'], " "))
}

/// JSON in which the control characters that it may hold as they are, are written by number.
pub fn json(text: String) -> String {
    let is_plain = |c: char| !('\u{7f}'..='\u{9f}').contains(&c);
    if text.chars().all(is_plain) {
        return text;
    }
    let number = |c: char| if is_plain(c) { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) };
    text.chars().map(number).collect()
}

fn is_acted_upon(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_reach_a_terminal() {
        for (text, expected) in [
            ("plain\ttext\nof two lines", "plain\ttext\nof two lines"),
            ("\u{1b}[31mbad\u{1b}[0m", "\u{1b}[31mbad\u{1b}[0m"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", "\u{fffd}[2J\u{fffd}]0;title\u{fffd}"),
            ("\u{1b}\u{1b}[31mx\rover", "\u{fffd}\u{1b}[31mx\u{fffd}over"),
            ("\u{9b}31m\u{7f}", "\u{fffd}31m\u{fffd}"),
            ("\u{1b}[8mhidden", "\u{fffd}[8mhidden"),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
        assert_eq!(in_one_line("a\nforged  row"), "a forged  row");
    }

    #[test]
    fn json_means_the_same_without_control_characters() {
        let value = serde_json::json!({ "a\u{9b}": "\u{1b}]52;\u{7f}ü" });
        let text = json(value.to_string());
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
