//! The same work on many things by a few threads, while the caller takes what comes of it.
//!
//! With one thread everything happens in the caller, in the order of the things: a simulated machine replays one order
//! of calls. Each thread has one thing at a time, and as many results wait for the caller as there are threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, scope};

/// Does it, until the first error, which is given back. `make` gives each thread its own part (its buffers).
pub(super) fn at_once<T, R, E, W>(
    threads: usize,
    mut things: impl Iterator<Item = T> + Send,
    make: impl Fn() -> W + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E>
where
    T: Send,
    R: Send,
    E: Send,
    W: FnMut(T) -> Result<R, E>,
{
    if threads > 1 {
        let things = Mutex::new(&mut things);
        // Whoever panicked with it is not waited for: the scope passes the panic on.
        let next = || things.lock().unwrap_or_else(PoisonError::into_inner).next();
        let enough = AtomicBool::new(false);
        let (done, results) = sync_channel(threads);
        let work = |done: std::sync::mpsc::SyncSender<Result<R, E>>| {
            let mut work = make();
            while !enough.load(Ordering::Relaxed)
                && let Some(thing) = next()
                && done.send(work(thing)).is_ok()
            {}
        };
        let outcome = scope(|threads_of| {
            let mut started = 0;
            for _ in 0..threads {
                let (work, done) = (&work, done.clone());
                let thread = Builder::new().name("stead-read".to_owned());
                started += usize::from(thread.spawn_scoped(threads_of, move || work(done)).is_ok());
            }
            drop(done);
            if started == 0 {
                return None;
            }
            let mut outcome = Ok(());
            for result in results {
                outcome = outcome.and_then(|()| result.and_then(&mut take));
                enough.store(outcome.is_err(), Ordering::Relaxed);
            }
            Some(outcome)
        });
        if let Some(outcome) = outcome {
            return outcome;
        }
        // The system gives no thread: the caller does it.
    }
    let mut work = make();
    things.try_for_each(|thing| work(thing).and_then(&mut take))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_done_once_by_any_number_of_threads() {
        for threads in [1, 2, 7] {
            let mut seen = Vec::new();
            let take = |number: u32| {
                seen.push(number);
                Ok::<(), ()>(())
            };
            at_once(threads, 0..1000, || |number: u32| Ok(number * 2), take).unwrap();
            seen.sort_unstable();
            assert_eq!(seen, (0..1000).map(|number| number * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        for threads in [1, 4] {
            let work = || |number: u32| if number == 50 { Err("fifty") } else { Ok(number) };
            assert_eq!(at_once(threads, 0..1_000_000, work, |_| Ok(())), Err("fifty"), "in a thread");
            let take = |number: u32| if number == 70 { Err("seventy") } else { Ok(()) };
            assert_eq!(at_once(threads, 0..1_000_000, || Ok, take), Err("seventy"), "in the caller");
        }
    }
}
