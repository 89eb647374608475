//! Times a decoder: `decode PACK [--threads N] [--prompt TOKENS] [--steps TOKENS] [--rounds N] [--mem BYTES] [--profile]`.
//!
//! Prints, of the best round, tokens a second of the prompt and of the steps after it; with `--profile` where a step's time goes.

use edge_runtime::decode::Decoder;
use edge_runtime::device::{Device, peak_rss};
use edge_runtime::pack::PackFile;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1);
    let pack = args.next().expect("decode PACK [OPTIONS]");
    let (mut threads, mut prompt, mut steps, mut rounds, mut profile) = (1, 256, 128, 3, false);
    let mut memory = None;
    while let Some(option) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse().ok()).expect("a number");
        match option.as_str() {
            "--threads" => threads = number(),
            "--prompt" => prompt = number(),
            "--steps" => steps = number(),
            "--rounds" => rounds = number(),
            "--mem" => memory = Some(number() as u64),
            "--profile" => profile = true,
            other => panic!("option {other}"),
        }
    }
    let start = Instant::now();
    let device = Device::builder().threads(Some(threads)).budget(memory).build().unwrap();
    let file = Arc::new(PackFile::open(pack).unwrap());
    let context = memory.is_none().then_some(prompt + steps);
    let mut decoder = Decoder::open(&device, &file, None, context).unwrap();
    let opened = start.elapsed().as_secs_f64();
    let ids: Vec<i64> =
        (0..prompt as i64).map(|i| 1 + i * 7919 % (decoder.vocabulary() as i64 - 1)).collect();
    let (mut read, mut written, mut busy) = (f64::MAX, f64::MAX, [f64::MAX; 2]);
    let mut spent: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for _ in 0..rounds {
        decoder.truncate(0);
        let (start, used) = (Instant::now(), cpu_seconds());
        let logits = decoder.feed(&ids).unwrap();
        let mut next = greatest(logits);
        read = read.min(start.elapsed().as_secs_f64());
        busy[0] = busy[0].min(cpu_seconds() - used);
        let (start, used) = (Instant::now(), cpu_seconds());
        for _ in 0..steps {
            let mut last = Instant::now();
            let mut after = |_: usize, name: &str| {
                if profile {
                    let now = Instant::now();
                    let entry = spent.entry(name.to_string()).or_default();
                    *entry = (entry.0 + (now - last).as_secs_f64(), entry.1 + 1);
                    last = now;
                }
            };
            next = greatest(decoder.feed_observed(&[next], &mut after).unwrap());
        }
        written = written.min(start.elapsed().as_secs_f64());
        busy[1] = busy[1].min(cpu_seconds() - used);
    }
    println!(
        "open {:.1} ms, context {}, prompt {:.1} tok/s, steps {:.1} tok/s, peak {:.1} MB, planned {:.1} MB",
        opened * 1e3,
        decoder.context(),
        prompt as f64 / read,
        steps as f64 / written,
        peak_rss().unwrap_or(0) as f64 / 1e6,
        decoder.need().total() as f64 / 1e6,
    );
    let [read, written] = busy;
    println!(
        "by CPU time: prompt {:.1} tok/s, steps {:.1} tok/s",
        prompt as f64 / read,
        steps as f64 / written
    );
    let mut spent: Vec<_> = spent.into_iter().collect();
    spent.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    for (name, (seconds, count)) in spent {
        let per = (rounds * steps) as f64;
        println!("{name:24} {:8.1} us a step, {:6.1} calls", seconds / per * 1e6, count as f64 / per);
    }
}

/// What this process has computed: on a machine that others use, less noisy than time.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn greatest(logits: &[f32]) -> i64 {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap_or(0) as i64
}
