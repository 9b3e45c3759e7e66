//! What the processes of one run of the supervisor are told by, as a text and in the forms that outlive an environment.

use base::Random;
use std::fmt;

/// Hex digits of a cookie that make its mark: 60 bits, far from the number that stands for no limit.
const MARK_DIGITS: usize = 15;

/// What the processes of one run of the supervisor carry: 32 hex digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie(String);

impl Cookie {
    /// A new one.
    pub fn random(random: &dyn Random) -> Cookie {
        Cookie(format!("{:016x}{:016x}", random.next_u64(), random.next_u64()))
    }

    /// One that was noted before; nothing else is taken, since processes are ended on its account.
    pub fn parse(text: &str) -> Option<Cookie> {
        let good = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        good.then(|| Cookie(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the pipes for the app's output are called.
    pub fn pipe_name(&self) -> String {
        format!("app-{}", self.0)
    }

    /// What the processes of the app have as their limit RLIMIT_LOCKS.
    pub fn mark(&self) -> u64 {
        let digits = self.0.get(..MARK_DIGITS).unwrap_or_default();
        u64::from_str_radix(digits, 16).unwrap_or_default()
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_32_hex_digits_and_nothing_else() {
        let cookie = Cookie::random(&base::SystemRandom);
        assert_eq!(Cookie::parse(cookie.as_str()), Some(cookie));
        for bad in ["", "x", &"A".repeat(32), &"0".repeat(31), &format!("{}\n", "0".repeat(32))] {
            assert_eq!(Cookie::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_mark_is_a_number_of_60_bits() {
        assert_eq!(Cookie::parse("00000000000001f0123456789abcdef0").unwrap().mark(), 31);
        assert_eq!(Cookie::parse(&"f".repeat(32)).unwrap().mark(), (1 << 60) - 1);
    }
}
