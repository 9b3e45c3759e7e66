//! What befalls the server, or the way to it.

use super::super::Dice;
use super::proxy::{Act, Proxy};
use super::servers::Server;
use std::time::Duration;

/// One kind of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The server is killed, and started again later.
    Killed,
    /// It accepts connections and answers nothing; what it had read it does later.
    Frozen,
    /// A few bytes at a time.
    Slow,
    /// 500.
    Failing,
    /// 503.
    Busy,
    /// 403.
    Denied,
    /// 507.
    Full,
    /// Requests and answers are lost, one in three.
    Losing,
}

impl Trouble {
    const ALL: [Trouble; 8] = [
        Trouble::Killed,
        Trouble::Frozen,
        Trouble::Slow,
        Trouble::Failing,
        Trouble::Busy,
        Trouble::Denied,
        Trouble::Full,
        Trouble::Losing,
    ];

    /// Any of them.
    pub fn any(dice: &mut Dice) -> Trouble {
        Trouble::ALL[dice.below(Trouble::ALL.len())]
    }

    /// It begins.
    pub fn begin(self, server: &mut Server, way: &Proxy, dice: &mut Dice) {
        let always = |status: &'static str, body: &'static str| way.rule(move |_| Act::Answer(status, body));
        match self {
            Trouble::Killed => server.kill(),
            Trouble::Frozen => server.freeze(),
            Trouble::Slow => way.rule(|_| Act::Slowly(40, Duration::from_millis(20))),
            Trouble::Failing => {
                always("500 Internal Server Error", "<Error><Code>InternalError</Code></Error>");
            }
            Trouble::Busy => always("503 Service Unavailable", "<Error><Code>SlowDown</Code></Error>"),
            Trouble::Denied => always("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"),
            Trouble::Full => {
                // Reading goes on.
                way.rule(|request| match request.is("PUT") || request.is("POST") {
                    true => {
                        Act::Answer("507 Insufficient Storage", "<Error><Code>QuotaExceeded</Code></Error>")
                    }
                    false => Act::Pass,
                });
            }
            Trouble::Losing => {
                let mut dice = dice.clone();
                way.rule(move |_| match dice.below(6) {
                    0 => Act::LoseRequest,
                    1 => Act::LoseAnswer,
                    _ => Act::Pass,
                });
            }
        }
    }

    /// It is over.
    pub fn end(self, server: &mut Server, way: &Proxy) {
        match self {
            Trouble::Killed => server.restart(),
            Trouble::Frozen => server.go_on(),
            _ => way.rule(|_| Act::Pass),
        }
    }
}
