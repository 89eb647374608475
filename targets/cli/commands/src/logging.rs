//! Log lines on stderr.

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            eprintln!("edge-run: {}: {}", record.level().as_str().to_lowercase(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Sends log lines to stderr: warnings, more with `-v`, or what EDGE_LOG says.
pub fn start(verbose: u8) {
    let by_flag = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    };
    let by_env = std::env::var("EDGE_LOG").ok().and_then(|v| v.parse().ok());
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(if verbose > 0 { by_flag } else { by_env.unwrap_or(by_flag) });
    }
}
