//! A race: two nodes want one store.

use super::super::Dice;
use super::super::node::until;
use super::round::watched;
use super::servers::Kind;
use super::site::{DATABASES, Party, REST, Site};
use super::told::Told;
use std::path::Path;
use std::time::{Duration, Instant};

/// How it comes about.
#[derive(Clone, Copy, Debug)]
enum Race {
    /// One takes over while the other writes.
    Takeover,
    /// The owner is lost, and two want to follow it at once.
    Heirs,
    /// The owner is lost, followed by another, and comes back.
    Return,
}

/// Runs one; panics where anything is not as promised.
pub fn run(number: u64, kind: Kind, dir: &Path, dice: &mut Dice) {
    let race = [Race::Takeover, Race::Heirs, Race::Return][number as usize % 3];
    let began = Instant::now();
    let site = Site::new(kind, dir);
    let first = site.found("first");
    let head_start = Duration::from_millis(1500 + dice.below(2000) as u64);
    let (winner, told) = match race {
        Race::Takeover => takeover(&site, first, head_start),
        Race::Heirs => heirs(&site, first, head_start, dice),
        Race::Return => comes_back(&site, first, head_start),
    };
    let mut later = Told::default();
    until("the winner has written", || winner.noted() > 0);
    later.take_checkpoint(winner.noted(), &winner.checkpoint());
    until("the store has what the winner wrote", || {
        winner.status().is_some_and(|status| {
            later.take_status(&status);
            later.stored().next().is_some()
        })
    });
    winner.kill();
    // Nothing would be proven by a race in which nobody was told anything.
    assert!(DATABASES.iter().all(|path| told.rows(path) > 0 && later.rows(path) > 0));
    hold(&site, &told, &later);
    println!(
        "race {number}, {kind:?}: {race:?}: first told of rows to {:?}, the winner's to {:?}, {:.1} s",
        DATABASES.map(|path| told.rows(path)),
        DATABASES.map(|path| later.rows(path)),
        began.elapsed().as_secs_f64()
    );
}

fn takeover(site: &Site, first: Party, head_start: Duration) -> (Party, Told) {
    let (second, told) = watched(&first, || {
        first.be_told();
        std::thread::sleep(head_start);
        let second = site.heir("second");
        second.node.until_healthy();
        until("the former owner is told", || first.knows_that_it_lost());
        second
    });
    first.kill();
    (second, told)
}

/// Loses the owner while it writes; what it was told until then.
fn lose(first: Party, head_start: Duration) -> Told {
    let ((), told) = watched(&first, || {
        first.be_told();
        std::thread::sleep(head_start);
    });
    first.kill();
    told
}

fn heirs(site: &Site, first: Party, head_start: Duration, dice: &mut Dice) -> (Party, Told) {
    let told = lose(first, head_start);
    let mut second = site.heir("second");
    std::thread::sleep(Duration::from_millis(dice.below(400) as u64));
    let mut third = site.heir("third");
    let has_lost = |party: &mut Party| party.node.has_ended() || party.knows_that_it_lost();
    let mut second_won = false;
    until("one of both has the store, and the other is told", || {
        second_won = second.node.complaint().is_none() && has_lost(&mut third);
        second_won || (third.node.complaint().is_none() && has_lost(&mut second))
    });
    let (winner, loser) = if second_won { (second, third) } else { (third, second) };
    loser.kill();
    (winner, told)
}

fn comes_back(site: &Site, first: Party, head_start: Duration) -> (Party, Told) {
    let told = lose(first, head_start);
    let second = site.heir("second");
    second.node.until_healthy();
    let back = site.restart("first");
    until("the former owner is told at its start", || back.knows_that_it_lost());
    back.kill();
    (second, told)
}

/// One chain, whole: what the first node was told is there as it wrote it, and what the winner was told follows.
fn hold(site: &Site, first: &Told, winner: &Told) {
    let heir = site.heir(REST);
    heir.node.until_healthy();
    for (path, found) in heir.rows() {
        let (told, later) = (first.rows(path), winner.rows(path));
        assert!(found >= told.max(later), "{path}: {told} and {later} rows were stored, {found} are there");
        let foreign = heir.foreign_rows(path, told, "first");
        assert_eq!(
            foreign, 0,
            "{path}: of {told} rows that the first was told are stored, these are another's"
        );
    }
    for made in first.stored().chain(winner.stored()) {
        heir.node.ok("GET", &format!("/checkpoint/{}", made.id), "");
    }
    heir.kill();
}
