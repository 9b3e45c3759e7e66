//! What the command line and the environment say: a port and a database file.
//!
//! A flag wins over its variable, a variable over the default. An unknown flag is refused.

use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` prints.
pub const HELP: &str = "\
usage: guestbook [--port N]

  --port N   the port on 127.0.0.1 (environment: PORT; default: 3000; 0 takes a free one)
  --help     this text

The database is the file named by STEAD_DATABASE, else data/database.sqlite.
";

const DEFAULT_PORT: u16 = 3000;
const DEFAULT_DATABASE: &str = "data/database.sqlite";

/// The settings in force.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The port on 127.0.0.1.
    pub port: u16,
    /// The SQLite file; its directory exists.
    pub database: PathBuf,
}

/// Why there are none. The caller shows the help.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was asked for.
    #[error("help")]
    Help,
    /// Not a flag of this program.
    #[error("unknown argument `{0}`")]
    Unknown(String),
    /// Not a number from 0 to 65535.
    #[error("`{0}` is no port: a number from 0 to 65535")]
    Port(String),
}

impl Arguments {
    /// Reads the process's own arguments and environment.
    pub fn from_process() -> Result<Arguments, Refused> {
        let words = std::env::args().skip(1).collect();
        Arguments::parse(words, std::env::var("PORT").ok(), std::env::var_os("STEAD_DATABASE"))
    }

    fn parse(
        words: Vec<String>,
        port: Option<String>,
        database: Option<OsString>,
    ) -> Result<Arguments, Refused> {
        let mut port = port.filter(|text| !text.is_empty());
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--help" | "-h" => return Err(Refused::Help),
                "--port" => port = Some(words.next().unwrap_or_default()),
                _ => match word.strip_prefix("--port=") {
                    Some(value) => port = Some(value.to_owned()),
                    None => return Err(Refused::Unknown(word)),
                },
            }
        }
        let port = match port {
            Some(text) => text.parse().map_err(|_| Refused::Port(text))?,
            None => DEFAULT_PORT,
        };
        let database = database.filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_DATABASE.into());
        Ok(Arguments { port, database: database.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str], port: Option<&str>, database: Option<&str>) -> Result<Arguments, Refused> {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        Arguments::parse(words, port.map(str::to_owned), database.map(OsString::from))
    }

    #[test]
    fn a_flag_wins_over_its_variable_and_both_over_the_default() {
        assert_eq!(parse(&[], None, None).unwrap().port, 3000);
        assert_eq!(parse(&[], Some(""), None).unwrap().port, 3000);
        assert_eq!(parse(&[], Some("4000"), None).unwrap().port, 4000);
        assert_eq!(parse(&["--port", "5000"], Some("4000"), None).unwrap().port, 5000);
        assert_eq!(parse(&["--port=5000"], Some("4000"), None).unwrap().port, 5000);
    }

    #[test]
    fn the_database_is_the_one_stead_names() {
        assert_eq!(parse(&[], None, None).unwrap().database, PathBuf::from("data/database.sqlite"));
        assert_eq!(parse(&[], None, Some("/srv/g.db")).unwrap().database, PathBuf::from("/srv/g.db"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(parse(&["--prot", "1"], None, None), Err(Refused::Unknown("--prot".into())));
        assert_eq!(parse(&["--port", "70000"], None, None), Err(Refused::Port("70000".into())));
        assert_eq!(parse(&["--port"], None, None), Err(Refused::Port(String::new())));
        assert_eq!(parse(&["--help"], None, None), Err(Refused::Help));
    }
}
