//! What may be shown of a text whose bytes come token by token: no half of a character, and nothing that may be the beginning of a stop string.

/// Bytes that wait to be shown. What was shown in all is `String::from_utf8_lossy` of all bytes before a stop string.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    stops: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl Stream {
    /// A stream that ends at any of some strings. Empty ones stop nothing.
    pub fn new<S: AsRef<str>>(stops: &[S]) -> Stream {
        let stops = stops.iter().map(|stop| stop.as_ref().as_bytes().to_vec());
        let stops: Vec<Vec<u8>> = stops.filter(|stop| !stop.is_empty()).collect();
        let longest = stops.iter().map(Vec::len).max().unwrap_or(0);
        // A token has rarely more bytes.
        Stream { held: Vec::with_capacity(longest + 256), stops }
    }

    /// Takes further bytes and shows what is certain; whether a stop string is complete. What comes behind it, and it itself, is not shown.
    pub fn push(&mut self, bytes: &[u8], show: &mut dyn FnMut(&str)) -> bool {
        self.held.extend_from_slice(bytes);
        let found = self.stops.iter().filter_map(|stop| find(&self.held, stop)).min();
        if let Some(at) = found {
            self.held.truncate(at);
            self.finish(show);
            return true;
        }
        let waits = self.stops.iter().map(|stop| begun(&self.held, stop)).max().unwrap_or(0);
        let certain = self.held.len() - waits;
        let certain = certain - unfinished(&self.held[..certain]);
        shown(&self.held[..certain], show);
        self.held.drain(..certain);
        false
    }

    /// Shows what is left, the beginning of a character as U+FFFD.
    pub fn finish(&mut self, show: &mut dyn FnMut(&str)) {
        shown(&self.held, show);
        self.held.clear();
    }
}

fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    bytes.windows(word.len()).position(|window| window == word)
}

/// Bytes at the end that a word begins with, but not all of it.
fn begun(bytes: &[u8], word: &[u8]) -> usize {
    (1..word.len().min(bytes.len() + 1)).rev().find(|len| bytes.ends_with(&word[..*len])).unwrap_or(0)
}

/// Bytes at the end that may become a character.
fn unfinished(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last().map(|chunk| chunk.invalid()) {
        Some(tail) if std::str::from_utf8(tail).is_err_and(|e| e.error_len().is_none()) => tail.len(),
        _ => 0,
    }
}

/// Bytes as text, each longest beginning of a character that does not go on as U+FFFD, as Unicode recommends.
fn shown(bytes: &[u8], show: &mut dyn FnMut(&str)) {
    for chunk in bytes.utf8_chunks() {
        if !chunk.valid().is_empty() {
            show(chunk.valid());
        }
        if !chunk.invalid().is_empty() {
            show("\u{fffd}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stream;
    use crate::random::philox;

    fn run(stops: &[&str], parts: &[&[u8]]) -> (Vec<String>, bool) {
        let (mut stream, mut all, mut stopped) = (Stream::new(stops), Vec::new(), false);
        for part in parts {
            let mut now = String::new();
            stopped = stream.push(part, &mut |text| now += text);
            all.push(now);
            if stopped {
                return (all, true);
            }
        }
        let mut now = String::new();
        stream.finish(&mut |text| now += text);
        all.push(now);
        (all, stopped)
    }

    #[test]
    fn characters_wait_until_they_are_whole() {
        let (shown, _) = run(&[], &[b"a\xf0\x9f", b"\x99", b"\x82b", b"\xe4\xb8"]);
        assert_eq!(shown, ["a", "", "🙂b", "", "\u{fffd}"]);
        // A byte that cannot go on is replaced at once, and does not take the next character along.
        assert_eq!(run(&[], &[b"\xf0\x9f", b"a\xff", b"b"]).0, ["", "\u{fffd}a\u{fffd}", "b", ""]);
    }

    #[test]
    fn stop_strings_are_never_shown_in_part() {
        assert_eq!(
            run(&["\nUser:"], &[b"hi", b"\n", b"Us", b"e you"]),
            (["hi", "", "", "\nUse you", ""].map(str::to_string).to_vec(), false)
        );
        assert_eq!(
            run(&["\nUser:"], &[b"hi\nUs", b"er: no"]),
            (["hi", ""].map(str::to_string).to_vec(), true)
        );
        // The first of several that is complete; beginnings within beginnings.
        assert_eq!(run(&["cd", "abc"], &[b"xab", b"cd"]).0.concat(), "x");
        assert_eq!(run(&["aab"], &[b"a", b"a", b"a", b"b"]).0.concat(), "a");
        assert_eq!(run(&["é"], &[b"a\xc3", b"\xa9b"]), (["a", ""].map(str::to_string).to_vec(), true));
        assert_eq!(run(&[""], &[b"ab"]).0.concat(), "ab");
    }

    /// All bytes cut anywhere show what they show in one piece.
    #[test]
    fn any_cut_gives_the_lossy_text() {
        let alphabet = [0x61, 0x62, 0xc3, 0xa9, 0xf0, 0x9f, 0x99, 0x82, 0xe2, 0x80, 0xff, 0xed, 0xa0];
        for i in 0..20_000u64 {
            let word = |j: u64| philox(i, j)[0] as usize;
            let bytes: Vec<u8> =
                (0..1 + word(0) as u64 % 12).map(|j| alphabet[word(1 + j) % alphabet.len()]).collect();
            let cuts: Vec<&[u8]> = bytes.chunks(1 + word(99) % 3).collect();
            assert_eq!(
                run(&["aé", "bb"], &cuts).0.concat(),
                {
                    let ends = ["aé".as_bytes(), b"bb"]
                        .map(|stop| super::find(&bytes, stop))
                        .into_iter()
                        .flatten()
                        .min();
                    String::from_utf8_lossy(&bytes[..ends.unwrap_or(bytes.len())]).into_owned()
                },
                "{bytes:x?}"
            );
        }
    }
}
