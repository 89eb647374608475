//! From the detector's map to upright boxes, the usual way of DB (Liao et al., "Real-time Scene Text Detection with
//! Differentiable Binarization", 2020): threshold, connected spots, boxes grown by what the training shrank them.
//!
//! Boxes are upright. Text that is turned by more than a few degrees would need the least rectangle around each spot.

use crate::models::Values;

/// What counts as text.
const THRESHOLD: f32 = 0.3;
/// Least mean of a box's values.
const LEAST_SCORE: f32 = 0.5;
/// Least side of a spot in pixels.
const LEAST_SIDE: usize = 3;
/// A box grows on each side by area x this / perimeter.
const UNCLIP: f32 = 1.6;
/// More spots than this is no page of text, and would take memory that nobody planned.
const MOST_SPOTS: usize = 1 << 12;
/// What so many spots and their boxes take: each is there twice while the small ones are dropped, and while they are sorted.
pub const MOST_BYTES: u64 = (MOST_SPOTS * 2 * (size_of::<Spot>() + 2 * size_of::<TextBox>())) as u64;

/// An upright box on the detector's map, and the mean of the values in it. `right` and `bottom` are beyond the box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextBox {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
    pub score: f32,
}

/// Pixels that touch, by their bounds; `right` and `bottom` are the last column and row.
#[derive(Clone, Copy, Debug)]
struct Spot {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

/// A run of text pixels of one row, [start, end), and its spot.
#[derive(Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
    spot: usize,
}

/// The boxes of a map of `width` columns, from its values row by row. `None` when there are too many spots.
pub fn boxes(map: Values<'_>, width: usize) -> Option<Vec<TextBox>> {
    let found = spots(map.iter(), width)?;
    let tall_enough = |s: &Spot| s.right + 1 - s.left >= LEAST_SIDE && s.bottom + 1 - s.top >= LEAST_SIDE;
    let grown = |spot: &Spot| {
        let (w, h) = ((spot.right + 1 - spot.left) as f32, (spot.bottom + 1 - spot.top) as f32);
        let row = |y: usize| map.part(y * width + spot.left..y * width + spot.right + 1).iter();
        let sum: f64 = (spot.top..=spot.bottom).flat_map(row).map(f64::from).sum();
        let by = w * h * UNCLIP / (2.0 * (w + h));
        TextBox {
            left: spot.left as f32 - by,
            top: spot.top as f32 - by,
            right: (spot.right + 1) as f32 + by,
            bottom: (spot.bottom + 1) as f32 + by,
            score: (sum / f64::from(w * h)) as f32,
        }
    };
    let all = found.iter().filter(|s| tall_enough(s)).map(grown);
    Some(reading_order(all.filter(|b| b.score >= LEAST_SCORE).collect()))
}

/// Spots of pixels above the threshold that touch at a side or a corner. One row of runs is kept at a time.
fn spots(map: impl Iterator<Item = f32>, width: usize) -> Option<Vec<Spot>> {
    let (mut above, mut row): (Vec<Run>, Vec<Run>) = (Vec::new(), Vec::new());
    let mut found: Vec<Spot> = Vec::new();
    // A spot that turned out to be part of another points to it.
    let mut parent: Vec<usize> = Vec::new();
    for (i, value) in map.enumerate() {
        let (y, x) = (i / width, i % width);
        if x == 0 {
            std::mem::swap(&mut above, &mut row);
            row.clear();
        }
        if value > THRESHOLD {
            match row.last_mut() {
                Some(run) if run.end == x => run.end += 1,
                _ => row.push(Run { start: x, end: x + 1, spot: usize::MAX }),
            }
        }
        if x + 1 < width {
            continue;
        }
        for run in &mut row {
            let mut spot = None;
            for other in above.iter().filter(|o| o.start <= run.end && o.end >= run.start) {
                let root = root_of(&mut parent, other.spot);
                match spot {
                    None => spot = Some(root),
                    Some(mine) if mine != root => {
                        parent[root] = mine;
                        let gone = found[root];
                        found[mine].cover(gone);
                    }
                    Some(_) => {}
                }
            }
            let bounds = Spot { left: run.start, top: y, right: run.end - 1, bottom: y };
            run.spot = match spot {
                Some(mine) => {
                    found[mine].cover(bounds);
                    mine
                }
                None if found.len() == MOST_SPOTS => return None,
                None => {
                    found.push(bounds);
                    parent.push(found.len() - 1);
                    found.len() - 1
                }
            };
        }
    }
    let mut i = 0;
    found.retain(|_| {
        i += 1;
        parent[i - 1] == i - 1
    });
    Some(found)
}

