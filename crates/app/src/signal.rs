//! Signal names, as people write them in a configuration and read them in a status.

use rustix::process::Signal;

const NAMES: [(&str, Signal); 30] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ILL", Signal::ILL),
    ("TRAP", Signal::TRAP),
    ("ABRT", Signal::ABORT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("CHLD", Signal::CHILD),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
    ("TSTP", Signal::TSTP),
    ("TTIN", Signal::TTIN),
    ("TTOU", Signal::TTOU),
    ("URG", Signal::URG),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
    ("VTALRM", Signal::VTALARM),
    ("PROF", Signal::PROF),
    ("WINCH", Signal::WINCH),
    ("IO", Signal::IO),
    ("PWR", Signal::POWER),
    ("SYS", Signal::SYS),
];

/// `SIGTERM` for 15; a number that has no name is shown as one.
pub fn name(number: i32) -> String {
    match NAMES.iter().find(|(_, signal)| signal.as_raw() == number) {
        Some((name, _)) => format!("SIG{name}"),
        None => format!("signal {number}"),
    }
}

/// The number for `SIGTERM`, `TERM`, `sigterm` or `15`.
pub fn parse(text: &str) -> Option<i32> {
    let upper = text.trim().to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = short.parse::<i32>().ok();
    NAMES
        .iter()
        .find(|(name, signal)| *name == short || Some(signal.as_raw()) == number)
        .map(|(_, signal)| signal.as_raw())
}

/// The signal with a number, where it has a name.
pub fn from_number(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_both_ways() {
        for text in ["SIGTERM", "term", "TERM", "15", " sigterm "] {
            assert_eq!(parse(text), Some(15), "{text}");
        }
        assert_eq!(name(9), "SIGKILL");
        assert_eq!(name(34), "signal 34");
        for bad in ["", "SIG", "SIGNOPE", "0", "-1", "64"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        for (text, signal) in NAMES {
            assert_eq!(parse(text), Some(signal.as_raw()));
            assert_eq!(from_number(signal.as_raw()), Some(signal));
        }
    }
}
