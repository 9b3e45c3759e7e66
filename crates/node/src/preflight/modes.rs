//! What permission bits let a user do, along the whole way to a path. Pure.
//!
//! The kernel's own answer comes first, since it knows access lists and security modules; the bits say which part of
//! the way refuses, and what mends it.

use super::facts::{Ids, Step};

/// Search a directory.
pub const SEARCH: u32 = 0o1;
/// List a directory and search it.
pub const READ: u32 = 0o5;
/// Everything in a directory.
pub const ALL: u32 = 0o7;

/// Which of the three sets of bits counts for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The owner's.
    Owner,
    /// The group's.
    Group,
    /// Everybody else's.
    Other,
}

impl Class {
    /// Its letter for chmod(1).
    pub fn letter(self) -> char {
        match self {
            Class::Owner => 'u',
            Class::Group => 'g',
            Class::Other => 'o',
        }
    }
}

/// A part of the way that refuses a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// Which part.
    pub step: &'a Step,
    /// It is the path itself, not a directory above.
    pub last: bool,
    /// The bits that count.
    pub class: Class,
}

/// The first part of a way that refuses a user, who needs `last` of its last part.
pub fn refusal(way: &[Step], user: Ids, last: u32) -> Option<Refusal<'_>> {
    if user.0 == 0 {
        return None;
    }
    way.iter().enumerate().find_map(|(at, step)| {
        let is_last = at + 1 == way.len();
        let needed = if is_last { last } else { SEARCH };
        let class = class(step, user);
        (bits(step, class) & needed != needed).then_some(Refusal { step, last: is_last, class })
    })
}

fn class(step: &Step, user: Ids) -> Class {
    if step.uid == user.0 {
        Class::Owner
    } else if step.gid == user.1 {
        Class::Group
    } else {
        Class::Other
    }
}

fn bits(step: &Step, class: Class) -> u32 {
    let shift = match class {
        Class::Owner => 6,
        Class::Group => 3,
        Class::Other => 0,
    };
    (step.mode >> shift) & 0o7
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(path: &str, uid: u32, gid: u32, mode: u32) -> Step {
        Step { path: path.into(), uid, gid, mode }
    }

    #[test]
    fn the_first_part_that_refuses_is_named_with_the_bits_that_count() {
        let way = |middle: u32, last: Step| vec![step("/", 0, 0, 0o755), step("/srv", 0, 100, middle), last];
        for (way, user, needed, wanted) in [
            (way(0o755, step("/srv/m", 1000, 1000, 0o700)), (1000, 1000), ALL, None),
            (way(0o755, step("/srv/m", 0, 0, 0o755)), (1000, 1000), ALL, Some(("/srv/m", Class::Other))),
            (way(0o755, step("/srv/m", 0, 0, 0o755)), (1000, 1000), READ, None),
            (way(0o750, step("/srv/m", 1000, 1, 0o700)), (1000, 1000), ALL, Some(("/srv", Class::Other))),
            (way(0o750, step("/srv/m", 1000, 1, 0o700)), (1000, 100), ALL, None),
            (way(0o705, step("/srv/m", 1000, 1, 0o700)), (1000, 100), ALL, Some(("/srv", Class::Group))),
            (way(0o755, step("/srv/m", 1000, 1, 0o077)), (1000, 1), SEARCH, Some(("/srv/m", Class::Owner))),
            (way(0o000, step("/srv/m", 1, 1, 0o000)), (0, 0), ALL, None),
        ] {
            let found = refusal(&way, user, needed);
            let found = found.map(|refusal| (refusal.step.path.to_str().unwrap(), refusal.class));
            assert_eq!(found, wanted, "{user:?} {way:?}");
        }
    }
}
