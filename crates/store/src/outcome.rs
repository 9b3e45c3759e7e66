//! What came of a conditional write.

/// What came of a write that may happen only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "an outcome that nobody looks at is a lost write"]
pub enum Outcome {
    /// The object is there, durable, and it is ours.
    Won,
    /// Somebody else's object is there; ours is not.
    Lost,
    /// It may or may not be there. Ask again; never assume.
    Unknown,
}
