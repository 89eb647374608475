//! A rectangle of a matrix that has taps.

use std::ops::Range;

/// Rows and, inside each tap, channels of a matrix `[n, taps * channels]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) rows: Range<usize>,
    /// Parts of a row that are cut alike; column = tap * channels + channel.
    pub(super) taps: usize,
    pub(super) channels: Range<usize>,
}

impl Window {
    /// All of a matrix.
    pub(super) fn whole(n: usize, k: usize) -> Window {
        Window { rows: 0..n, taps: 1, channels: 0..k }
    }

    /// Columns inside the window.
    pub(super) fn k(&self) -> usize {
        self.taps * self.channels.len()
    }

    /// The same window with `taps` taps, when it takes whole rows of a matrix of `k` columns or has them already.
    pub(super) fn with_taps(&self, taps: usize, k: usize) -> Option<Window> {
        let rows = self.rows.clone();
        match self.taps == taps {
            true => Some(self.clone()),
            false => (self.k() == k).then(|| Window { rows, taps, channels: 0..k / taps }),
        }
    }

    /// This window, whose origin is `outer`'s, as a window of what `outer` is cut from.
    pub(super) fn inside(&self, outer: &Window) -> Window {
        let shift = |range: &Range<usize>, by: usize| range.start + by..range.end + by;
        Window {
            rows: shift(&self.rows, outer.rows.start),
            taps: self.taps,
            channels: shift(&self.channels, outer.channels.start),
        }
    }
}

/// What two ranges share; empty when nothing.
pub(super) fn common(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}
