//! Figures and names as people read them.

use super::page::RungFigures;
use edge_runtime::pack::Acts;

/// Letters of a name at most.
const LETTERS: usize = 120;

/// Bytes as people read them.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..10_000 => format!("{:.2} kB", bytes as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..100_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        100_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Bits as people write them: 8, or 3.4.
pub(super) fn rounded(bits: f64) -> String {
    format!("{bits:.1}").trim_end_matches(".0").to_string()
}

/// A rung's latency; `None` when it has none.
pub(super) fn latency(rung: &RungFigures) -> Option<String> {
    let ms = rung.latency_ms.filter(|ms| ms.is_finite())?;
    Some(match ms {
        ..10.0 => format!("{ms:.2} ms"),
        ..100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    })
}

/// A rung's quality; `None` when it has none.
pub(super) fn quality(rung: &RungFigures) -> Option<String> {
    let value = rung.quality.filter(|q| q.is_finite())?;
    Some(match rung.metric.as_str() {
        "sqnr_db" if is_exact(rung) => "exact".to_string(),
        "sqnr_db" => decibels(value),
        "top1_percent" => format!("{value:.1} %"),
        _ => format!("{value:.2}"),
    })
}

/// Whether a rung's outputs are the float model's: the ratio is at its greatest.
pub(super) fn is_exact(rung: &RungFigures) -> bool {
    rung.metric == "sqnr_db" && rung.quality.is_some_and(|q| q > 199.9)
}

pub(super) fn decibels(value: f32) -> String {
    // A minus of its own width; adding 0 makes 0 of what is -0.
    format!("{:.1} dB", (10.0 * f64::from(value)).round() / 10.0 + 0.0).replace('-', "−")
}

/// A name that may come from anybody, cut to what a page has room for.
pub(super) fn clipped(name: &str) -> String {
    cut(name, LETTERS)
}

/// A text that may come from anybody, of so many letters at most; what would turn other text around or not show is marked.
pub(super) fn cut(text: &str, most: usize) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut letters = text.chars().map(|c| if unseen(c) { char::REPLACEMENT_CHARACTER } else { c });
    let mut cut: String = letters.by_ref().take(most).collect();
    if letters.next().is_some() {
        cut.push('…');
    }
    cut
}

pub(super) fn metric_name(metric: &str) -> String {
    match metric {
        "" => "quality".to_string(),
        "sqnr_db" => "SQNR in dB".to_string(),
        "top1_percent" => "top-1 in %".to_string(),
        other => clipped(other),
    }
}

pub(super) fn acts(rung: &RungFigures) -> &'static str {
    if rung.acts == Acts::I8 { "i8" } else { "f32" }
}
