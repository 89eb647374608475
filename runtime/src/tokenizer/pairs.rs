//! Byte-pair merges: of all neighbours that a merge is known for, the pair of the least rank becomes one token, the leftmost first.

use super::word;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Words of a merge: left, right, rank, what becomes of them.
const WORDS: usize = 4;
/// No symbol.
const END: usize = usize::MAX;

/// A table of merges, ascending by left and right.
#[derive(Clone, Copy)]
pub(super) struct Pairs<'a> {
    bytes: &'a [u8],
    count: usize,
}

/// A token of a piece, and its neighbours that are left.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    before: usize,
    after: usize,
}

impl<'a> Pairs<'a> {
    pub fn new(bytes: &'a [u8]) -> Pairs<'a> {
        Pairs { bytes, count: bytes.len() / (4 * WORDS) }
    }

    fn entry(&self, i: usize) -> [u32; WORDS] {
        std::array::from_fn(|j| word(self.bytes, WORDS * i + j))
    }

    /// Whether merges ascend and are of so many tokens.
    pub fn is_sound(&self, tokens: usize) -> bool {
        let known = |i: usize| {
            let [left, right, _, merged] = self.entry(i);
            [left, right, merged].iter().all(|id| (*id as usize) < tokens)
        };
        let key = |i: usize| (self.entry(i)[0], self.entry(i)[1]);
        (0..self.count).all(known) && (1..self.count).all(|i| key(i - 1) < key(i))
    }

    /// Rank and result of a pair.
    fn find(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle);
            match (entry[0], entry[1]).cmp(&(left, right)) {
                std::cmp::Ordering::Equal => return Some((entry[2], entry[3])),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Appends what becomes of tokens when all merges are made. A queue keeps the time at `n log n` for pieces of any length.
    pub fn merge(&self, tokens: impl Iterator<Item = u32>, out: &mut Vec<u32>) {
        let mut symbols: Vec<Symbol> = tokens
            .enumerate()
            .map(|(i, id)| Symbol { id, before: i.wrapping_sub(1), after: i + 1 })
            .collect();
        let Some(last) = symbols.last_mut() else { return };
        last.after = END;
        let mut queue = BinaryHeap::new();
        let pair = |symbols: &[Symbol], left: usize| {
            let after = symbols[left].after;
            let right = symbols.get(after)?;
            let (rank, merged) = self.find(symbols[left].id, right.id)?;
            Some(Reverse((rank, left, merged, symbols[left].id, right.id)))
        };
        queue.extend((0..symbols.len()).filter_map(|left| pair(&symbols, left)));
        while let Some(Reverse((_, left, merged, was_left, was_right))) = queue.pop() {
            let Symbol { id, before, after } = symbols[left];
            // A pair that is no more was queued before one of the two was merged; what is merged away has no id that a pair has.
            if id != was_left || symbols.get(after).is_none_or(|right| right.id != was_right) {
                continue;
            }
            let behind = symbols[after].after;
            symbols[after].id = u32::MAX;
            symbols[left] = Symbol { id: merged, before, after: behind };
            if let Some(next) = symbols.get_mut(behind) {
                next.before = left;
            }
            queue.extend(pair(&symbols, left));
            if before < symbols.len() {
                queue.extend(pair(&symbols, before));
            }
        }
        let mut at = 0;
        while let Some(symbol) = symbols.get(at) {
            out.push(symbol.id);
            at = symbol.after;
        }
    }
}
