//! Any bytes as an LTX file read from front to back. What passes must encode to a file with the same contents.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ltx::{DecodeError, Decoder, Encoder};

fn decode(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = Decoder::new(bytes)?;
    let mut page = vec![0; decoder.header().page_size as usize];
    let mut encoder = Encoder::new(Vec::new(), *decoder.header()).expect("what is decoded can be encoded");
    while let Some(pgno) = decoder.next_page(&mut page)? {
        encoder.page(pgno, &page).expect("what is decoded can be encoded");
    }
    decoder.finish()?;
    Ok(encoder.finish().expect("what is decoded can be encoded").0)
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(again) = decode(bytes) {
        assert_eq!(decode(&again).expect("what is encoded can be decoded"), again);
    }
});
