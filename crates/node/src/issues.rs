//! What is wrong with a node at this moment, each with its cure.
//!
//! An issue stays until the part that raised it clears it; the same (component, code, path) is one issue, whose
//! message may change. What the engine knows of single databases is not kept here: status asks the engine.

use crate::control::Issue;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most issues kept; beyond it further paths of one code are dropped, since one line already names the cure.
pub const ISSUES_KEPT: usize = 200;

type Key = (&'static str, String, Option<String>);

/// The issues of a node.
#[derive(Debug, Default)]
pub struct Issues {
    kept: Mutex<BTreeMap<Key, Issue>>,
}

impl Issues {
    /// Raises an issue; true where it is new or says something else than before.
    pub fn raise(&self, issue: Issue) -> bool {
        put(&mut self.lock(), issue)
    }

    /// Clears every issue of one code in a component; true where there was one.
    pub fn clear(&self, component: &'static str, code: &str) -> bool {
        let mut kept = self.lock();
        let before = kept.len();
        kept.retain(|(c, k, _), _| !(*c == component && k == code));
        kept.len() != before
    }

    /// Replaces the issues of a component, or those of one code; the ones that were not there before, and those that are
    /// gone.
    pub fn replace(
        &self,
        component: &'static str,
        code: Option<&str>,
        now: Vec<Issue>,
    ) -> (Vec<Issue>, Vec<Issue>) {
        let mut kept = self.lock();
        let before = std::mem::take(&mut *kept);
        let (old, rest): (BTreeMap<Key, Issue>, _) = before
            .into_iter()
            .partition(|((owner, known, _), _)| *owner == component && code.is_none_or(|code| code == known));
        *kept = rest;
        let new: Vec<Issue> = now
            .into_iter()
            .filter(|issue| put(&mut kept, issue.clone()) && !old.values().any(|known| known == issue))
            .collect();
        let gone =
            old.into_iter().filter(|(key, _)| !kept.contains_key(key)).map(|(_, issue)| issue).collect();
        (new, gone)
    }

    /// Clears everything, for a node that forgets its configuration.
    pub fn clear_all(&self) {
        self.lock().clear();
    }

    /// All of them, ordered by component and code.
    pub fn all(&self) -> Vec<Issue> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Issue>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps an issue within the limit; true where it is new or says something else than before.
fn put(kept: &mut BTreeMap<Key, Issue>, issue: Issue) -> bool {
    let key = (issue.component, issue.code.clone(), issue.path.clone());
    if !kept.contains_key(&key) && kept.len() >= ISSUES_KEPT {
        return false;
    }
    let told = issue.clone();
    kept.insert(key, issue).is_none_or(|before| before != told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(code: &str, path: Option<&str>, message: &str) -> Issue {
        Issue {
            code: code.into(),
            component: "database",
            message: message.into(),
            path: path.map(str::to_owned),
            exit_code: None,
            hint: "mend it".into(),
        }
    }

    #[test]
    fn the_same_issue_is_raised_once_and_its_message_may_change() {
        let issues = Issues::default();
        assert!(issues.raise(issue("a", None, "one")));
        assert!(!issues.raise(issue("a", None, "one")));
        assert!(issues.raise(issue("a", None, "two")));
        assert_eq!(issues.all().len(), 1);
        assert!(issues.clear("database", "a"));
        assert!(!issues.clear("database", "a"));
    }

    #[test]
    fn a_scan_replaces_what_the_last_one_found() {
        let issues = Issues::default();
        let (x, y) = (issue("open", Some("x"), "m"), issue("open", Some("y"), "m"));
        let other = issue("busy", None, "m");
        issues.raise(other.clone());
        let replace = |now: &[&Issue]| {
            issues.replace("database", Some("open"), now.iter().map(|issue| (*issue).clone()).collect())
        };
        assert_eq!(replace(&[&x]), (vec![x.clone()], vec![]));
        assert_eq!(replace(&[&x, &y]), (vec![y.clone()], vec![]));
        assert_eq!(replace(&[&y]), (vec![], vec![x.clone()]));
        assert_eq!(issues.all(), vec![other, y]);
    }

    #[test]
    fn a_components_issues_are_replaced_together() {
        let issues = Issues::default();
        let (x, y) = (issue("missing", Some("x"), "m"), issue("full", Some("y"), "m"));
        assert_eq!(issues.replace("database", None, vec![x.clone()]), (vec![x.clone()], vec![]));
        assert_eq!(issues.replace("database", None, vec![x.clone(), y.clone()]), (vec![y.clone()], vec![]));
        assert_eq!(issues.replace("storage", None, vec![]), (vec![], vec![]));
        assert_eq!(issues.replace("database", None, vec![y.clone()]), (vec![], vec![x]));
        assert_eq!(issues.all(), vec![y]);
    }

    #[test]
    fn the_number_of_issues_is_bounded() {
        let issues = Issues::default();
        for n in 0..ISSUES_KEPT + 50 {
            issues.raise(issue("open", Some(&n.to_string()), "m"));
        }
        assert_eq!(issues.all().len(), ISSUES_KEPT);
    }
}
