//! Offsets of blocks that live for known spans, in little more memory than the most that live at once.
//!
//! Finding the least is NP-hard (it is dynamic storage allocation); placing the largest block first is nearly always
//! within a few percent. Where it is not, the blocks that stick out at the top are placed before all others and the
//! rest follow as before, a few times over: whoever sticks out had met a landscape that its lessers had cut up.

/// A run of bytes that is needed from step `first` to step `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub bytes: usize,
    pub first: usize,
    pub last: usize,
}

/// Where every block lies, and the bytes that all of them take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub offsets: Vec<usize>,
    pub total: usize,
}

/// Orders that are tried when the first one wastes memory. Each costs a placement: 0.1 ms for 200 blocks.
const ATTEMPTS: usize = 24;

/// The waste that is not worth another attempt: a 64th of what lives at once.
const WASTE_SHIFT: u32 = 6;
/// Of more blocks than these an attempt takes milliseconds, for which so many bytes are not worth it either.
const MANY: (usize, usize) = (500, 256 << 10);

/// Places `blocks`; `live` is the most bytes of them that live at once, which no layout can beat.
pub(super) fn place(blocks: &[Block], live: usize) -> Layout {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_unstable_by_key(|i| {
        let b = &blocks[*i];
        (std::cmp::Reverse(b.bytes), b.first, b.last, *i)
    });
    let mut best = in_order(blocks, &order);
    let mut layout = best.clone();
    let waste = (live >> WASTE_SHIFT).max(if blocks.len() > MANY.0 { MANY.1 } else { 0 });
    for _ in 0..ATTEMPTS {
        if best.total <= live + waste {
            break;
        }
        let top = |i: &usize| layout.offsets[*i] + blocks[*i].bytes == layout.total;
        let (mut next, rest): (Vec<usize>, Vec<usize>) = order.iter().partition(|i| top(i));
        next.extend(rest);
        if next == order {
            break;
        }
        order = next;
        layout = in_order(blocks, &order);
        if layout.total < best.total {
            best = layout.clone();
        }
    }
    best
}

/// Each block in turn at the lowest offset where nothing that lives at the same time lies.
fn in_order(blocks: &[Block], order: &[usize]) -> Layout {
    let mut offsets = vec![0; blocks.len()];
    let mut total = 0;
    // By offset, so that the first gap that is wide enough is the lowest.
    let mut placed: Vec<usize> = Vec::with_capacity(order.len());
    for &i in order {
        let block = &blocks[i];
        let mut at = 0;
        for &other in &placed {
            let (start, other) = (offsets[other], &blocks[other]);
            if other.last < block.first || other.first > block.last {
                continue;
            }
            if at + block.bytes <= start {
                break;
            }
            at = at.max(start + other.bytes);
        }
        offsets[i] = at;
        total = total.max(at + block.bytes);
        let position = placed.partition_point(|other| offsets[*other] <= at);
        placed.insert(position, i);
    }
    Layout { offsets, total }
}

#[cfg(test)]
mod tests {
    use super::{Block, Layout, place};
    use crate::random::philox;

    fn live(blocks: &[Block]) -> usize {
        let at = |step| blocks.iter().filter(|b| b.first <= step && step <= b.last).map(|b| b.bytes).sum();
        (0..=blocks.iter().map(|b| b.last).max().unwrap_or(0)).map(at).max().unwrap_or(0)
    }

    fn sound(blocks: &[Block], layout: &Layout) {
        let range = |i: usize| layout.offsets[i]..layout.offsets[i] + blocks[i].bytes;
        for (i, a) in blocks.iter().enumerate() {
            assert!(range(i).end <= layout.total);
            for (j, b) in blocks.iter().enumerate().take(i) {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = range(i).end <= range(j).start || range(j).end <= range(i).start;
                assert!(!together || apart, "{a:?} at {:?} and {b:?} at {:?}", range(i), range(j));
            }
        }
    }

    #[test]
    fn blocks_that_live_together_lie_apart() {
        let (mut total, mut least) = (0, 0);
        for case in 0..200 {
            let block = |i: u64| {
                let [bytes, first, len, kind] = philox(case, i);
                // Mostly a chain as networks are, with a few values that live long.
                let len = if kind % 8 == 0 { len % 30 } else { len % 3 };
                let (first, last) = (first as usize % 60, first as usize % 60 + len as usize);
                Block { bytes: 64 * (1 + bytes as usize % 100), first, last }
            };
            let blocks: Vec<Block> = (0..1 + case % 90).map(block).collect();
            let live = live(&blocks);
            let layout = place(&blocks, live);
            sound(&blocks, &layout);
            assert!(layout.total >= live);
            (total, least) = (total + layout.total, least + live);
        }
        assert!(total * 100 <= least * 103, "{total} bytes for {least} live");
    }

    #[test]
    fn a_block_that_sticks_out_gets_its_place_first() {
        // Largest first: 5 and 4 lie at 0 and 5 (steps 1 and 2), so that the 3s of steps 0 to 1 and 2 to 3 have
        // to lie on top of both. With those placed before, everything fits what lives at once.
        let block = |bytes, first, last| Block { bytes, first, last };
        let blocks =
            [block(5, 1, 1), block(4, 1, 2), block(3, 0, 1), block(3, 2, 3), block(2, 2, 2), block(9, 3, 3)];
        let live = live(&blocks);
        let layout = place(&blocks, live);
        sound(&blocks, &layout);
        assert_eq!(layout.total, live);
    }

    #[test]
    fn no_block_takes_no_byte() {
        assert_eq!(place(&[], 0), Layout { offsets: vec![], total: 0 });
    }
}
