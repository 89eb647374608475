//! One random generator, the same on every CPU: Philox 4x32 with 10 rounds (Salmon et al., "Parallel random
//! numbers: as easy as 1, 2, 3", 2011), a function of a key and a counter.

const ROUND_A: u32 = 0xD251_1F53;
const ROUND_B: u32 = 0xCD9E_8D57;
const WEYL_A: u32 = 0x9E37_79B9;
const WEYL_B: u32 = 0xBB67_AE85;

/// The four words at `counter` of the sequence that `key` names.
pub fn philox(key: u64, counter: u64) -> [u32; 4] {
    let [mut k0, mut k1] = [key as u32, (key >> 32) as u32];
    let mut x = [counter as u32, (counter >> 32) as u32, 0, 0];
    for round in 0..10 {
        if round > 0 {
            k0 = k0.wrapping_add(WEYL_A);
            k1 = k1.wrapping_add(WEYL_B);
        }
        let a = u64::from(ROUND_A) * u64::from(x[0]);
        let b = u64::from(ROUND_B) * u64::from(x[2]);
        x = [(b >> 32) as u32 ^ x[1] ^ k0, b as u32, (a >> 32) as u32 ^ x[3] ^ k1, a as u32];
    }
    x
}

/// Element `i` of a sequence uniform in [0, 1): the top 24 bits of its word, times 2^-24.
pub fn uniform(key: u64, i: u64) -> f32 {
    (philox(key, i / 4)[(i % 4) as usize] >> 8) as f32 * (1.0 / (1 << 24) as f32)
}

#[cfg(test)]
mod tests {
    use super::{philox, uniform};

    /// The vectors that the authors publish with their code (Random123, `kat_vectors`).
    #[test]
    fn published_vectors() {
        assert_eq!(philox(0, 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    }

    #[test]
    fn uniform_numbers_have_the_mean_and_bounds_of_their_law() {
        let mean = (0..10_000).map(|i| f64::from(uniform(7, i))).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.01, "mean {mean}");
        assert!((0..10_000).all(|i| (0.0..1.0).contains(&uniform(7, i))));
    }
}
