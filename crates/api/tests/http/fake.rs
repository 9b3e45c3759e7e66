//! A node that answers as its arguments ask it to.

use base::{Checksum, DatabasePath, Epoch, Incarnation, Position, Timestamp, Txid};
use node::config::Config;
use node::control::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// A node without an engine; `tmp` is where it exports to.
pub struct Fake {
    pub config: Mutex<Option<Config>>,
    pub events: Mutex<Vec<Sender<Event>>>,
    pub tmp: tempfile::TempDir,
}

impl Fake {
    pub fn unconfigured() -> Fake {
        Fake { config: Mutex::new(None), events: Mutex::default(), tmp: tempfile::tempdir().unwrap() }
    }

    pub fn configured(json: &str) -> Fake {
        let fake = Fake::unconfigured();
        *fake.config.lock().unwrap() = Some(Config::from_json(json.as_bytes()).unwrap());
        fake
    }

    fn is_configured(&self) -> bool {
        self.config.lock().unwrap().is_some()
    }
}

/// What an app has said last, in an issue.
pub const LAST_WORDS: &str = "cannot connect to postgres://u:hunter2@db/x";

fn last_words() -> Issue {
    Issue {
        code: "app_crash_loop".to_owned(),
        component: "app",
        message: format!("the app has ended 5 times; its last words: {LAST_WORDS}"),
        path: None,
        exit_code: Some(1),
        hint: "see `stead logs --stderr`".to_owned(),
    }
}

pub fn database() -> DatabasePath {
    DatabasePath::parse("data/shop/a b.db").unwrap()
}

fn checkpoint_named(id: &str) -> Checkpoint {
    let position =
        Position { incarnation: Incarnation(1), txid: Txid(7), checksum: Checksum(Checksum::FLAG | 1) };
    Checkpoint {
        id: CheckpointId::parse(id).unwrap(),
        created: Timestamp(0),
        comment: None,
        automatic: false,
        databases: BTreeMap::from([(database(), position)]),
    }
}

impl Control for Fake {
    fn status(&self) -> Status {
        let configured = self.is_configured();
        Status {
            name: configured.then(|| "<b>notes</b>".to_owned()),
            version: "0.0.0",
            node: "node-a".to_owned(),
            state: if configured { State::Primary } else { State::Unconfigured },
            role: configured.then_some("primary"),
            since: Timestamp(0),
            reason: "a test".to_owned(),
            configured,
            process: Process { state: "none".to_owned(), ..Process::default() },
            components: Components::default(),
            databases: if configured { vec![database_status()] } else { Vec::new() },
            store: None,
            lease: configured.then_some(Lease {
                r#type: "static",
                state: "held",
                epoch: Epoch(1),
                holder: None,
                valid_for_ms: None,
            }),
            replicas: Vec::new(),
            checkpoints: Checkpoints::default(),
            issues: if configured { vec![last_words()] } else { Vec::new() },
        }
    }

    fn status_at_once(&self) -> Option<Status> {
        None
    }

    fn measured(&self) -> Measured {
        Measured { history_bytes: vec![(database(), 4096)], store: None }
    }

    fn config(&self) -> Option<Arc<Config>> {
        self.config.lock().unwrap().clone().map(Arc::new)
    }

    fn configure(&self, config: Config) -> Result<Status, ConfigureError> {
        if config.name.as_str() == "unsaved" {
            return Err(ConfigureError::NotSaved("no space".to_owned()));
        }
        *self.config.lock().unwrap() = Some(config);
        Ok(self.status())
    }

    fn reconfigure(&self, config: Config) -> Result<Reconfigured, ConfigureError> {
        *self.config.lock().unwrap() = Some(config);
        Ok(Reconfigured { after_restart: vec!["listen"], ..Reconfigured::default() })
    }

    fn forget(&self) -> Result<(), ConfigureError> {
        self.config.lock().unwrap().take().map(drop).ok_or(ConfigureError::Unconfigured)
    }

    fn checkpoint(
        &self,
        id: Option<CheckpointId>,
        comment: Option<String>,
    ) -> Result<CheckpointMade, CheckpointError> {
        if !self.is_configured() {
            return Err(CheckpointError::Unconfigured);
        }
        let id = id.unwrap_or_else(|| CheckpointId::parse("made-up").unwrap());
        match id.as_str() {
            "taken" => Err(CheckpointError::Taken(id)),
            "busy" => Err(CheckpointError::NoCut { limit_ms: 1, reason: "writing".into(), pid: Some(7) }),
            "restoring" => Err(CheckpointError::Restoring),
            "full" => Err(CheckpointError::Failed { reason: "full".into(), disk_full: true }),
            "panic" => panic!("as asked"),
            name => {
                let checkpoint = Checkpoint { comment, ..checkpoint_named(name) };
                Ok(CheckpointMade { checkpoint, ms: 1.5 })
            }
        }
    }

    fn checkpoints(&self) -> Result<Vec<Checkpoint>, CheckpointError> {
        if self.is_configured() {
            Ok(vec![checkpoint_named("c1")])
        } else {
            Err(CheckpointError::Unconfigured)
        }
    }

