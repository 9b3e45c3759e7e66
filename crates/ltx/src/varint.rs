//! Unsigned variable-length integers as in Go's `encoding/binary`: seven bits a byte, low bits first.

/// The most bytes that 64 bits take.
pub(crate) const BYTES_MAX: usize = 10;

/// Appends a number.
pub(crate) fn put(out: &mut Vec<u8>, value: u64) {
    let (bytes, len) = array(value);
    out.extend_from_slice(&bytes[..len]);
}

/// The bytes of a number and how many of them count.
pub(crate) fn array(mut value: u64) -> ([u8; BYTES_MAX], usize) {
    let mut bytes = [0; BYTES_MAX];
    let mut len = 0;
    while value >= 0x80 {
        bytes[len] = (value as u8) | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value as u8;
    (bytes, len + 1)
}

/// Reads a number with a source of bytes; `Ok(None)` where it is longer than 64 bits or not in its shortest form.
pub(crate) fn get<E>(mut next: impl FnMut() -> Result<u8, E>) -> Result<Option<u64>, E> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = next()?;
        if (shift == 63 && byte > 1) || (byte == 0 && shift > 0) {
            return Ok(None);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<u64> {
        let mut rest = bytes.iter();
        get(|| rest.next().copied().ok_or(())).ok().flatten()
    }

    #[test]
    fn numbers_survive_and_only_their_shortest_form_is_read() {
        for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            assert_eq!(read(&bytes), Some(value));
        }
        assert_eq!(read(&[0x80, 0x00]), None);
        assert_eq!(read(&[0xff; 10]), None);
        assert_eq!(read(&[0x80]), None);
    }
}
