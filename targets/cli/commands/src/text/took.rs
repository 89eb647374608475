//! What an answer took.

use edge_runtime::device::{ByteSize, peak_rss};
use edge_runtime::text::{Answer, End};
use serde_json::{Value, json};
use std::time::Duration;

/// Tokens a second; none where there was no time.
pub fn rate(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

fn end(end: End) -> &'static str {
    match end {
        End::Last => "end",
        End::Stop => "stop",
        End::Tokens => "length",
        End::Context => "context",
        End::Interrupted => "interrupted",
    }
}

/// Rates of reading and writing. The first token is there when the prompt is read.
fn rates(answer: &Answer) -> [Option<f64>; 2] {
    let read = rate(answer.prompt - answer.reused, answer.prefill);
    [read, rate(answer.tokens.saturating_sub(1), answer.decode)]
}

/// For people.
pub fn line(answer: &Answer, load: Duration, context: usize) -> String {
    let shown = |rate: Option<f64>| rate.map_or(String::new(), |rate| format!(", {rate:.1} tokens/s"));
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let [read, written] = rates(answer);
    format!(
        "load {:.0} ms; prompt {} tokens ({} read before) in {:.0} ms{}; answer {} tokens in {:.0} ms{}, ended by {}; context {context}; \
         peak memory {}",
        ms(load),
        answer.prompt,
        answer.reused,
        ms(answer.prefill),
        shown(read),
        answer.tokens,
        ms(answer.decode),
        shown(written),
        end(answer.end),
        ByteSize(peak_rss().unwrap_or(0)),
    )
}

/// For programs.
pub fn json(answer: &Answer, load: Duration, context: usize) -> Value {
    let [read, written] = rates(answer);
    json!({
        "ended_by": end(answer.end),
        "context": context,
        "load_seconds": load.as_secs_f64(),
        "prompt": {"tokens": answer.prompt, "reused": answer.reused, "seconds": answer.prefill.as_secs_f64(), "tokens_per_second": read},
        "answer": {"tokens": answer.tokens, "seconds": answer.decode.as_secs_f64(), "tokens_per_second": written},
        "peak_rss": peak_rss(),
    })
}
