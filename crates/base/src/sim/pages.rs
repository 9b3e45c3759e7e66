//! The bytes of a file, sparse: what was never written costs nothing and reads as zeroes.

use std::collections::BTreeMap;

const PAGE_BYTES: usize = 4096;

/// Sparse bytes with a length. Invariant: every byte at or past `len` in a stored page is zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
    len: u64,
}

impl Pages {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads what there is, up to the buffer.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let wanted = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < wanted {
            let (page, start) = place(offset + done as u64);
            let count = (PAGE_BYTES - start).min(wanted - done);
            let into = &mut buffer[done..done + count];
            match self.pages.get(&page) {
                Some(bytes) => into.copy_from_slice(&bytes[start..start + count]),
                None => into.fill(0),
            }
            done += count;
        }
        wanted
    }

    /// Writes all, growing the length where needed.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let (page, start) = place(offset + done as u64);
            let count = (PAGE_BYTES - start).min(bytes.len() - done);
            let into = self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE_BYTES]));
            into[start..start + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
        if !bytes.is_empty() {
            self.len = self.len.max(offset + bytes.len() as u64);
        }
    }

    /// Cuts, or extends with zeroes.
    pub(super) fn resize(&mut self, len: u64) {
        if len < self.len {
            let (page, start) = place(len);
            self.pages.split_off(&(page + u64::from(start > 0)));
            if let Some(bytes) = self.pages.get_mut(&page) {
                bytes[start..].fill(0);
            }
        }
        self.len = len;
    }
}

fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u16, Vec<u8>),
        Resize(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u16..20_000, proptest::collection::vec(1u8.., 0..9000)).prop_map(|(at, b)| Step::Write(at, b)),
            (0u16..20_000).prop_map(Step::Resize),
        ]
    }

    proptest! {
        #[test]
        fn sparse_bytes_equal_plain_ones(steps in proptest::collection::vec(step(), 0..12)) {
            let (mut sparse, mut plain) = (Pages::default(), Vec::<u8>::new());
            for step in steps {
                match step {
                    Step::Write(at, bytes) => {
                        sparse.write(&bytes, u64::from(at));
                        let end = usize::from(at) + bytes.len();
                        if !bytes.is_empty() && plain.len() < end {
                            plain.resize(end, 0);
                        }
                        if !bytes.is_empty() {
                            plain[usize::from(at)..end].copy_from_slice(&bytes);
                        }
                    }
                    Step::Resize(len) => {
                        sparse.resize(u64::from(len));
                        plain.resize(usize::from(len), 0);
                    }
                }
            }
            let mut read = vec![7; plain.len() + 10];
            prop_assert_eq!(sparse.read(&mut read, 0), plain.len());
            prop_assert_eq!(&read[..plain.len()], &plain[..]);
        }
    }
}
