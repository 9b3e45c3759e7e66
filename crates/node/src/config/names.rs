//! Names, addresses and paths in a configuration.

use super::text::{Fault, Text, written_as_text};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The volume's name: what a file, a host and a label may be called everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeName(String);

impl VolumeName {
    const BYTES_MAX: usize = 63;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name made from a directory's, for a node that is configured by flags alone.
    pub fn from_directory(home: &Path) -> VolumeName {
        let name = home.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
            .skip_while(|c| !c.is_ascii_alphanumeric())
            .take(Self::BYTES_MAX)
            .collect();
        if name.is_empty() { VolumeName("stead".to_owned()) } else { VolumeName(name) }
    }
}

impl Text for VolumeName {
    const FORMAT: &'static str = "volume-name";

    fn parse(text: &str) -> Result<VolumeName, Fault> {
        let head = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if head && rest && text.len() <= Self::BYTES_MAX {
            return Ok(VolumeName(text.to_owned()));
        }
        Err(Fault::new(
            format!("`{text}` is no name for a volume"),
            "use 1 to 63 letters, digits, `.`, `_` and `-`, the first a letter or digit",
        ))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// An address and port to listen on; `localhost` is 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

impl ListenAddress {
    /// Reads an address as a configuration or the command line has it.
    pub fn parse(text: &str) -> Result<ListenAddress, Fault> {
        <ListenAddress as Text>::parse(text)
    }
}

impl Text for ListenAddress {
    const FORMAT: &'static str = "listen-address";

    fn parse(text: &str) -> Result<ListenAddress, Fault> {
        if let Ok(address) = text.parse() {
            return Ok(ListenAddress(address));
        }
        if let Some(Ok(port)) = text.strip_prefix("localhost:").map(str::parse) {
            return Ok(ListenAddress(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        Err(Fault::new(
            format!("`{text}` is no address to listen on"),
            "write an IP address and a port: 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080",
        ))
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// A name or an address of this machine, as a client's `Host` may have it, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    const BYTES_MAX: usize = 253;

    /// Whether it is the host of a request: a name whatever its case, an address however it is written.
    pub fn is(&self, host: &str) -> bool {
        match (self.0.parse::<IpAddr>(), host.parse::<IpAddr>()) {
            (Ok(own), Ok(asked)) => own.to_canonical() == asked.to_canonical(),
            _ => self.0.eq_ignore_ascii_case(host),
        }
    }
}

impl Text for HostName {
    const FORMAT: &'static str = "host-name";

    fn parse(text: &str) -> Result<HostName, Fault> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let name = !text.is_empty() && text.len() <= Self::BYTES_MAX && text.bytes().all(plain);
        if (name && !text.ends_with('.')) || text.parse::<IpAddr>().is_ok() {
            return Ok(HostName(text.to_owned()));
        }
        Err(Fault::new(
            format!("`{text}` is no name of a host"),
            "write a name or an address without a port: notes.example.org, 192.168.1.5",
        ))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

/// A path that is absolute or lies inside the home, without `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath(pub PathBuf);

impl Text for FilePath {
    const FORMAT: &'static str = "file-path";

    fn parse(text: &str) -> Result<FilePath, Fault> {
        let hint = "use a path inside the home, or an absolute one, without `..`";
        if text.is_empty() || text.contains('\0') || text.split('/').any(|part| part == "..") {
            return Err(Fault::new(format!("`{text}` leads out of the home"), hint));
        }
        Ok(FilePath(PathBuf::from(text)))
    }

    fn text(&self) -> String {
        self.0.display().to_string()
    }
}

/// A directory inside the home; `.` is the home itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeDirectory(pub PathBuf);

impl Text for HomeDirectory {
    const FORMAT: &'static str = "home-directory";

    fn parse(text: &str) -> Result<HomeDirectory, Fault> {
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        if trimmed != "." {
            inside_home(trimmed, text)?;
        }
        Ok(HomeDirectory(PathBuf::from(trimmed)))
    }

    fn text(&self) -> String {
        self.0.display().to_string()
    }
}

/// A database's path: inside the home, and not where Stead keeps its own files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFile(pub base::DatabasePath);

impl Text for DatabaseFile {
    const FORMAT: &'static str = "database-path";

    fn parse(text: &str) -> Result<DatabaseFile, Fault> {
        inside_home(text, text)?;
        for suffix in ["-wal", "-shm", "-journal", "-litestream"] {
            if text.ends_with(suffix) {
                return Err(Fault::new(
                    format!("`{text}` is the name of a file beside a database"),
                    format!("name the database itself, without `{suffix}`"),
                ));
            }
        }
        base::DatabasePath::parse(text).map(DatabaseFile).map_err(|bad| {
            Fault::new(bad.to_string(), "use a path inside the home, such as data/database.sqlite")
        })
    }

    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// Refuses what leaves the home and what is Stead's own within it.
fn inside_home(path: &str, written: &str) -> Result<(), Fault> {
    let parsed = base::DatabasePath::parse(path).map_err(|_| {
        Fault::new(
            format!("`{written}` is not a path inside the home"),
            "use a path relative to the home without `.` and `..`, such as data/database.sqlite",
        )
    })?;
    match parsed.as_str().split('/').next() {
        Some(own @ (".stead" | "tmp")) => Err(Fault::new(
            format!("`{written}` lies in {own}/, which is Stead's own"),
            "use a path under data/",
        )),
        _ => Ok(()),
    }
}

/// A pattern of file names: `*` stays within a directory, `**` does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Text for Pattern {
    const FORMAT: &'static str = "pattern";

    fn parse(text: &str) -> Result<Pattern, Fault> {
        let hint = "write a pattern such as *.db or **/*.sqlite";
        if text.is_empty() || text.starts_with('/') || text.split('/').any(|part| part == "..") {
            return Err(Fault::new(format!("`{text}` matches nothing inside the directory"), hint));
        }
        match globset::GlobBuilder::new(text).literal_separator(true).build() {
            Ok(_) => Ok(Pattern(text.to_owned())),
            Err(error) => Err(Fault::new(format!("`{text}` is no pattern: {}", error.kind()), hint)),
        }
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

written_as_text!(VolumeName, HostName, ListenAddress, FilePath, HomeDirectory, DatabaseFile, Pattern);
