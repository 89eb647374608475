//! Bytes for blobs of which an input says the lengths.

/// All blobs together.
const MOST: u64 = 1 << 20;

/// Cuts `bytes` into blobs of these lengths; where they end, numbers go on that are neither equal nor ordered, so that an input need not
/// hold all of a matrix. `None` when the blobs together are beyond 1 MiB.
pub fn cut(lens: impl Iterator<Item = u64> + Clone, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let total = lens.clone().try_fold(0u64, |total, len| total.checked_add(len))?;
    if total > MOST {
        return None;
    }
    let mut at = 0;
    let mut next = || {
        at += 1;
        bytes.get(at - 1).copied().unwrap_or((at as u8).wrapping_mul(0x9d) ^ (at >> 8) as u8)
    };
    Some(lens.map(|len| (0..len).map(|_| next()).collect()).collect())
}
