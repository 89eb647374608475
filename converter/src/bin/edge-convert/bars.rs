//! Progress on a terminal.

use edge_converter::{Cache, Watch};
use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar a stage, on a terminal only.
#[derive(Default)]
pub struct Bars {
    bar: Option<ProgressBar>,
    cache: Option<Cache>,
    /// Measurements made and taken as the bar stands.
    counts: (usize, usize),
    /// Whether it was said why measurements are not kept.
    warned: bool,
}

impl Bars {
    /// Bars that say of what is kept how much was made.
    pub fn of(cache: Option<Cache>) -> Bars {
        Bars { cache, ..Bars::default() }
    }

    /// Ends the bar that there is.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if let Some(problem) = self.cache.as_ref().filter(|_| !self.warned).and_then(Cache::problem) {
            eprintln!("edge-convert: warning: {problem}");
            self.warned = true;
        }
    }

    fn counts(&self) -> (usize, usize) {
        self.cache.as_ref().map_or((0, 0), |cache| (cache.made(), cache.taken()))
    }
}

impl Watch for Bars {
    fn stage(&mut self, name: &str, total: usize) {
        self.clear();
        let bar = ProgressBar::new(total as u64).with_message(name.to_string());
        if let Ok(style) = ProgressStyle::with_template("{msg:<18} {bar:40} {pos}/{len} {eta} left") {
            bar.set_style(style);
        }
        self.bar = Some(bar);
        self.counts = self.counts();
    }

    fn progress(&mut self, done: usize) {
        let Some(bar) = &self.bar else { return };
        bar.set_position(done as u64);
        let (made, taken) = self.counts();
        if taken > self.counts.1 && made == self.counts.0 {
            // What an earlier conversion measured takes no time, and says nothing of what is left.
            bar.tick();
            bar.reset_eta();
        }
        self.counts = (made, taken);
    }

    fn progress_of(&mut self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
        }
        self.progress(done);
    }
}
