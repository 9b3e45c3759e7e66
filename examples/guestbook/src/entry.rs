//! What a visitor may write: limits are checked here, once, and an `Inscription` holds them.
//!
//! Text is kept as it was typed, except that line ends become `\n`, control characters go, and white space at
//! both ends goes. Nothing is escaped here: that is the page's part.

/// The most characters of a name.
pub const NAME_CHARS_MAX: usize = 80;
/// The most characters of a message.
pub const MESSAGE_CHARS_MAX: usize = 2000;

/// A name and a message that are within the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inscription {
    name: String,
    message: String,
}

/// Why a visitor's text was not taken. The visitor mends it and sends it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Nothing is left of the name.
    #[error("Please leave a name.")]
    NoName,
    /// Nothing is left of the message.
    #[error("Please write a message.")]
    NoMessage,
    /// The name is too long.
    #[error("The name has {0} characters; {NAME_CHARS_MAX} is the most.")]
    LongName(usize),
    /// The message is too long.
    #[error("The message has {0} characters; {MESSAGE_CHARS_MAX} is the most.")]
    LongMessage(usize),
}

impl Inscription {
    /// Cleans and checks what a form sent.
    pub fn new(name: &str, message: &str) -> Result<Inscription, Unfit> {
        let name = clean(name, false);
        let message = clean(message, true);
        if name.is_empty() {
            return Err(Unfit::NoName);
        }
        if message.is_empty() {
            return Err(Unfit::NoMessage);
        }
        match (name.chars().count(), message.chars().count()) {
            (count, _) if count > NAME_CHARS_MAX => Err(Unfit::LongName(count)),
            (_, count) if count > MESSAGE_CHARS_MAX => Err(Unfit::LongMessage(count)),
            _ => Ok(Inscription { name, message }),
        }
    }

    /// Who; one line, not empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What; lines are separated by `\n`, not empty.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Forms send `\r\n` for every line end, whatever the visitor's system.
fn clean(text: &str, lines: bool) -> String {
    let text = text.replace("\r\n", "\n");
    let kept: String = text.chars().filter(|&c| !c.is_control() || (lines && c == '\n')).collect();
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cleaned_but_not_changed() {
        let taken = Inscription::new("  Ada\u{0}\n ", "\r\none\r\ntwo <b>&\u{7}\r\n").unwrap();
        assert_eq!(taken.name(), "Ada");
        assert_eq!(taken.message(), "one\ntwo <b>&");
    }

    #[test]
    fn nothing_is_not_enough() {
        assert_eq!(Inscription::new(" \t\n", "hello"), Err(Unfit::NoName));
        assert_eq!(Inscription::new("Ada", "\r\n \r\n"), Err(Unfit::NoMessage));
    }

    #[test]
    fn limits_count_characters_not_bytes() {
        assert!(Inscription::new(&"é".repeat(80), &"€".repeat(2000)).is_ok());
        assert_eq!(Inscription::new(&"é".repeat(81), "hello"), Err(Unfit::LongName(81)));
        assert_eq!(Inscription::new("Ada", &"€".repeat(2001)), Err(Unfit::LongMessage(2001)));
    }
}
