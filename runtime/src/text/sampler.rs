//! The next token by its logits. The steps and their order are those that llama.cpp documents for its default chain of samplers:
//!
//! ```text
//! repetition  a logit of a token among the last ones is divided by the penalty, multiplied where it is below 0 (Keskar et al., 2019)
//! top-k       the k greatest stay (Fan et al., 2018)
//! top-p       of these, by their softmax, the fewest that together have p (Holtzman et al., 2020)
//! min-p       of these, the ones with at least `min_p` of the greatest's probability (Nguyen et al., 2024)
//! temperature logits are divided by it, and one is drawn from the softmax (Ackley et al., 1985); 0: the greatest
//! ```
//!
//! Equal logits are ordered by id, so a choice depends on the logits, the options and how many were drawn before alone.

use crate::random::philox;

/// How tokens are chosen. The defaults are llama.cpp's.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0: always the greatest logit.
    pub temperature: f32,
    /// So many stay; 0: all.
    pub top_k: usize,
    /// 1: all stay.
    pub top_p: f32,
    /// 0: all stay.
    pub min_p: f32,
    /// 1: none.
    pub repeat_penalty: f32,
    /// So many of the last tokens are penalised.
    pub repeat_last: usize,
    /// Equal seeds give equal choices.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last: 64,
            seed: 0,
        }
    }
}

/// Why no token can be chosen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum SampleError {
    #[error("{name} {value}: {want}")]
    Option { name: &'static str, value: f32, want: &'static str },
    #[error("the logit of token {id} is {value}; the model's numbers overflowed")]
    NotFinite { id: usize, value: f32 },
    #[error("no token has a logit above minus infinity")]
    Nothing,
}

/// A token that may come next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit.
    pub logit: f32,
}

impl Candidate {
    /// The greater logit first, of equal ones the lower id.
    fn before(&self, other: &Candidate) -> std::cmp::Ordering {
        other.logit.total_cmp(&self.logit).then(self.id.cmp(&other.id))
    }
}

/// Chooses tokens. After it is made it allocates nothing.
pub struct Sampler {
    how: Sampling,
    /// Candidates; those of top-k are found among twice as many.
    kept: Vec<Candidate>,
    /// A ring of the last tokens, the oldest at `at` once it is full.
    recent: Vec<u32>,
    at: usize,
    /// The same, ascending, each once.
    penalised: Vec<u32>,
    drawn: u64,
}

impl Sampling {
    fn check(&self) -> Result<(), SampleError> {
        let all = [
            ("temperature", self.temperature, self.temperature >= 0.0, "expected 0 or more"),
            ("top-p", self.top_p, (0.0..=1.0).contains(&self.top_p), "expected 0 to 1"),
            ("min-p", self.min_p, (0.0..=1.0).contains(&self.min_p), "expected 0 to 1"),
            ("repeat penalty", self.repeat_penalty, self.repeat_penalty > 0.0, "expected more than 0"),
        ];
        match all.into_iter().find(|(_, value, fits, _)| !(*fits && value.is_finite())) {
            Some((name, value, _, want)) => Err(SampleError::Option { name, value, want }),
            None => Ok(()),
        }
    }

    /// How many candidates are held at most.
    fn room(&self, vocabulary: usize) -> usize {
        match self.top_k {
            _ if self.temperature == 0.0 => 0,
            0 => vocabulary,
            k => vocabulary.min(k.saturating_mul(2)),
        }
    }

    fn penalises(&self) -> bool {
        self.repeat_penalty != 1.0
    }

    /// Bytes that a sampler takes.
    pub fn bytes(&self, vocabulary: usize) -> usize {
        let recent = if self.penalises() { self.repeat_last } else { 0 };
        self.room(vocabulary) * size_of::<Candidate>() + 2 * recent * size_of::<u32>()
    }
}

impl Sampler {
    /// A sampler for logits of so many tokens.
    ///
    /// # Errors
    /// When an option is out of its range.
    pub fn new(how: Sampling, vocabulary: usize) -> Result<Sampler, SampleError> {
        how.check()?;
        let recent = if how.penalises() { how.repeat_last } else { 0 };
        Ok(Sampler {
            kept: Vec::with_capacity(how.room(vocabulary)),
            recent: Vec::with_capacity(recent),
            at: 0,
            penalised: Vec::with_capacity(recent),
            drawn: 0,
            how,
        })
    }

    /// How it chooses.
    pub fn how(&self) -> &Sampling {
        &self.how
    }

    /// Takes note of a token that was read or chosen.
    pub fn accept(&mut self, id: u32) {
        let room = self.recent.capacity().min(self.how.repeat_last);
        if room == 0 || !self.how.penalises() {
            return;
        }
        if self.recent.len() < room {
            self.recent.push(id);
            return;
        }
        self.recent[self.at] = id;
        self.at = (self.at + 1) % room;
    }

