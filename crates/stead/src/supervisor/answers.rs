//! Answers about output, given in portions as the node takes them.
//!
//! An answer may be as long as all that is kept, and many may be asked for at once. So what is held of each is only
//! where it goes on; a portion is made when there is room for it, and no answer makes the node look like one that does
//! not read.

use super::limits::ANSWERS_MAX;
use super::output::{Output, Stretch};
use app::protocol::{Stream, ToNode};
use std::collections::VecDeque;

/// The answers that are not finished, in the order in which they were asked for.
#[derive(Debug, Default)]
pub struct Answers {
    open: VecDeque<(u64, Stretch)>,
    refused: VecDeque<u64>,
}

impl Answers {
    /// Takes a question. Beyond the most at a time the oldest answer is cut: who asked gave up waiting, most likely.
    pub fn take(&mut self, request: u64, lines: usize, stream: Option<Stream>, output: &Output) {
        if self.open.len() >= ANSWERS_MAX
            && let Some((oldest, _)) = self.open.pop_front()
        {
            self.refused.push_back(oldest);
            self.refused.truncate(ANSWERS_MAX);
        }
        self.open.push_back((request, output.last(lines, stream)));
    }

    /// The next message of an answer, to be sent now.
    pub fn next(&mut self, output: &Output) -> Option<ToNode> {
        if let Some(request) = self.refused.pop_front() {
            return Some(ToNode::NoLines { request });
        }
        let (request, stretch) = self.open.front_mut()?;
        let (request, lines) = (*request, output.portion(stretch));
        let more = !stretch.is_done();
        if !more {
            self.open.pop_front();
        }
        Some(ToNode::Lines { request, lines, more })
    }

    /// Another node does not know what this one has asked for.
    pub fn forget(&mut self) {
        *self = Answers::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use app::processes::Cookie;
    use base::SystemRandom;
    use std::path::Path;

    fn output() -> Output {
        Output::new(Path::new("/nonexistent"), &Cookie::random(&SystemRandom))
    }

    fn texts(message: Option<ToNode>) -> (u64, Vec<String>, bool) {
        match message {
            Some(ToNode::Lines { request, lines, more }) => {
                (request, lines.into_iter().map(|line| line.text).collect(), more)
            }
            other => panic!("no lines: {other:?}"),
        }
    }

    #[test]
    fn an_answer_comes_in_portions_and_ends_where_it_ended_when_it_was_asked_for() {
        let (mut output, mut answers) = (output(), Answers::default());
        let long = "x".repeat(40 << 10);
        for _ in 0..3 {
            output.keep(Stream::Stdout, &long);
        }
        output.keep(Stream::Stderr, "other");
        answers.take(7, 3, None, &output);
        answers.take(8, 10, Some(Stream::Stderr), &output);
        output.keep(Stream::Stdout, "later");
        assert_eq!(texts(answers.next(&output)), (7, vec![long.clone()], true));
        assert_eq!(texts(answers.next(&output)), (7, vec![long, "other".into()], false));
        assert_eq!(texts(answers.next(&output)), (8, vec!["other".into()], false));
        assert_eq!(answers.next(&output), None);
        answers.take(9, 0, None, &output);
        assert_eq!(texts(answers.next(&output)), (9, vec![], false));
    }

    #[test]
    fn of_too_many_questions_the_oldest_are_refused_and_nothing_grows() {
        let (output, mut answers) = (output(), Answers::default());
        for request in 0..100 {
            answers.take(request, 10, None, &output);
        }
        let told: Vec<ToNode> = std::iter::from_fn(|| answers.next(&output)).collect();
        assert_eq!(told.len(), 2 * ANSWERS_MAX);
        assert_eq!(told[0], ToNode::NoLines { request: 0 });
        assert_eq!(texts(told.last().cloned()), (99, vec![], false));
    }
}