    fn remove_checkpoint(&self, id: &CheckpointId) -> Result<(), CheckpointError> {
        if id.as_str() == "c1" { Ok(()) } else { Err(CheckpointError::NotFound(id.clone())) }
    }

    fn restore(&self, request: RestoreRequest) -> Result<Restored, RestoreError> {
        if !self.is_configured() {
            return Err(RestoreError::Unconfigured);
        }
        let target = match &request.target {
            Target::Undo => "undo".to_owned(),
            Target::Time(time) => time.rfc3339(),
            Target::Checkpoint(id) => id.to_string(),
        };
        match target.as_str() {
            "running" => return Err(RestoreError::Running),
            "held" => {
                return Err(RestoreError::Held { path: database(), reason: "pid 7".into(), pids: vec![7] });
            }
            "damaged" => return Err(RestoreError::History { path: database(), reason: "a gap".into() }),
            "nonexistent" => {
                return Err(RestoreError::NotFound(CheckpointId::parse("nonexistent").unwrap()));
            }
            _ => {}
        }
        Ok(Restored {
            target,
            dry_run: request.dry_run,
            as_of: Timestamp(0),
            databases: Vec::new(),
            steps: vec![Step { step: "validate", ms: 0.5 }],
            ms: 0.5,
        })
    }

    fn release_lease(&self) -> Result<(), ActionError> {
        if self.is_configured() { Ok(()) } else { Err(ActionError::Unconfigured) }
    }

    fn promote(&self) -> Result<(), ActionError> {
        Err(ActionError::NotNow("it is the primary".to_owned()))
    }

    fn app(&self, action: AppAction) -> Result<(), ActionError> {
        match action {
            AppAction::Stop => Err(ActionError::Failed("it does not stop".to_owned())),
            _ => Ok(()),
        }
    }

    fn history(&self, path: &DatabasePath) -> Result<Vec<HistoryFile>, DatabaseError> {
        if *path != database() {
            return Err(DatabaseError::NotFound(path.to_string()));
        }
        Ok(vec![HistoryFile {
            level: 0,
            min_txid: Txid(7),
            max_txid: Txid(7),
            created: Timestamp(0),
            bytes: 100,
            commit: 1,
            checksum: Checksum(Checksum::FLAG | 1),
        }])
    }

    fn verify(&self, path: &DatabasePath) -> Result<Verified, DatabaseError> {
        if *path != database() {
            return Err(DatabaseError::NotFound(path.to_string()));
        }
        Ok(Verified {
            path: path.clone(),
            ok: true,
            position: None,
            pages: 1,
            files: 1,
            problems: Vec::new(),
        })
    }

    fn ask(&self, path: &DatabasePath, question: Question) -> Result<Asked, AskError> {
        if *path != database() {
            return Err(DatabaseError::NotFound(path.to_string()).into());
        }
        match question.sql.as_str() {
            "SELEC" => Err(QueryError::Sql("syntax error".to_owned()).into()),
            sql => {
                let rows = Rows {
                    columns: vec!["sql".to_owned(), "write".to_owned()],
                    rows: vec![vec![sql.into(), question.write.into()]],
                    truncated: None,
                    changes: 0,
                };
                Ok(Asked { path: path.clone(), rows, position: None, ms: 1.5 })
            }
        }
    }

    fn export(&self, path: &DatabasePath, moment: Moment) -> Result<PathBuf, DatabaseError> {
        if *path != database() {
            return Err(DatabaseError::NotFound(path.to_string()));
        }
        let text = match moment {
            Moment::Txid(Txid(99)) => return Err(DatabaseError::NothingThere("not kept".to_owned())),
            Moment::Txid(Txid(13)) => return Err(DatabaseError::Damaged("13.ltx".to_owned())),
            Moment::Txid(txid) => format!("txid {txid}"),
            Moment::Time(time) => format!("time {time}"),
            Moment::Checkpoint(id) => format!("checkpoint {id}"),
            Moment::Now => "n".repeat(1_000_000),
        };
        let file = self.tmp.path().join("export");
        std::fs::write(&file, text).unwrap();
        Ok(file)
    }

    fn transitions(&self) -> Vec<Transition> {
        vec![Transition {
            time: Timestamp(0),
            from: State::Starting,
            to: State::Primary,
            reason: "r".to_owned(),
        }]
    }

    fn logs(&self, lines: usize, stream: Option<&str>) -> Result<Vec<LogLine>, LogsError> {
        if lines == 0 {
            return Err(LogsError::NoAnswer);
        }
        let stream = stream.unwrap_or("both").to_owned();
        Ok(vec![LogLine { time: Timestamp(0), stream, text: lines.to_string() }])
    }

    fn events(&self) -> Receiver<Event> {
        let (sender, receiver) = channel();
        self.events.lock().unwrap().push(sender);
        receiver
    }
}

fn database_status() -> DatabaseStatus {
    DatabaseStatus {
        path: database(),
        mode: "wal",
        txid: Txid(7),
        checksum: Checksum(Checksum::FLAG | 1),
        pages: 1,
        page_size: 4096,
        stored_txid: None,
        unstored: None,
        lag_ms: 0,
        history: "data/shop/a b.db-litestream".to_owned(),
        issue: None,
    }
}
