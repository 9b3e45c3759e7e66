//! Times as people give them: RFC 3339, `2026-11-21 10:00` in local time, or an age such as `10m`.

use crate::exit::Exit;
use crate::failure::Failure;
use base::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use node::config::Period;

/// Reads a time, relative to `now` and the `zone` of the person.
pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, Failure> {
    if let Ok(age) = Period::parse(text) {
        let ms = i64::try_from(age.0.as_millis()).unwrap_or(i64::MAX);
        return Ok(Timestamp(now.0.saturating_sub(ms)));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(time.as_millisecond()));
    }
    let local = text.parse::<DateTime>().ok().and_then(|time| time.to_zoned(zone.clone()).ok());
    match local {
        Some(time) => Ok(Timestamp(time.timestamp().as_millisecond())),
        None => Err(Failure::new(
            Exit::Usage,
            format!("`{text}` is no time"),
            "a time is RFC 3339, a date with a time of day, or an age",
            "write 2026-11-21T10:00:00Z, \"2026-11-21 10:00\" or 10m",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_absolute_local_or_an_age() {
        let now = Timestamp(1_800_000_000_000);
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        for (text, time) in [
            ("10m", "2027-01-15T07:50:00.000Z"),
            ("1d12h", "2027-01-13T20:00:00.000Z"),
            ("0", "2027-01-15T08:00:00.000Z"),
            ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00.000Z"),
            ("2026-11-21T10:00:00.25+01:00", "2026-11-21T09:00:00.250Z"),
            ("2026-11-21 10:00", "2026-11-21T08:00:00.000Z"),
            ("2026-11-21 10:00:30", "2026-11-21T08:00:30.000Z"),
            ("2026-11-21", "2026-11-20T22:00:00.000Z"),
        ] {
            assert_eq!(parse(text, now, &zone).map(Timestamp::rfc3339).as_deref(), Ok(time), "{text}");
        }
        for bad in ["", "yesterday", "10", "2026-13-01 10:00", "10:00", "-10m"] {
            assert_eq!(parse(bad, now, &zone).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
