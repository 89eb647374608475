//! Choosing between two tensors.

use super::Broadcast;

/// `out[i] = cond[i] != 0 ? a[i] : b[i]`, the three broadcast as `shape` (`[cond, a, b]`) says. Only bits move,
/// so any element type of the right size serves.
///
/// # Panics
/// When a slice is not as long as `shape` says.
pub fn select<T: Copy>(shape: &Broadcast<3>, cond: &[u8], a: &[T], b: &[T], out: &mut [T]) {
    for (n, len) in [cond.len(), a.len(), b.len()].into_iter().enumerate() {
        assert_eq!(len, shape.operand_len(n), "length of operand {n} is not its shape's");
    }
    assert_eq!(out.len(), shape.len(), "length of the result is not its shape's");
    let len = shape.row_len();
    let [sc, sa, sb] = [0, 1, 2].map(|n| shape.row_stride(n));
    shape.each_row(|[ic, ia, ib], o| {
        let out = &mut out[o..o + len];
        if sc == 0 {
            let (x, i, stride) = if cond[ic] != 0 { (a, ia, sa) } else { (b, ib, sb) };
            if stride == 0 {
                out.fill(x[i])
            } else {
                out.copy_from_slice(&x[i..i + len])
            }
            return;
        }
        let cond = &cond[ic..ic + len];
        if sa == 1 && sb == 1 {
            for (((o, c), a), b) in out.iter_mut().zip(cond).zip(&a[ia..ia + len]).zip(&b[ib..ib + len]) {
                *o = if *c != 0 { *a } else { *b };
            }
        } else {
            for (i, (o, c)) in out.iter_mut().zip(cond).enumerate() {
                *o = if *c != 0 { a[ia + i * sa] } else { b[ib + i * sb] };
            }
        }
    });
}
