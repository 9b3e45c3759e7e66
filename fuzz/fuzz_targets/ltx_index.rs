//! Any bytes as an LTX file read by its page index.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ltx::{Index, read_page};

fuzz_target!(|bytes: &[u8]| {
    let file = bytes.to_vec();
    let Ok((header, index)) = Index::read(&file) else { return };
    assert_eq!(index.iter().count(), index.len());
    let mut page = vec![0; header.page_size as usize];
    for (pgno, frame) in &index {
        assert_eq!(index.find(pgno), Some(frame));
        let _ = read_page(&file, frame, pgno, header.page_size, &mut page);
    }
});
