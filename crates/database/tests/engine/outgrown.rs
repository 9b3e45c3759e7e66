//! What is kept of files that lived under a name before.

use super::lost::{Away, another, check_point, entries, sent_row, taken_over};
use super::tenure::{rest, stepped_with};
use super::*;
use base::Incarnation;
use base::sim::SimClock;
use database::history::local_base;

const KEEP: Duration = Duration::from_secs(3600);

/// A database that was replaced so often, each time by one of some 100 KB; the engine that followed all of that.
struct Replaced {
    world: World,
    clock: SimClock,
    engine: Engine,
    ledger: Arc<Ledger>,
}

impl Replaced {
    fn new(world: World, local_bytes: u64) -> Replaced {
        let clock = SimClock::new(base::Timestamp(1_795_255_200_000));
        let (engine, ledger, _) = stepped_with(&world, &clock, Retention { keep: KEEP, local_bytes });
        Replaced { world, clock, engine, ledger }
    }

    fn pass(&self, time: Duration) {
        self.engine.files_changed();
        rest(&self.engine, &self.clock, time);
    }

    fn replace(&self, times: usize) {
        for _ in 0..times {
            remove(&self.world.home.join(NAME));
            self.pass(Duration::from_secs(10));
            self.fill();
        }
    }

    fn fill(&self) {
        let app = self.world.app("database.sqlite");
        app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x)").unwrap();
        for _ in 0..10 {
            app.execute("INSERT INTO t VALUES(hex(randomblob(5000)))", ()).unwrap();
        }
        self.pass(Duration::from_secs(10));
        self.engine.cut(LIMIT).unwrap();
        self.pass(Duration::from_secs(60));
    }

    fn base(&self, number: u32) -> PathBuf {
        local_base(&self.world.home.join(NAME), Incarnation(number))
    }

    /// The incarnations that have history here.
    fn here(&self) -> Vec<u32> {
        (1..10).filter(|number| self.base(*number).exists()).collect()
    }

    /// Those that the store lists.
    fn stored(&self) -> Vec<String> {
        let store = settings_of(self.world.store.as_ref().unwrap(), self.world.id, Claim::Own);
        let (manifest, _) = database::bucket::read(&*store.objects).unwrap().unwrap();
        manifest.histories.into_keys().filter(|key| !key.starts_with(".stead/")).collect()
    }
}

/// A moment that nothing has followed says how everything stands, however old it is.
#[test]
fn what_was_idle_for_long_can_be_had_after_it_was_deleted() {
    for with_store in [false, true] {
        let world = if with_store { World::with_store() } else { World::new() };
        let replaced = Replaced::new(world, 1 << 30);
        replaced.fill();
        replaced.pass(KEEP * 3);
        let before = base::Clock::now(&replaced.clock);
        replaced.clock.advance(Duration::from_secs(1));
        replaced.replace(1);
        for _ in 0..4 {
            replaced.fill_more();
        }
        assert_eq!(replaced.here(), [1, 2]);
        let (_, vector) = replaced.ledger.vector_at(before).unwrap().unwrap();
        let at = vector[&path(NAME)];
        assert_eq!(at.incarnation, Incarnation(1));
        let history = replaced.engine.history_at(&path(NAME), at.incarnation).unwrap();
        assert!(history.plan(at.txid).is_ok());
        replaced.engine.stop();
    }
}

// semantics: former-files
#[test]
fn a_former_history_that_nothing_holds_goes_once_its_time_is_over() {
    for with_store in [false, true] {
        let world = if with_store { World::with_store() } else { World::new() };
        let replaced = Replaced::new(world, 1 << 30);
        replaced.fill();
        replaced.replace(1);
        check_point(&replaced.engine, &replaced.ledger, "held");
        replaced.replace(2);
        replaced.pass(KEEP / 2);
        replaced.fill_more();
        assert_eq!(replaced.here(), [1, 2, 3, 4], "each may be asked for");
        replaced.pass(KEEP * 2);
        for _ in 0..3 {
            replaced.fill_more();
        }
        assert_eq!(replaced.here(), [2, 4], "one is held by a checkpoint, one is the file");
        if with_store {
            assert_eq!(replaced.stored(), [format!("{NAME}@2"), format!("{NAME}@4")]);
        }
        let cut = replaced.ledger.checkpoint("held").unwrap().unwrap().vector[&path(NAME)];
        let history = replaced.engine.history_at(&path(NAME), cut.incarnation).unwrap();
        assert!(history.plan(cut.txid).is_ok());
        replaced.engine.stop();
    }
}

#[test]
fn former_histories_are_within_the_local_limit_and_stay_in_the_store() {
    for with_store in [false, true] {
        let world = if with_store { World::with_store() } else { World::new() };
        let replaced = Replaced::new(world, 250_000);
        replaced.fill();
        replaced.replace(5);
        replaced.pass(Duration::from_secs(120));
        replaced.fill_more();
        let bytes: u64 = replaced.here().iter().map(|number| bytes_below(&replaced.base(*number))).sum();
        assert!(bytes <= 250_000, "{bytes} bytes in {:?}", replaced.here());
        assert!(replaced.here().len() < 6 && replaced.engine.over_limit().is_none());
        if with_store {
            assert_eq!(replaced.stored().len(), 6, "{:?}", replaced.stored());
        }
        replaced.engine.stop();
    }
}

impl Replaced {
    /// Something happens, so that somebody looks.
    fn fill_more(&self) {
        self.world.app("database.sqlite").execute("INSERT INTO t VALUES(1)", ()).unwrap();
        self.engine.sync();
        self.pass(Duration::from_secs(40));
    }
}

/// A home that came from a store has no beginning of its own, and gives up nothing while that is away.
#[test]
fn no_checkpoint_has_to_go_for_a_history_that_waits_for_its_store() {
    let first = World::with_store();
    let (engine, _ledger, _) = first.start_on(Machine::real(), entries(), 1 << 30);
    drop(sent_row(&first, &engine));
    engine.stop();
    let heir = another(&first);
    taken_over(&heir);
    let (engine, _ledger, _) = heir.start_on(Machine::real(), entries(), 1 << 30);
    until("followed", || followed(&engine, NAME));
    engine.stop();
    let away = Away::take(&heir);
    let replaced = Replaced::new(heir, 100);
    replaced.fill_more();
    replaced.fill_more();
    assert!(replaced.engine.history(&path(NAME)).unwrap().is_apart());
    assert_eq!(replaced.engine.over_limit(), None);
    away.bring_back();
    replaced.engine.stop();
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let about = entry.metadata().unwrap();
            if about.is_dir() { bytes_below(&entry.path()) } else { about.len() }
        })
        .sum()
}