fn root_of(parent: &mut [usize], mut spot: usize) -> usize {
    while parent[spot] != spot {
        parent[spot] = parent[parent[spot]];
        spot = parent[spot];
    }
    spot
}

impl Spot {
    fn cover(&mut self, other: Spot) {
        self.left = self.left.min(other.left);
        self.top = self.top.min(other.top);
        self.right = self.right.max(other.right);
        self.bottom = self.bottom.max(other.bottom);
    }
}

/// Rows from the top, each from the left. A box belongs to the row whose first box has its middle in reach.
fn reading_order(mut boxes: Vec<TextBox>) -> Vec<TextBox> {
    boxes.sort_by(|a, b| a.top.total_cmp(&b.top));
    let mut row = 0;
    let mut first: Option<TextBox> = None;
    let mut placed: Vec<(usize, TextBox)> = Vec::with_capacity(boxes.len());
    for b in boxes {
        let middle = (b.top + b.bottom) / 2.0;
        match first {
            Some(f) if middle < f.bottom && (f.top + f.bottom) / 2.0 > b.top => {}
            _ => {
                row += 1;
                first = Some(b);
            }
        }
        placed.push((row, b));
    }
    placed.sort_by(|(r, a), (s, b)| r.cmp(s).then(a.left.total_cmp(&b.left)));
    placed.into_iter().map(|(_, b)| b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(values: impl IntoIterator<Item = f32>) -> Vec<[u8; 4]> {
        values.into_iter().map(f32::to_le_bytes).collect()
    }

    fn map(rows: &[&str]) -> (Vec<f32>, usize) {
        let value = |c: char| c.to_digit(10).map_or(0.0, |d| d as f32 / 10.0);
        (rows.iter().flat_map(|r| r.chars().map(value)).collect(), rows[0].len())
    }

    #[test]
    fn branches_that_meet_are_one_spot() {
        let (values, width) = map(&[
            "9...9....",
            "9...9..9.",
            ".9.9....9",
            "..9.....9", // meets at a corner
        ]);
        let spots = spots(values.into_iter(), width).unwrap();
        let bounds: Vec<_> = spots.iter().map(|s| (s.left, s.top, s.right, s.bottom)).collect();
        assert_eq!(bounds, [(0, 0, 4, 3), (7, 1, 8, 3)]);
    }

    #[test]
    fn boxes_grow_and_weak_or_small_ones_go() {
        let (values, width) = map(&["..........4444", ".9999..99.4444", ".9999.....4444", ".9999........."]);
        let boxes = boxes(Values::new(&elements(values)), width).unwrap();
        let by = 12.0 * 1.6 / 14.0;
        assert_eq!(boxes.len(), 1, "{boxes:?}");
        let b = boxes[0];
        assert!((b.score - 0.9).abs() < 1e-6, "{b:?}");
        for (got, want) in [(b.left, 1.0 - by), (b.top, 1.0 - by), (b.right, 5.0 + by), (b.bottom, 4.0 + by)]
        {
            assert!((got - want).abs() < 1e-5, "{b:?}");
        }
    }

    #[test]
    fn rows_come_before_columns() {
        let at =
            |left: f32, top: f32| TextBox { left, top, right: left + 40.0, bottom: top + 20.0, score: 1.0 };
        let order = reading_order(vec![at(100.0, 0.0), at(0.0, 4.0), at(0.0, 30.0), at(100.0, 27.0)]);
        let places: Vec<_> = order.iter().map(|b| (b.left, b.top)).collect();
        assert_eq!(places, [(0.0, 4.0), (100.0, 0.0), (0.0, 30.0), (100.0, 27.0)]);
    }

    #[test]
    fn noise_is_refused_before_it_takes_memory() {
        let width = 2 * MOST_SPOTS + 2;
        let dots = elements((0..width).map(|x| if x % 2 == 0 { 1.0 } else { 0.0 }));
        assert_eq!(boxes(Values::new(&dots), width), None);
    }
}
