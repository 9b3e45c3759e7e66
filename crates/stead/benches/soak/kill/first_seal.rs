//! The first seal after a restart: how many pages it holds, and how many differ from the seal before it.

use super::super::journal::Nanos;
use super::super::node::Node;
use serde_json::Value;

/// One seal against the one before.
#[derive(Clone, Copy, Debug)]
pub struct FirstSeal {
    /// Pages in its file.
    pub pages: u64,
    /// Pages of the database that are not as they were, or new.
    pub differing: u64,
    /// Pages in the database.
    pub database: u64,
}

/// The first seal of a database after a moment; `None` where there is none before or after it.
pub fn after(node: &Node, path: &str, moment: Nanos) -> Option<FirstSeal> {
    let log = node.ok("GET", &format!("/databases/{path}?view=log"), "");
    let files = log["files"].as_array().unwrap();
    let number = |file: &Value, key: &str| file[key].as_u64().unwrap();
    let created = |file: &&Value| super::super::load::moment(&file["created"]);
    let before =
        files.iter().filter(|file| created(file) <= moment).map(|file| number(file, "max_txid")).max()?;
    let first =
        files.iter().find(|file| number(file, "level") == 0 && number(file, "min_txid") == before + 1)?;
    let pages =
        node.home().join(format!("{path}-litestream/ltx/0/{:016x}-{:016x}.ltx", before + 1, before + 1));
    let pages = pages_of(&std::fs::read(pages).unwrap());
    let (was, is) = (node.image(path, before), node.image(path, before + 1));
    let size = usize::from(u16::from_be_bytes([is[16], is[17]]));
    assert_eq!(number(first, "commit") as usize, is.len() / size);
    let same = |(index, page): &(usize, &[u8])| was.get(index * size..(index + 1) * size) == Some(*page);
    let differing = is.chunks(size).enumerate().filter(|page| !same(page)).count() as u64;
    Some(FirstSeal { pages, differing, database: (is.len() / size) as u64 })
}

fn pages_of(file: &[u8]) -> u64 {
    let (_, index) = ltx::Index::read(&file).unwrap();
    index.len() as u64
}
