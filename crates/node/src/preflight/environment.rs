//! What the node's environment says about the app's process: `UMASK`, `PUID`, `PGID`, `HOSTNAME`. Pure.

use super::Code;
use super::finding::{Check, Finding};

/// The variables that are looked at, as they are set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The app's umask, octal.
    pub umask: Option<String>,
    /// The app's user, by number.
    pub puid: Option<String>,
    /// The app's group, by number.
    pub pgid: Option<String>,
    /// What containers and shells take for the machine's name.
    pub hostname: Option<String>,
}

/// The highest umask there is.
const UMASK_MAX: u32 = 0o777;

impl Environment {
    /// This process's.
    pub fn of_this_process() -> Environment {
        let read = |name: &str| std::env::var_os(name).map(|text| text.to_string_lossy().into_owned());
        Environment {
            umask: read("UMASK"),
            puid: read("PUID"),
            pgid: read("PGID"),
            hostname: read("HOSTNAME"),
        }
    }

    /// The app's umask; nothing where none is set, or none that can be used.
    pub fn app_umask(&self) -> Option<u32> {
        let text = given(self.umask.as_ref())?;
        u32::from_str_radix(text, 8).ok().filter(|umask| *umask <= UMASK_MAX)
    }

    /// The app's user and group; the group is the user's number where only that is set.
    pub fn app_user(&self) -> Option<(u32, u32)> {
        let uid = id(given(self.puid.as_ref())?)?;
        match given(self.pgid.as_ref()) {
            Some(text) => Some((uid, id(text)?)),
            None => Some((uid, uid)),
        }
    }
}

/// A variable that is set to nothing is as good as absent.
fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// The highest number means "unchanged" to the kernel.
fn id(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|id| *id != u32::MAX)
}

/// One check a variable.
pub fn check(environment: &Environment, machine: &str) -> Vec<Check> {
    let ids = |name: &'static str, code, text: Option<&String>| {
        let wrong = given(text).filter(|text| id(text).is_none());
        wrong.map(|text| {
            let message = format!("{name} is `{text}`, which is no number of a user or group");
            variable(code, name, message, format!("export {name}=1000")).of_configuration()
        })
    };
    let puid = ids("PUID", Code::PuidInvalid, environment.puid.as_ref());
    let mut pgid = ids("PGID", Code::PgidInvalid, environment.pgid.as_ref());
    if pgid.is_none()
        && given(environment.pgid.as_ref()).is_some()
        && given(environment.puid.as_ref()).is_none()
    {
        let message = "PGID is set without PUID, and has no effect".to_owned();
        pgid =
            Some(variable(Code::PgidAlone, "PGID", message, "export PUID=1000".to_owned()).only_a_warning());
    }
    let umask = given(environment.umask.as_ref()).filter(|_| environment.app_umask().is_none());
    let umask = umask.map(|text| {
        let message = format!("UMASK is `{text}`, which is no umask: up to three octal digits");
        variable(Code::UmaskInvalid, "UMASK", message, "export UMASK=022".to_owned()).of_configuration()
    });
    let hostname = given(environment.hostname.as_ref()).filter(|text| *text != machine);
    let hostname = hostname.map(|text| {
        let message = format!("HOSTNAME is `{text}`, but this machine is called `{machine}`");
        variable(Code::HostnameDiffers, "HOSTNAME", message, "export HOSTNAME=\"$(uname -n)\"".to_owned())
            .only_a_warning()
    });
    [("UMASK", umask), ("PUID", puid), ("PGID", pgid), ("HOSTNAME", hostname)]
        .into_iter()
        .map(|(name, finding)| {
            let check =
                Check::of("environment", format!("environment.{name}"), finding.into_iter().collect());
            Check { path: Some(name.to_owned()), ..check }
        })
        .collect()
}

fn variable(code: Code, name: &str, message: String, fix: String) -> Finding {
    Finding::error(code, message, fix).at(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(umask: &str, puid: &str, pgid: &str, hostname: &str) -> Environment {
        let some = |text: &str| (text != "-").then(|| text.to_owned());
        Environment { umask: some(umask), puid: some(puid), pgid: some(pgid), hostname: some(hostname) }
    }

    #[test]
    fn what_cannot_be_used_is_found_and_used_nowhere() {
        for (environment, codes, user, umask) in [
            (set("-", "-", "-", "-"), vec![], None, None),
            (set("", "", "", ""), vec![], None, None),
            (set("022", "1000", "-", "node-a"), vec![], Some((1000, 1000)), Some(0o022)),
            (set("0027", "1000", "100", "-"), vec![], Some((1000, 100)), Some(0o027)),
            (set("zz", "1000", "-", "-"), vec!["umask_invalid"], Some((1000, 1000)), None),
            (set("1000", "-", "-", "-"), vec!["umask_invalid"], None, None),
            (set("-", "abc", "5", "-"), vec!["puid_invalid"], None, None),
            (set("-", "-1", "-", "-"), vec!["puid_invalid"], None, None),
            (set("-", "4294967295", "-", "-"), vec!["puid_invalid"], None, None),
            (set("-", "1000", "staff", "-"), vec!["pgid_invalid"], None, None),
            (set("-", "-", "100", "-"), vec!["pgid_alone"], None, None),
            (set("-", "-", "-", "other"), vec!["hostname_differs"], None, None),
        ] {
            let checks = check(&environment, "node-a");
            let found: Vec<_> =
                checks.iter().flat_map(|check| &check.findings).map(|f| f.code.word()).collect();
            assert_eq!(found, codes, "{environment:?}");
            assert_eq!((environment.app_user(), environment.app_umask()), (user, umask), "{environment:?}");
        }
    }
}
