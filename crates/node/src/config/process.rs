//! What the `app` section says about processes: commands, users, signals.

use super::limits::WORDS_MAX;
use super::text::{Fault, Text, written_as_text};
use serde::{Deserialize, Serialize};

/// A program and its arguments. A text is split as a shell would, without a shell; a list is taken as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Command(Vec<String>);

impl Command {
    /// Checks and takes the words of a command.
    pub fn new(words: Vec<String>) -> Result<Command, Fault> {
        let hint = "write the program and its arguments: [\"./server\", \"--port\", \"3000\"]";
        match words.first() {
            None => return Err(Fault::new("the command is empty", hint)),
            Some(program) if program.is_empty() => {
                return Err(Fault::new("the program's name is empty", hint));
            }
            Some(_) => {}
        }
        if words.len() > WORDS_MAX {
            return Err(Fault::new(format!("{} words are more than {WORDS_MAX}", words.len()), hint));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err(Fault::new("a word holds a zero byte", hint));
        }
        Ok(Command(words))
    }

    /// The words, the program first; never empty.
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

impl Text for Command {
    const FORMAT: &'static str = "command";

    fn parse(text: &str) -> Result<Command, Fault> {
        let words = shell_words::split(text).map_err(|_| {
            Fault::new(format!("a quote in `{text}` is not closed"), "close it, or write the words as a list")
        })?;
        Command::new(words)
    }

    fn text(&self) -> String {
        shell_words::join(&self.0)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Words(Vec<String>),
        }
        match Written::deserialize(d)? {
            Written::Text(text) => <Command as Text>::parse(&text),
            Written::Words(words) => Command::new(words),
        }
        .map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Command {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Command".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "string", "format": Self::FORMAT },
                { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": WORDS_MAX },
            ],
        })
    }
}

/// A user and a group by number, `1000:1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserIds {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Text for UserIds {
    const FORMAT: &'static str = "user-ids";

    fn parse(text: &str) -> Result<UserIds, Fault> {
        // The highest number means "unchanged" to the kernel.
        let id = |part: &str| part.parse::<u32>().ok().filter(|id| *id != u32::MAX);
        let ids = text.split_once(':').and_then(|(uid, gid)| Some(UserIds { uid: id(uid)?, gid: id(gid)? }));
        ids.ok_or_else(|| {
            Fault::new(
                format!("`{text}` is no user and group"),
                "write both as numbers, \"1000:1000\"; `id USER` shows them",
            )
        })
    }

    fn text(&self) -> String {
        format!("{}:{}", self.uid, self.gid)
    }
}

/// A signal by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(pub i32);

/// The signals that can ask a process to end, with their numbers on Linux.
const SIGNALS: [(&str, i32); 8] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGTERM", 15),
    ("SIGWINCH", 28),
];

impl Text for Signal {
    const FORMAT: &'static str = "signal";

    fn parse(text: &str) -> Result<Signal, Fault> {
        let known = SIGNALS.iter().find(|(name, _)| *name == text || name.strip_prefix("SIG") == Some(text));
        known.map(|(_, number)| Signal(*number)).ok_or_else(|| {
            let names: Vec<_> = SIGNALS.iter().map(|(name, _)| *name).collect();
            Fault::new(
                format!("`{text}` is no signal to stop with"),
                format!("use one of {}", names.join(", ")),
            )
        })
    }

    fn text(&self) -> String {
        let known = SIGNALS.iter().find(|(_, number)| *number == self.0);
        known.map_or_else(|| self.0.to_string(), |(name, _)| (*name).to_owned())
    }
}

written_as_text!(UserIds, Signal);
