//! Values that are written as texts: each is parsed once, at the edge, and written back in one form.

use std::fmt;
use std::time::Duration;

/// Why a text is not such a value, and how one is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// How to write it.
    pub hint: String,
}

impl Fault {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Fault {
        Fault { message: message.into(), hint: hint.into() }
    }
}

/// A value with a text form that the schema names by a format.
pub(super) trait Text: Sized {
    /// The schema's word for it.
    const FORMAT: &'static str;
    /// The JSON types it may be written as.
    const TYPES: &'static [&'static str] = &["string"];
    /// Reads it.
    fn parse(text: &str) -> Result<Self, Fault>;
    /// Writes it.
    fn text(&self) -> String;
}

/// A number or a text, as a document may hold either.
#[derive(serde::Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Number(u64),
    Text(String),
}

impl Scalar {
    pub(super) fn into_text(self) -> String {
        match self {
            Scalar::Number(number) => number.to_string(),
            Scalar::Text(text) => text,
        }
    }
}

/// Reading, writing and schema for types that are texts in a document.
macro_rules! written_as_text {
    ($($name:ident),+ $(,)?) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&$crate::config::text::Text::text(self))
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <$crate::config::text::Scalar as serde::Deserialize>::deserialize(d)?.into_text();
                $crate::config::text::Text::parse(&text).map_err(serde::de::Error::custom)
            }
        }
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let types = <$name as $crate::config::text::Text>::TYPES;
                let types = match types {
                    [one] => serde_json::json!(one),
                    several => serde_json::json!(several),
                };
                schemars::json_schema!({
                    "type": types,
                    "format": <$name as $crate::config::text::Text>::FORMAT,
                })
            }
        }
    )+};
}
pub(super) use written_as_text;

/// A length of time: `500ms`, `90s`, `5m`, `1h30m`, `30d`; a bare 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// Units of time, longest first, with their milliseconds.
const TIME_UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl Period {
    /// Reads a duration as it is written in a configuration; also the form of an age on the command line.
    pub fn parse(text: &str) -> Result<Period, Fault> {
        <Period as Text>::parse(text)
    }
}

impl Text for Period {
    const FORMAT: &'static str = "duration";
    const TYPES: &'static [&'static str] = &["string", "integer"];

    fn parse(text: &str) -> Result<Period, Fault> {
        let fault = || {
            Fault::new(
                format!("`{text}` is no duration"),
                "write a number with a unit: 500ms, 90s, 5m, 1h30m, 30d",
            )
        };
        if text == "0" {
            return Ok(Period(Duration::ZERO));
        }
        if text.is_empty() {
            return Err(fault());
        }
        let (mut rest, mut total) = (text, 0_u64);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| fault())?;
            rest = &rest[digits..];
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let unit = TIME_UNITS.iter().find(|(unit, _)| *unit == &rest[..letters]).ok_or_else(fault)?;
            rest = &rest[letters..];
            total = number.checked_mul(unit.1).and_then(|ms| total.checked_add(ms)).ok_or_else(fault)?;
        }
        Ok(Period(Duration::from_millis(total)))
    }

    fn text(&self) -> String {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return "0s".to_owned();
        }
        let unit = TIME_UNITS.iter().find(|(unit, size)| *unit != "w" && ms.is_multiple_of(*size));
        let (unit, size) = unit.copied().unwrap_or(("ms", 1));
        format!("{}{unit}", ms / size)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A number of bytes: `512MiB`, `10GiB`, `1TB`; a bare number is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Units of size; the binary ones first, so that they are what is written.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
];

impl Text for Size {
    const FORMAT: &'static str = "size";
    const TYPES: &'static [&'static str] = &["string", "integer"];

    fn parse(text: &str) -> Result<Size, Fault> {
        let fault =
            || Fault::new(format!("`{text}` is no size"), "write a number with a unit: 512MiB, 10GiB, 1TB");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| fault())?;
        let unit = text[digits..].trim_start();
        let size = match unit {
            "" => 1,
            unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(fault)?.1,
        };
        number.checked_mul(size).map(Size).ok_or_else(fault)
    }

    fn text(&self) -> String {
        let unit = SIZE_UNITS.iter().find(|(_, size)| self.0 > 0 && self.0.is_multiple_of(*size));
        let (unit, size) = unit.copied().unwrap_or(("B", 1));
        format!("{}{unit}", self.0 / size)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

written_as_text!(Period, Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, ms, written) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("500ms", 500, "500ms"),
            ("90s", 90_000, "90s"),
            ("1h30m", 5_400_000, "90m"),
            ("24h", 86_400_000, "1d"),
            ("2w", 1_209_600_000, "14d"),
        ] {
            let period = Period::parse(text).unwrap();
            assert_eq!(period.0.as_millis(), ms, "{text}");
            assert_eq!(period.to_string(), written);
        }
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "1.5h",
            "1 s",
            "1S",
            "10x",
            "1h30",
            "99999999999999999999s",
            "9999999999999999w",
            "5µs",
            "ü",
        ] {
            assert!(Period::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_bytes_with_units() {
        for (text, bytes, written) in [
            ("1024", 1024, "1KiB"),
            ("10GiB", 10 << 30, "10GiB"),
            ("10 GiB", 10 << 30, "10GiB"),
            ("1GB", 1_000_000_000, "1000000000B"),
            ("0", 0, "0B"),
        ] {
            let size = Size::parse(text).unwrap();
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string(), written);
        }
        for bad in ["", "GiB", "-1GiB", "1.5GiB", "10G", "10gib", "99999999999TiB", "1ü"] {
            assert!(Size::parse(bad).is_err(), "{bad}");
        }
    }
}
