//! Sorting in little code: one copy of the algorithm for every type and order, where the standard library has one of 3 KB for each.
//!
//! For lists of planning and opening, which are short; it takes memory of its own, so nothing that runs per inference sorts by it.

use std::cmp::Ordering;

/// Sorts by a comparison; equal elements keep their order.
pub(crate) fn by<T>(items: &mut [T], mut compare: impl FnMut(&T, &T) -> Ordering) {
    let mut place = {
        let items = &*items;
        places(items.len(), &mut |a, b| compare(&items[a], &items[b]).is_gt())
    };
    // Every swap brings one element where it belongs.
    for i in 0..place.len() {
        while place[i] != i {
            let to = place[i];
            items.swap(i, to);
            place.swap(i, to);
        }
    }
}

/// Sorts by a key, smallest first; equal elements keep their order.
pub(crate) fn by_key<T, K: Ord>(items: &mut [T], mut key: impl FnMut(&T) -> K) {
    by(items, |a, b| key(a).cmp(&key(b)));
}

/// Sorts, smallest first.
pub(crate) fn ascending<T: Ord>(items: &mut [T]) {
    by(items, T::cmp);
}

/// Where each of `n` elements goes: a merge sort of their numbers from runs of one element up.
fn places(n: usize, after: &mut dyn FnMut(usize, usize) -> bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut merged = Vec::with_capacity(n);
    let mut run = 1;
    while run < n {
        merged.clear();
        for first in (0..n).step_by(2 * run) {
            let (middle, end) = ((first + run).min(n), (first + 2 * run).min(n));
            let (mut a, mut b) = (first, middle);
            while a < middle || b < end {
                // Of equal ones the left one comes first.
                let right = a == middle || b < end && after(order[a], order[b]);
                let next = if right { &mut b } else { &mut a };
                merged.push(order[*next]);
                *next += 1;
            }
        }
        std::mem::swap(&mut order, &mut merged);
        run *= 2;
    }
    merged.resize(n, 0);
    order.iter().enumerate().for_each(|(place, element)| merged[*element] = place);
    merged
}

#[cfg(test)]
mod tests {
    use super::{ascending, by, by_key};
    use crate::random::philox;
    use std::cmp::Reverse;

    #[test]
    fn lists_are_sorted_as_the_standard_library_does() {
        for n in (0..40).chain([100, 1000, 4097]) {
            for kinds in [1, 2, 7, 1000, u32::MAX] {
                let list: Vec<(u32, usize)> = (0..n).map(|i| (philox(7, i as u64)[0] % kinds, i)).collect();
                let (mut got, mut want) = (list.clone(), list.clone());
                by_key(&mut got, |item| item.0);
                want.sort_by_key(|item| item.0);
                assert_eq!(got, want, "{n} of {kinds}: equal ones keep their order");
                by(&mut got, |a, b| b.0.cmp(&a.0));
                want.sort_by_key(|item| Reverse(item.0));
                assert_eq!(got, want, "{n} of {kinds}");
                ascending(&mut got);
                want.sort_unstable();
                assert_eq!(got, want, "{n} of {kinds}");
            }
        }
    }
}
