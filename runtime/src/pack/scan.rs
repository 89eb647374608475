//! What decoding a header may cost, found by one pass over its bytes before anything is decoded.
//!
//! JSON is compact against what it decodes to: `0,` is 2 bytes and an element of a vector of 32-byte values,
//! `{"a":0},` is a tree node of 11 places. Without this pass, 64 MiB of header could ask for many gigabytes.
#![forbid(unsafe_code)]

use super::PackError;

/// Most memory that a decoded header may take.
pub const MAX_DECODED: u64 = 512 << 20;

/// How deep brackets may nest; the decoder recurses this far. An `If` takes five levels, an expression three.
pub const MAX_BRACKETS: usize = 112;

/// Bytes an element of a list or an entry of an object can take: the largest, a JSON value of 32 bytes, in a vector
/// that has just doubled, old and new copy alive, is 3 * 32; the rest is for strings' own blocks.
const ITEM: u64 = 128;

/// Bytes that an opening bracket can add: a tree node of 11 places of 56 bytes, or a vector that starts with room
/// for four nodes of the graph.
const BRACKET: u64 = 1024;

/// The same of a list whose first element is a number: what decodes from one takes at most 32 bytes, and a vector starts with room for four.
const NUMBERS: u64 = 256;

/// What an opening bracket adds that this byte follows. An empty list has no memory of its own; where white space comes first, the text is
/// not one that was written for packs.
fn opened(bracket: u8, next: Option<u8>) -> u64 {
    match (bracket, next) {
        (b'[', Some(b']')) => 0,
        (b'[', Some(b'0'..=b'9' | b'-')) => NUMBERS,
        _ => BRACKET,
    }
}

/// Upper bound of the memory that decoding `json` takes, the text included; refuses nesting that is too deep.
/// On text that is not JSON it bounds what a decoder takes up to its first error.
pub(super) fn decoded_bound(json: &[u8]) -> Result<u64, PackError> {
    let mut cost = json.len() as u64;
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for (i, &byte) in json.iter().enumerate() {
        if in_string {
            // A string's content is counted by the text's own length, twice: the text and the copy.
            cost += 1;
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b',' => cost += ITEM,
            b'[' | b'{' => {
                cost += opened(byte, json.get(i + 1).copied());
                depth += 1;
                if depth > MAX_BRACKETS {
                    return Err(PackError::HeaderNesting { depth, cap: MAX_BRACKETS });
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(cost)
}
