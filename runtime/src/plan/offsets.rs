//! Offsets of blocks that live for known spans, in little more memory than the most that live at once.
//!
//! Finding the least is NP-hard (it is dynamic storage allocation); placing the largest block first is nearly always
//! within a few percent. Where it is not, the blocks that stick out at the top are placed before all others and the
//! rest follow as before, a few times over: whoever sticks out had met a landscape that its lessers had cut up.

use crate::sort;

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

/// Of more blocks than these, those that stay to the end are placed side by side, when they are most of what lives at once: as where
/// all values of a model are kept. One by one they would take the square of their number.
const KEPT: usize = 4096;

/// Places `blocks`; `live` is the most bytes of them that live at once, which no layout can beat.
pub(super) fn place(blocks: &[Block], live: usize) -> Layout {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    sort::by_key(&mut order, |i| {
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
    let layout = Layout { offsets: vec![0; blocks.len()], total: 0 };
    if let Some(mut steps) = Steps::of(blocks) {
        return among(blocks, order, layout, &mut steps);
    }
    match side_by_side(blocks, order) {
        Some((layout, mut placed, rest)) => among(blocks, &rest, layout, &mut placed),
        None => among(blocks, order, layout, &mut Sorted(Vec::with_capacity(order.len()))),
    }
}

/// The blocks that stay to the end one after the other, those still to be placed, where that takes far less time and hardly more bytes.
fn side_by_side(blocks: &[Block], order: &[usize]) -> Option<(Layout, Sorted, Vec<usize>)> {
    let end = blocks.iter().map(|b| b.last).max()?;
    let (kept, rest): (Vec<usize>, Vec<usize>) = order.iter().partition(|i| blocks[**i].last == end);
    let bytes = |of: &[usize]| of.iter().map(|i| blocks[*i].bytes).sum::<usize>();
    if blocks.len() <= KEPT || kept.len() < blocks.len() / 2 || bytes(&kept) < bytes(&rest) {
        return None;
    }
    let mut layout = Layout { offsets: vec![0; blocks.len()], total: 0 };
    for &i in &kept {
        layout.offsets[i] = layout.total;
        layout.total += blocks[i].bytes;
    }
    Some((layout, Sorted(kept), rest))
}

/// [`in_order`] after what `layout` has, the blocks that have their places kept as `placed` keeps them.
fn among(blocks: &[Block], order: &[usize], mut layout: Layout, placed: &mut dyn Placed) -> Layout {
    for &i in order {
        let block = &blocks[i];
        let mut at = 0;
        // By offset, so that the first gap that is wide enough is the lowest.
        for &other in placed.beside(blocks, &layout.offsets, block) {
            let (start, other) = (layout.offsets[other], &blocks[other]);
            if other.last < block.first || other.first > block.last {
                continue;
            }
            if at + block.bytes <= start {
                break;
            }
            at = at.max(start + other.bytes);
        }
        layout.offsets[i] = at;
        layout.total = layout.total.max(at + block.bytes);
        placed.add(&layout.offsets, i, block);
    }
    layout
}

/// The blocks that have their places.
trait Placed {
    /// Those that live while `block` does, and perhaps others, by offset.
    fn beside(&mut self, blocks: &[Block], offsets: &[usize], block: &Block) -> &[usize];
    /// Adds `block`, the `i`th.
    fn add(&mut self, offsets: &[usize], i: usize, block: &Block);
}

/// One list by offset: all placed blocks are looked at for each, whatever lives when.
struct Sorted(Vec<usize>);

impl Placed for Sorted {
    fn beside(&mut self, _: &[Block], _: &[usize], _: &Block) -> &[usize] {
        &self.0
    }

    fn add(&mut self, offsets: &[usize], i: usize, _: &Block) {
        insert(&mut self.0, offsets, i);
    }
}

/// Adds a block to some in the order of their offsets.
fn insert(sorted: &mut Vec<usize>, offsets: &[usize], i: usize) {
    let position = sorted.partition_point(|other| offsets[*other] <= offsets[i]);
    sorted.insert(position, i);
}

/// The blocks that live in each step: little to look at where most live shortly, as in a long chain.
struct Steps {
    steps: Vec<Vec<usize>>,
    beside: Vec<usize>,
}

impl Steps {
    /// `None` where one list of all is looked through as fast.
    fn of(blocks: &[Block]) -> Option<Steps> {
        let steps = blocks.iter().map(|b| b.last + 1).max()?;
        let mut change = vec![0isize; steps + 1];
        for block in blocks {
            change[block.first] += 1;
            change[block.last + 1] -= 1;
        }
        let mut live = 0;
        // Blocks that live before a step, counted once for each step that they live in.
        let mut looks = vec![0usize; steps + 1];
        for step in 0..steps {
            live += change[step];
            looks[step + 1] = looks[step] + live as usize;
        }
        let each: usize = blocks.iter().map(|b| looks[b.last + 1] - looks[b.first]).sum();
        // Lists of steps are sorted and have one block several times.
        (each.saturating_mul(16) < blocks.len().saturating_mul(blocks.len()))
            .then(|| Steps { steps: vec![Vec::new(); steps], beside: Vec::new() })
    }
}

impl Placed for Steps {
    fn beside(&mut self, blocks: &[Block], offsets: &[usize], block: &Block) -> &[usize] {
        self.beside.clear();
        for step in block.first..=block.last {
            // Each block where it is met first.
            for &i in self.steps[step].iter().filter(|i| blocks[**i].first == step || step == block.first) {
                insert(&mut self.beside, offsets, i);
            }
        }
        &self.beside
    }

    fn add(&mut self, _: &[usize], i: usize, block: &Block) {
        self.steps[block.first..=block.last].iter_mut().for_each(|step| step.push(i));
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, Layout, Sorted, Steps, among, place};
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
    fn lists_of_steps_give_the_places_that_one_list_gives() {
        let mut chosen = 0;
        for case in 0..40 {
            let block = |i: u64| {
                let [bytes, first, len, _] = philox(1000 + case, i);
                let (first, len) = (first as usize % 2000, len as usize % 4);
                Block { bytes: 64 * (1 + bytes as usize % 100), first, last: first + len }
            };
            let blocks: Vec<Block> = (0..2 + case * 50).map(block).collect();
            let order: Vec<usize> = (0..blocks.len()).collect();
            let mut steps = Steps { steps: vec![Vec::new(); 2004], beside: Vec::new() };
            let none = Layout { offsets: vec![0; blocks.len()], total: 0 };
            let one = among(&blocks, &order, none.clone(), &mut Sorted(Vec::new()));
            sound(&blocks, &one);
            let each = among(&blocks, &order, none, &mut steps);
            sound(&blocks, &each);
            assert_eq!(each, one);
            chosen += usize::from(Steps::of(&blocks).is_some());
        }
        assert!((20..40).contains(&chosen), "{chosen}");
        let all = vec![Block { bytes: 64, first: 0, last: 999 }; 1000];
        assert!(Steps::of(&all).is_none(), "where all live all the time there is one list");
    }

    #[test]
    fn blocks_that_stay_lie_side_by_side() {
        let block = |i: usize| Block { bytes: 64 * (1 + i % 7), first: i, last: 6000 };
        let passing = |i: usize| Block { bytes: 320, first: 10 * i, last: 10 * i + 3 };
        let blocks: Vec<Block> = (0..6000).map(block).chain((0..100).map(passing)).collect();
        let order: Vec<usize> = (0..blocks.len()).collect();
        let (_, _, rest) = super::side_by_side(&blocks, &order).unwrap();
        assert_eq!(rest, (6000..6100).collect::<Vec<_>>());
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