    /// Forgets the tokens that it took note of; what it draws goes on.
    pub fn reset(&mut self) {
        self.recent.clear();
        self.at = 0;
    }

    /// The next token. It is not taken note of: see [`Sampler::accept`].
    ///
    /// # Errors
    /// When logits are not finite.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SampleError> {
        if self.how.temperature == 0.0 {
            let mut best: Option<Candidate> = None;
            self.each(logits, |next| {
                if best.is_none_or(|best| next.logit > best.logit) {
                    best = Some(next);
                }
            })?;
            return best.map(|best| best.id).ok_or(SampleError::Nothing);
        }
        self.candidates(logits)?;
        // 53 bits: as many as an f64 holds.
        let [a, b, ..] = philox(self.how.seed, self.drawn);
        self.drawn += 1;
        let share = ((u64::from(a) << 32 | u64::from(b)) >> 11) as f64 / (1u64 << 53) as f64;
        let weight = |candidate: &Candidate| f64::from(candidate.logit).exp();
        let mut left = share * self.kept.iter().map(weight).sum::<f64>();
        for candidate in &self.kept {
            left -= weight(candidate);
            if left < 0.0 {
                return Ok(candidate.id);
            }
        }
        // Rounding has left a little.
        self.kept.iter().rev().find(|c| weight(c) > 0.0).map(|c| c.id).ok_or(SampleError::Nothing)
    }

    /// What is drawn from, by its softmax: logits less the greatest, divided by the temperature. Ordered where top-k or top-p asks for it.
    ///
    /// # Errors
    /// When logits are not finite.
    pub fn candidates(&mut self, logits: &[f32]) -> Result<&[Candidate], SampleError> {
        self.keep(logits)?;
        let (top_p, least) = (self.how.top_p, self.how.min_p);
        if self.how.top_k > 0 || top_p < 1.0 {
            self.kept.sort_unstable_by(Candidate::before);
        }
        let most = self.kept.iter().map(|c| c.logit).reduce(f32::max).ok_or(SampleError::Nothing)?;
        self.kept.iter_mut().for_each(|c| c.logit -= most);
        if top_p < 1.0 {
            let weight = |candidate: &Candidate| f64::from(candidate.logit).exp();
            let enough = f64::from(top_p) * self.kept.iter().map(weight).sum::<f64>();
            let mut sum = 0.0;
            let last = self.kept.iter().position(|candidate| {
                sum += weight(candidate);
                sum >= enough
            });
            self.kept.truncate(last.map_or(self.kept.len(), |last| last + 1));
        }
        if least > 0.0 {
            // The greatest has 0 by now.
            self.kept.retain(|candidate| candidate.logit >= least.ln());
        }
        let temperature = self.how.temperature;
        self.kept.iter_mut().filter(|c| c.logit != 0.0).for_each(|c| c.logit /= temperature);
        Ok(&self.kept)
    }

    /// Fills `kept` with the top-k.
    fn keep(&mut self, logits: &[f32]) -> Result<(), SampleError> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        let all = self.how.top_k == 0;
        let (k, room) = (self.how.top_k, kept.capacity().max(1));
        let mut least = f32::NEG_INFINITY;
        let seen = self.each(logits, |next| {
            // Ids ascend: an equal one that comes later is behind.
            if all || next.logit > least {
                if !all && kept.len() == room {
                    kept.select_nth_unstable_by(k - 1, Candidate::before);
                    kept.truncate(k);
                    least = kept[k - 1].logit;
                    if next.logit <= least {
                        return;
                    }
                }
                kept.push(next);
            }
        });
        if !all && kept.len() > k {
            kept.select_nth_unstable_by(k - 1, Candidate::before);
            kept.truncate(k);
        }
        self.kept = kept;
        seen
    }

    /// Calls `see` with all tokens in order of their ids, penalised where they are among the last ones.
    fn each(&mut self, logits: &[f32], mut see: impl FnMut(Candidate)) -> Result<(), SampleError> {
        self.penalised.clear();
        self.penalised.extend_from_slice(&self.recent);
        self.penalised.sort_unstable();
        self.penalised.dedup();
        let (mut next, penalty) = (0, self.how.repeat_penalty);
        for (id, logit) in logits.iter().enumerate() {
            let mut logit = *logit;
            if !logit.is_finite() {
                if logit == f32::NEG_INFINITY {
                    continue;
                }
                return Err(SampleError::NotFinite { id, value: logit });
            }
            while self.penalised.get(next).is_some_and(|known| (*known as usize) < id) {
                next += 1;
            }
            if self.penalised.get(next).is_some_and(|known| *known as usize == id) {
                logit = if logit <= 0.0 { logit * penalty } else { logit / penalty };
            }
            see(Candidate { id: id as u32, logit });
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
