//! Simulated processes: who opened a file, who holds a lock, whose handles die in a crash.

use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<Process> = const { Cell::new(Process::FIRST) };
}

/// A simulated process id. What a thread opens belongs to its current process, [`Process::FIRST`] unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process(pub u32);

impl Process {
    /// The one that threads belong to by default.
    pub const FIRST: Process = Process(1);

    /// The process of this thread.
    pub fn current() -> Process {
        CURRENT.get()
    }

    /// Runs something as this process, on this thread.
    pub fn run<T>(self, act: impl FnOnce() -> T) -> T {
        struct Restore(Process);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(self));
        act()
    }
}
