//! Exit codes: one list, and one table from what a node answers to them.

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// The command failed.
    Failed,
    /// Wrong usage.
    Usage,
    /// A needed service is unavailable: no node answers.
    Unavailable,
    /// A bug.
    Bug,
    /// A path, a permission or another problem of the system.
    System,
    /// Try again later.
    TryAgain,
    /// The configuration.
    Configuration,
    /// `status`: something is degraded.
    Degraded,
    /// `status`: nobody may write.
    NoPrimary,
    /// `status`: views that cannot both be true.
    Contradiction,
    /// `status`: the node could not be asked.
    CouldNotAsk,
}

impl Exit {
    /// Every one of them.
    pub const ALL: [Exit; 12] = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Unavailable,
        Exit::Bug,
        Exit::System,
        Exit::TryAgain,
        Exit::Configuration,
        Exit::Degraded,
        Exit::NoPrimary,
        Exit::Contradiction,
        Exit::CouldNotAsk,
    ];

    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed | Exit::Degraded => 1,
            Exit::Usage | Exit::NoPrimary => 2,
            Exit::Contradiction => 3,
            Exit::CouldNotAsk => 4,
            Exit::Unavailable => 69,
            Exit::Bug => 70,
            Exit::System => 71,
            Exit::TryAgain => 75,
            Exit::Configuration => 78,
        }
    }

    /// How a command ends over a node's answer.
    pub fn of_answer(status: u16, code: &str) -> Exit {
        match (status, code) {
            (_, "invalid_configuration" | "unconfigured") => Exit::Configuration,
            (_, "bad_checkpoint_id" | "malformed") => Exit::Usage,
            (_, "bug") => Exit::Bug,
            (_, "restore_running") | (408 | 429 | 503, _) => Exit::TryAgain,
            (507, _) => Exit::System,
            (502 | 504, _) => Exit::Unavailable,
            _ => Exit::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_codes_are_those_that_were_promised() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 69, 70, 71, 75, 78, 1, 2, 3, 4]);
    }

    #[test]
    fn every_answer_of_a_node_has_its_exit_code() {
        for (status, code, exit) in [
            (400, "unconfigured", 78),
            (404, "unconfigured", 78),
            (400, "invalid_configuration", 78),
            (400, "already_configured", 1),
            (400, "bad_checkpoint_id", 2),
            (400, "malformed", 2),
            (401, "token_required", 1),
            (403, "forbidden", 1),
            (404, "no_such_checkpoint", 1),
            (404, "no_such_database", 1),
            (404, "nothing_there", 1),
            (404, "no_such_route", 1),
            (405, "wrong_method", 1),
            (408, "body_too_slow", 75),
            (409, "checkpoint_exists", 1),
            (409, "database_held", 1),
            (409, "restore_running", 75),
            (503, "restore_running", 75),
            (400, "sql_error", 1),
            (503, "query_too_slow", 75),
            (503, "database_busy", 75),
            (503, "query_ended", 75),
            (409, "not_now", 1),
            (413, "body_too_large", 1),
            (500, "failed", 1),
            (500, "history_damaged", 1),
            (500, "bug", 70),
            (503, "no_cut", 75),
            (503, "too_many_readers", 75),
            (507, "disk_full", 71),
            (502, "", 69),
        ] {
            assert_eq!(Exit::of_answer(status, code).code(), exit, "{status} {code}");
        }
    }
}
