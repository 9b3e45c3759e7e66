//! A clean stop: the store is given what it lacks, for as long as that may take.

use super::Shared;
use super::send::Failed;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a stop looks whether the threads that send have ended.
const LOOK_AT_END: Duration = Duration::from_millis(5);

impl Shared {
    /// Sends everything, as at a clean stop, and says in the store that all is there.
    fn send_to_the_end(&self) -> Result<(), Failed> {
        self.try_take_store().map_err(|_| Failed::Store)?;
        let bucket = self.bucket().filter(|_| !self.store_is_refused()).ok_or(Failed::Store)?;
        self.seal_ledger(true).map_err(|error| {
            tracing::error!(event = "ledger not sent", %error);
            Failed::Elsewhere
        })?;
        let mut all = !self.left_behind.load(Ordering::SeqCst) && self.unfinished().is_none();
        if !self.former_are_sent() {
            all &= self.send_all_former(&bucket, &|| false) == Ok(true);
        }
        for slot in self.slots() {
            all &= self.send_database(&bucket, &slot, &|| false).is_ok();
            all &= self.list_in_time(&bucket).is_ok();
            if self.store_is_refused() || (!all && self.store_is_away()) {
                return Err(Failed::Elsewhere);
            }
        }
        self.list_sent(&bucket)?;
        // What it names and that could not be sent is sent by the next start; the rest is not to wait for that.
        self.ship_ledger(&bucket)?;
        self.keep_configuration(&bucket)?;
        self.list_what_changed(&bucket)?;
        self.show_stored(&bucket);
        if !all || !self.is_all_stored() {
            return Err(Failed::Elsewhere);
        }
        if let Err(error) = bucket.release() {
            tracing::warn!(event = "store not released", %error, "what it has is there");
        }
        Ok(())
    }

    /// Whether the store leads to the last seal of everything: a seal that is damaged here is not sent.
    fn is_all_stored(&self) -> bool {
        let followed = self.slots().into_iter().filter(|slot| slot.position().is_some());
        let histories = followed.filter_map(|slot| slot.history());
        let ledger = self.ledger_history().map(|(_, history)| history);
        histories
            .chain(ledger)
            .all(|history| history.last().is_none_or(|last| history.stored_txid() >= last.header.max_txid))
    }
}

/// Gives the store what it lacks, for as long as a stop may take in all; whoever is stuck in a request is left behind.
pub(super) fn send_the_rest(shared: &Arc<Shared>, senders: Vec<JoinHandle<()>>) {
    let Some(settings) = &shared.settings.store else { return };
    let Some(limit) = settings.stop_timeout else {
        senders.into_iter().for_each(|sender| drop(sender.join()));
        // What it lacks is told, and sent at the next start.
        let _ = shared.send_to_the_end();
        return;
    };
    let until = shared.now() + limit;
    let late = || {
        tracing::warn!(
            event = "store not sent all",
            seconds = limit.as_secs(),
            "the next start of this home sends the rest"
        )
    };
    while !senders.iter().all(JoinHandle::is_finished) {
        if shared.now() >= until {
            return late();
        }
        shared.settings.machine.clock.sleep(LOOK_AT_END);
    }
    let (done, ended) = std::sync::mpsc::channel();
    let rest = Arc::clone(shared);
    let sending = std::thread::Builder::new().name("stead-store-end".to_owned()).spawn(move || {
        let _ = rest.send_to_the_end();
        // Whoever waited may have stopped waiting.
        let _ = done.send(());
    });
    match sending {
        Ok(_) if ended.recv_timeout(until.saturating_sub(shared.now())).is_ok() => {}
        Ok(_) => late(),
        Err(error) => tracing::error!(event = "no thread", name = "the rest for the store", %error),
    }
}
