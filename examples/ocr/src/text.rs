//! From the recogniser's probabilities to text.

/// Greedy CTC (Graves et al., 2006): the most probable class of each step; repeats and blanks (class 0) are dropped.
/// The score is the mean probability of what is kept; 0 when nothing is.
pub fn decode(steps: impl Iterator<Item = f32>, characters: &[String]) -> (String, f32) {
    let (mut text, mut sum, mut kept) = (String::new(), 0f64, 0usize);
    let (mut best, mut before) = ((0usize, f32::NEG_INFINITY), 0usize);
    for (i, value) in steps.enumerate() {
        let class = i % characters.len();
        if class == 0 || value > best.1 {
            best = (class, value);
        }
        if class + 1 == characters.len() {
            if best.0 != 0 && best.0 != before {
                text += &characters[best.0];
                sum += f64::from(best.1);
                kept += 1;
            }
            before = best.0;
        }
    }
    (text, if kept == 0 { 0.0 } else { (sum / kept as f64) as f32 })
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn repeats_and_blanks_go_but_a_blank_keeps_doubles() {
        let characters: Vec<String> = ["", "a", "b"].map(str::to_string).to_vec();
        let steps = [
            [0.1, 0.8, 0.1],
            [0.2, 0.7, 0.1], // a again
            [0.9, 0.1, 0.0],
            [0.3, 0.6, 0.1], // another a
            [0.1, 0.2, 0.7],
        ];
        let (text, score) = decode(steps.into_iter().flatten(), &characters);
        assert_eq!(text, "aab");
        assert!((score - (0.8 + 0.6 + 0.7) / 3.0).abs() < 1e-6, "{score}");
        assert_eq!(decode([1.0, 0.0, 0.0].into_iter(), &characters), (String::new(), 0.0));
    }
}
