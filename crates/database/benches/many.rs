//! What a store costs where there is much: one history of very many seals, and a volume of very many databases.
//!
//! `cargo bench -p database --bench many -- [seals N] [databases N] [--dir DIR]`. Figures are of the directory that it
//! runs in; one in memory shows what is Stead's own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench ends where something is not as it must be")]
#![allow(clippy::disallowed_methods, reason = "a bench measures from outside")]

use base::{Checksum, DatabasePath, Epoch, LocalDisk, Pgno, Random, SystemRandom, Timestamp, Txid};
use database::history::{History, Remote, Retention};
use database::ledger::Ledger;
use database::{Claim, Engine, Entry, Machine, Owner, Settings, StoreSettings, bucket};
use ltx::Header;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Directory, Key, Objects};

const PAGE: u32 = 512;
const START_MS: i64 = 1_700_000_000_000;
const TIMES: u64 = 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let number = |name: &str| after(name).map(|text| text.parse::<u64>().unwrap());
    let dir = match after("--dir") {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let all = number("seals").or(number("databases")).is_none();
    if let Some(seals) = number("seals").or(all.then_some(60_000)) {
        one_history(dir.path(), seals);
    }
    if let Some(databases) = number("databases").or(all.then_some(1000)) {
        many_databases(dir.path(), databases as usize);
    }
}

/// Does something, and says how long it took.
fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let (began, cpu) = (Instant::now(), used());
    let done = act();
    println!("{what}: {:.1} ms ({:.1} ms of a core)", ms(began.elapsed()), ms(used() - cpu));
    done
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The processor time of this process.
fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// One page that changes with each seal.
struct Growing {
    history: History,
    sealed: u64,
}

impl Growing {
    fn page(&self, txid: u64) -> Vec<u8> {
        let mut page = vec![7; PAGE as usize];
        page[..8].copy_from_slice(&txid.to_be_bytes());
        page
    }

    fn sum(&self, txid: u64) -> Checksum {
        if txid == 0 {
            Checksum(Checksum::FLAG)
        } else {
            Checksum(Checksum::FLAG | ltx::page_checksum(Pgno(1), &self.page(txid)).0)
        }
    }

    fn seal(&mut self) {
        let txid = self.sealed + 1;
        let header = Header {
            page_size: PAGE,
            commit: 1,
            min_txid: Txid(txid),
            max_txid: Txid(txid),
            timestamp: Timestamp(START_MS + txid as i64),
            wal_offset: 0,
            wal_size: 0,
            wal_salt1: 0,
            wal_salt2: 0,
            epoch: Epoch(1),
            checksum_after: self.sum(txid),
            checksum_before: self.sum(txid - 1),
            wal_frame_checksum: 0,
        };
        let mut file = self.history.begin(header).unwrap();
        file.page(Pgno(1), &self.page(txid)).unwrap();
        file.publish().unwrap();
        self.sealed = txid;
    }
}

fn one_history(dir: &Path, seals: u64) {
    println!("\n## one history of {seals} seals");
    let objects: Arc<dyn Objects> = Arc::new(Directory::new(Arc::new(LocalDisk), dir.join("one/store")));
    let remote = || Remote { objects: Arc::clone(&objects), base: Key::new("data/app.db") };
    let local = dir.join("one/app.db-litestream");
    let open = |stored| History::open(Arc::new(LocalDisk), local.clone(), Some(stored)).unwrap();
    let mut growing = Growing { history: open(remote().unknown()), sealed: 0 };
    timed("sealed here", || (0..seals).for_each(|_| growing.seal()));
    let sent = timed("sent after an outage", || growing.history.ship().unwrap());
    assert_eq!(sent.files, seals);
    let listing = timed("the list", || growing.history.listing().unwrap());
    timed("noted as listed", || growing.history.was_listed(&listing));
    timed(&format!("{TIMES} further seals"), || (0..TIMES).for_each(|_| growing.seal()));
    growing.history.ship().unwrap();
    let (mut sealing, mut shipping, mut asking) = Default::default();
    for _ in 0..TIMES {
        let add = |to: &mut Duration, act: &mut dyn FnMut()| {
            let before = used();
            act();
            *to += used() - before;
        };
        add(&mut sealing, &mut || growing.seal());
        add(&mut shipping, &mut || _ = growing.history.ship().unwrap());
        add(&mut asking, &mut || _ = growing.history.awaits_list());
    }
    assert_eq!(growing.history.stored_txid(), Txid(growing.sealed));
    for (what, time) in [("a seal", sealing), ("its send", shipping), ("whether a list is lacking", asking)] {
        println!("{what}: {:.2} ms of a core", ms(time) / TIMES as f64);
    }
    let listing = growing.history.listing().unwrap();
    timed("unsent", || growing.history.unsent());
    drop(growing);
    let found = timed("found by asking", || remote().follow(listing[..1].to_vec()).unwrap());
    assert_eq!(found.files.len() as u64, listing.len() as u64);
    timed("opened", || open(found));
}

