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

/// A part of a piece, and its neighbours that are left.
#[derive(Clone, Copy)]
pub(super) struct Symbol {
    /// Its token, if it is one.
    pub id: u32,
    /// Where it begins in the piece,
    pub start: usize,
    /// and ends; 0 once it is part of the one before.
    pub end: usize,
    before: usize,
    after: usize,
}

/// Parts that follow one another, each an id and where it ends.
pub(super) fn symbols(parts: impl Iterator<Item = (u32, usize)>) -> Vec<Symbol> {
    let mut start = 0;
    let mut symbols: Vec<Symbol> = parts
        .enumerate()
        .map(|(i, (id, end))| Symbol {
            id,
            start: std::mem::replace(&mut start, end),
            end,
            before: i.wrapping_sub(1),
            after: i + 1,
        })
        .collect();
    if let Some(last) = symbols.last_mut() {
        last.after = END;
    }
    symbols
}

/// Makes neighbours one as long as `find` knows a pair: the one of the least rank, the leftmost of equal ones; then calls `see` with what is left. A
/// queue keeps the time at `n log n` for pieces of any length.
pub(super) fn merge<R: Ord>(
    symbols: &mut [Symbol],
    find: impl Fn(&Symbol, &Symbol) -> Option<(R, u32)>,
    mut see: impl FnMut(&Symbol),
) {
    let mut queue = BinaryHeap::new();
    let pair = |symbols: &[Symbol], left: usize| {
        let right = symbols.get(symbols[left].after)?;
        let (rank, merged) = find(&symbols[left], right)?;
        Some(Reverse((rank, left, merged, symbols[left].end, right.end)))
    };
    queue.extend((0..symbols.len()).filter_map(|left| pair(symbols, left)));
    while let Some(Reverse((_, left, merged, middle, end))) = queue.pop() {
        let Symbol { start, end: is_middle, before, after, .. } = symbols[left];
        // A pair that is no more was queued before one of the two was merged: then one of them ends elsewhere.
        if is_middle != middle || symbols.get(after).is_none_or(|right| right.end != end) {
            continue;
        }
        let behind = symbols[after].after;
        symbols[after].end = 0;
        symbols[left] = Symbol { id: merged, start, end, before, after: behind };
        if let Some(next) = symbols.get_mut(behind) {
            next.before = left;
        }
        queue.extend(pair(symbols, left));
        if before < symbols.len() {
            queue.extend(pair(symbols, before));
        }
    }
    let mut at = 0;
    while let Some(symbol) = symbols.get(at) {
        see(symbol);
        at = symbol.after;
    }
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

    /// Appends what becomes of tokens when all merges are made.
    pub fn merge(&self, tokens: impl Iterator<Item = u32>, out: &mut Vec<u32>) {
        let mut symbols = symbols(tokens.enumerate().map(|(i, id)| (id, i + 1)));
        merge(&mut symbols, |left, right| self.find(left.id, right.id), |symbol| out.push(symbol.id));
    }
}
