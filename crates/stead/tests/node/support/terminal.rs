//! A terminal with a shell in it, as a person has one: util-linux's `script` makes it.

use super::{DEADLINE, Home, STEAD};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

/// What runs in it, and what it has shown so far.
pub struct Terminal {
    child: Child,
    keyboard: Option<ChildStdin>,
    chunks: Receiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    /// Runs shell words in a terminal of so many columns and 24 rows. `stead` is the program, for this home.
    pub fn run(home: &Home, columns: u16, words: &str) -> Terminal {
        Terminal::run_with(home, columns, words, &[("TERM", "xterm")])
    }

    /// The same with variables.
    pub fn run_with(home: &Home, columns: u16, words: &str, variables: &[(&str, &str)]) -> Terminal {
        let script = format!(
            "stty cols {columns} rows 24; trap : INT; stead() {{ '{STEAD}' --home '{}' \"$@\"; }}; {words}",
            home.root().display()
        );
        // Whoever runs the tests may ignore Ctrl-C, and a shell cannot change that back.
        let mut command = Command::new("env");
        command.args([
            "--default-signal=INT,QUIT",
            "script",
            "--quiet",
            "--return",
            "--command",
            &script,
            "/dev/null",
        ]);
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "CI", "STEAD_NODE", "STEAD_TOKEN"] {
            command.env_remove(name);
        }
        command.env("SHELL", "/bin/sh").envs(variables.iter().copied());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (keyboard, mut screen) = (child.stdin.take(), child.stdout.take().unwrap());
        let (sender, chunks) = channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut chunk) {
                if sender.send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keyboard, chunks, shown: String::new() }
    }

    /// Waits until it has shown something.
    pub fn until(&mut self, what: &str, is: impl Fn(&str) -> bool) -> &mut Terminal {
        let started = Instant::now();
        while !is(&self.shown) {
            let left = DEADLINE.saturating_sub(started.elapsed());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.shown.push_str(&String::from_utf8_lossy(&chunk)),
                Err(why) => panic!("never: {what} ({why})\n{:?}", self.shown),
            }
        }
        self
    }

    /// Waits until it has shown a text.
    pub fn until_shown(&mut self, text: &str) -> &mut Terminal {
        self.until(text, |shown| shown.contains(text))
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) -> &mut Terminal {
        let keyboard = self.keyboard.as_mut().unwrap();
        keyboard.write_all(keys.as_bytes()).and_then(|()| keyboard.flush()).unwrap();
        self
    }

    /// Waits for the end of what runs in it; everything that was shown.
    pub fn end(&mut self) -> String {
        let started = Instant::now();
        loop {
            match self.chunks.recv_timeout(DEADLINE.saturating_sub(started.elapsed())) {
                Ok(chunk) => self.shown.push_str(&String::from_utf8_lossy(&chunk)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("never: the end\n{:?}", self.shown),
            }
        }
        self.child.wait().unwrap();
        std::mem::take(&mut self.shown)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // What runs in it is hung up with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
