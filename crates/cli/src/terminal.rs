//! A terminal that is drawn over again and again, and given back as it was.
//!
//! What stood there is kept by the terminal's other screen; keys come one by one, unseen, so that none is left to the
//! shell. Lines longer than the terminal are cut by it, and what is too long for it is cut here. Where standard output
//! is no terminal, or one that cannot move its cursor, there is none to take.

use crate::harmless;
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use std::io::{IsTerminal, Write};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, channel};

/// The other screen, without wrapping and without a cursor; then back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?7l\u{1b}[?25l\u{1b}[2J";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?7h\u{1b}[?1049l";
/// Keys that end it: q, Ctrl-C, Ctrl-D, Escape.
const ENDING: [u8; 5] = [b'q', b'Q', 0x03, 0x04, 0x1b];
/// Keys that may wait to be looked at; a terminal that sends more is read later.
const KEYS_WAITING_MAX: usize = 16;
/// Rows and columns of a terminal that does not say how large it is.
const UNKNOWN: (usize, u16) = (24, 80);

/// What whoever sits there, or the system, wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The end.
    End,
    /// The size has changed, or a key was pressed that means nothing.
    Redraw,
}

/// A terminal, until it is dropped.
#[derive(Debug)]
pub struct Terminal {
    /// What is typed, and how the keyboard was before.
    keys: Option<(Receiver<Wish>, Termios)>,
    ends: [Signal; 3],
    resized: Signal,
}

/// Whether a terminal can move its cursor.
pub fn is_capable() -> bool {
    std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb")
}

impl Terminal {
    /// Takes the terminal on standard output, where there is one.
    pub fn take() -> Option<Terminal> {
        if !std::io::stdout().is_terminal() || !is_capable() {
            return None;
        }
        let ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [Ok(first), Ok(second), Ok(third)] = ends.map(signal) else { return None };
        let resized = signal(SignalKind::window_change()).ok()?;
        let terminal = Terminal { keys: keys(), ends: [first, second, third], resized };
        print(ENTER);
        Some(terminal)
    }

    /// How wide it is.
    pub fn columns(&self) -> Option<u16> {
        Some(size().1)
    }

    /// Draws a text over what is there, with a line at the bottom.
    pub fn draw(&mut self, text: &str, below: &str) {
        let coloured = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        let text = harmless::shown(text);
        let stripped = anstream::adapter::strip_str(&text).to_string();
        print(&frame(if coloured { &text } else { &stripped }, below, size().0));
    }

    /// Waits until something is wanted.
    pub async fn wish(&mut self) -> Wish {
        let [first, second, third] = &mut self.ends;
        tokio::select! {
            _ = first.recv() => Wish::End,
            _ = second.recv() => Wish::End,
            _ = third.recv() => Wish::End,
            _ = self.resized.recv() => Wish::Redraw,
            wish = pressed(self.keys.as_mut()) => wish,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        print(LEAVE);
        if let Some((_, before)) = &self.keys {
            // A terminal that is gone needs nothing.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// The keyboard, giving every key at once and by itself; the keys that send signals are keys like others. A thread waits
/// for them until the process ends, since a read of a terminal cannot be given up.
fn keys() -> Option<(Receiver<Wish>, Termios)> {
    let before = tcgetattr(std::io::stdin()).ok()?;
    let mut modes = before.clone();
    modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
    modes.special_codes[SpecialCodeIndex::VMIN] = 1;
    modes.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(std::io::stdin(), OptionalActions::Now, &modes).ok()?;
    let (typed, keys) = channel(KEYS_WAITING_MAX);
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        loop {
            let wish = match rustix::io::read(std::io::stdin(), &mut bytes) {
                Ok(count @ 1..) if !bytes[..count].iter().any(|key| ENDING.contains(key)) => Wish::Redraw,
                Err(rustix::io::Errno::INTR) => continue,
                // An ending key, or the terminal is gone.
                _ => Wish::End,
            };
            if typed.blocking_send(wish).is_err() || wish == Wish::End {
                return;
            }
        }
    });
    Some((keys, before))
}

async fn pressed(keys: Option<&mut (Receiver<Wish>, Termios)>) -> Wish {
    match keys {
        Some((keys, _)) => keys.recv().await.unwrap_or(Wish::End),
        None => std::future::pending().await,
    }
}

fn size() -> (usize, u16) {
    match tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (usize::from(size.ws_row), size.ws_col),
        _ => UNKNOWN,
    }
}

fn print(text: &str) {
    let mut out = std::io::stdout();
    // A terminal that is gone also ends the wait for a key.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A screen drawn over the last one: each line ends what was there before, so that nothing is blank in between.
fn frame(text: &str, below: &str, rows: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    let room = rows.saturating_sub(1);
    let mut lines: Vec<String> = all.iter().take(room).map(|line| (*line).to_owned()).collect();
    if all.len() > room && room > 0 {
        lines[room - 1] = format!("… {} more lines: make the terminal taller", all.len() - (room - 1));
    }
    lines.push(below.to_owned());
    let ended: Vec<String> = lines.iter().map(|line| format!("{line}\u{1b}[K")).collect();
    format!("\u{1b}[H{}\u{1b}[J", ended.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_drawn_over_the_last_one_and_never_blank_in_between() {
        let drawn = frame("one\ntwo", "below", 24);
        assert_eq!(drawn, "\u{1b}[Hone\u{1b}[K\ntwo\u{1b}[K\nbelow\u{1b}[K\u{1b}[J");
        assert!(!drawn.contains("\u{1b}[2J"), "the whole screen is never erased");
    }

    #[test]
    fn what_is_too_long_for_the_terminal_says_how_much_is_missing() {
        let long = (1..=10).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        let drawn = frame(&long, "below", 4);
        assert_eq!(
            drawn,
            "\u{1b}[H1\u{1b}[K\n2\u{1b}[K\n… 8 more lines: make the terminal taller\u{1b}[K\nbelow\u{1b}[K\u{1b}[J"
        );
        assert!(frame(&long, "below", 1).starts_with("\u{1b}[Hbelow"));
    }
}
