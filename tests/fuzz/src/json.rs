//! Inputs of a JSON text and bytes ([`Parts`]): the text is changed as a tree.

use crate::random::Random;
use edge_tests::fuzz::Parts;
use serde_json::Value;

/// Words that the formats know.
const WORDS: &[&str] = &[
    "dense",
    "planes",
    "tiles",
    "view",
    "combine",
    "sparse",
    "corrected",
    "row_codes",
    "panel",
    "panel1",
    "rows",
    "f32",
    "f16",
    "bf16",
    "i8",
    "u8",
    "i32",
    "i64",
    "bool",
    "blocks",
    "few",
    "bitmap",
    "half",
    "loop",
    "turn",
    "if",
    "",
    "x",
];

/// Names of parameters.
const KEYS: &[&str] = &[
    "group", "bits", "layout", "scale", "gains", "dtype", "taps", "rows", "channels", "of", "blocks",
    "coefs", "takes", "levels", "form", "block", "entries", "keep", "count", "scaled", "range", "axis",
    "axes", "through", "with", "first", "experts",
    "loop", "body", "carried", "most", "outputs", "in", "out",
];

/// For libFuzzer: changes the first `size` bytes of `data`, which has room for `most`; gives the new size.
pub fn mutate(data: &mut [u8], size: usize, most: usize, seed: u32) -> usize {
    crate::either(data, size, most, seed, |input, _, random| {
        let parts = Parts::of(input);
        let mut root: Value = serde_json::from_slice(parts.text).ok()?;
        let mut flag = parts.flag;
        for _ in 0..1 + random.below(3) {
            change(&mut root, random);
        }
        if random.below(16) == 0 {
            flag = !flag;
        }
        let text = serde_json::to_vec(&root).ok()?;
        let mut bytes = parts.bytes.to_vec();
        if random.below(4) == 0 && !bytes.is_empty() {
            for _ in 0..1 + random.below(8) {
                let at = random.below(bytes.len());
                bytes[at] =
                    *random.of(&[0, 1, 0x7f, 0x80, 0xff, bytes[at].wrapping_add(1), bytes[at] ^ 0x40]);
            }
        }
        Some(Parts { flag, text: &text, bytes: &bytes }.join())
    })
}

/// Values of a tree, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(entries) => entries.values().map(count).sum(),
        _ => 0,
    }
}

/// The `n`-th value in the order of [`count`].
fn nth<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|v| nth(v, n)),
        Value::Object(entries) => entries.values_mut().find_map(|v| nth(v, n)),
        _ => None,
    }
}

fn change(root: &mut Value, random: &mut Random) {
    let total = count(root);
    let other = nth(root, &mut random.below(total)).cloned().unwrap_or_default();
    let Some(target) = nth(root, &mut random.below(total)) else { return };
    match (target, random.below(10)) {
        (target @ Value::Number(_), 0..8) => {
            let old = target.as_u64().or_else(|| target.as_i64().map(|n| n as u64)).unwrap_or(1);
            *target = match random.below(10) {
                0 => (random.number(old) as i64).into(),
                1 => (*random.of(&[0.5, -1.0, 1e30, 1e-30, 1e300, 3.5, 127.0])).into(),
                _ => random.number(old).into(),
            };
        }
        (target @ Value::String(_), 0..7) => *target = (*random.of(WORDS)).into(),
        (Value::Object(entries), 0..7) => {
            let keys: Vec<String> = entries.keys().cloned().collect();
            match random.below(4) {
                0 if !keys.is_empty() => drop(entries.remove(random.of(&keys))),
                1 if !keys.is_empty() => {
                    let value = entries.remove(random.of(&keys)).unwrap_or_default();
                    entries.insert((*random.of(KEYS)).into(), value);
                }
                2 => drop(entries.insert((*random.of(KEYS)).into(), other)),
                _ => drop(entries.insert((*random.of(KEYS)).into(), random.number(1).into())),
            }
        }
        (Value::Array(items), 0..8) => {
            let at = random.below(items.len() + 1);
            match (random.below(6), at < items.len()) {
                (0, true) => drop(items.remove(at)),
                (1, true) => items.insert(at, items[at].clone()),
                (2, true) => items.truncate(at),
                (3, true) => items.swap(at, 0),
                (4, _) => items.insert(at, other),
                _ => items.insert(at, random.number(1).into()),
            }
        }
        (Value::Bool(flag), 0..8) => *flag = !*flag,
        (target, 0..6) => *target = other,
        (target, _) => *target = if random.below(2) == 0 { Value::Null } else { random.number(0).into() },
    }
}