struct Volume {
    home: PathBuf,
    store: PathBuf,
    engine: Engine,
    apps: Vec<Connection>,
}

fn many_databases(dir: &Path, count: usize) {
    println!("\n## {count} databases");
    let (home, store) = (dir.join("many/home"), dir.join("many/store"));
    std::fs::create_dir_all(home.join(".stead")).unwrap();
    std::fs::create_dir_all(home.join("data")).unwrap();
    let apps: Vec<Connection> = (0..count).map(|at| app(&home, at)).collect();
    let engine = start(&home, &store);
    let mut volume = Volume { home, store, engine, apps };
    timed("first in the store", || volume.until_stored());
    volume.lists("first");
    volume.one("one commit");
    timed("nothing for 5 s", || std::thread::sleep(Duration::from_secs(5)));
    timed("a commit of each", || {
        volume.write_all();
        volume.until_stored();
    });
    volume.lists("a commit of each");
    for seconds in [2, 75] {
        let aside = volume.store.with_extension("aside");
        std::fs::rename(&volume.store, &aside).unwrap();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            volume.write_all();
            volume.engine.sync();
            std::thread::sleep(Duration::from_secs(5).min(Duration::from_secs(seconds) / 2));
        }
        let what = format!("after an outage of {seconds} s");
        std::fs::rename(&aside, &volume.store).unwrap();
        timed(&what, || volume.until_stored());
        volume.lists(&what);
    }
    volume.one("one commit");
    let Volume { engine, apps, home, .. } = volume;
    let mut apps = apps;
    apps.iter_mut().for_each(|app| _ = app.execute("INSERT INTO t VALUES(3)", ()).unwrap());
    timed("a clean stop", || engine.stop());
    drop((apps, home));
}

fn app(home: &Path, at: usize) -> Connection {
    let conn = Connection::open(home.join(format!("data/{at:04}.db"))).unwrap();
    conn.busy_timeout(Duration::from_secs(30)).unwrap();
    conn.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)",
    )
    .unwrap();
    conn
}

fn start(home: &Path, store: &Path) -> Engine {
    let ledger = Arc::new(Ledger::open(&home.join(".stead/ledger.sqlite"), None).unwrap());
    let objects = Arc::new(Directory::new(Arc::new(LocalDisk), store.to_owned()));
    let owner = Owner { id: 7, run: SystemRandom.next_u64(), node: "bench".into(), volume: "bench".into() };
    let settings = Settings {
        home: home.to_owned(),
        entries: vec![Entry::Pattern { dir: "data".into(), pattern: "*.db".into() }],
        sync_interval: Duration::from_millis(50),
        retention: Retention::default(),
        store: Some(StoreSettings {
            objects,
            owner,
            claim: Claim::Own,
            stop_timeout: None,
            configuration: None,
        }),
        epoch: Epoch(1),
        wal_limit_bytes: 1 << 30,
        checkpoint_frames: database::engine::CHECKPOINT_FRAMES,
        app_user: None,
        machine: Machine::real(),
    };
    Engine::start(settings, ledger, Arc::new(|_| {})).unwrap()
}

impl Volume {
    fn write_all(&mut self) {
        self.apps.iter().for_each(|app| _ = app.execute("INSERT INTO t VALUES(2)", ()).unwrap());
    }

    fn one(&self, what: &str) {
        let path = DatabasePath::parse("data/0000.db").unwrap();
        let stored = || {
            let history = self.engine.history(&path).unwrap();
            (history.stored_txid(), history.last().unwrap().header.max_txid)
        };
        std::thread::sleep(Duration::from_secs(2));
        let before = used();
        let mut longest = Duration::ZERO;
        for _ in 0..TIMES {
            let (_, was) = stored();
            self.apps[0].execute("INSERT INTO t VALUES(4)", ()).unwrap();
            let began = Instant::now();
            while stored().0 <= was {
                std::thread::sleep(Duration::from_millis(1));
            }
            longest = longest.max(began.elapsed());
            std::thread::sleep(Duration::from_millis(100));
        }
        std::thread::sleep(Duration::from_secs(1));
        let each = ms(used() - before) / TIMES as f64;
        println!("{what}: {each:.1} ms of a core, {:.0} ms at most until its file is there", ms(longest));
    }

    /// Until the store leads to the end of everything.
    fn until_stored(&self) {
        loop {
            let infos = self.engine.databases();
            let is = |info: &database::engine::DatabaseInfo| {
                info.dirty_since.is_none()
                    && info.position.is_some_and(|at| info.stored_txid == Some(at.txid))
            };
            if infos.len() == self.apps.len() && infos.iter().all(is) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many manifests were written up to now.
    fn lists(&self, what: &str) {
        let objects = Directory::new(Arc::new(LocalDisk), self.store.clone());
        let (manifest, _) = bucket::read(&objects).unwrap().unwrap();
        println!("  manifests written up to {what}: {}", manifest.sequence);
    }
}
