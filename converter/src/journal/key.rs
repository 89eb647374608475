//! What measurements are called.

use edge_runtime::device::Device;
use std::fmt::Debug;

/// The BLAKE3 hash of everything that a measurement follows from.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub(super) [u8; 32]);

impl Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&blake3::Hash::from(self.0).to_hex())
    }
}

/// A key in the making. Each part is hashed with its length, so that no two lists of parts are one.
pub struct Mix(blake3::Hasher);

impl Mix {
    /// A key of this kind: those of different kinds are different.
    pub fn of(kind: &str) -> Mix {
        Mix(blake3::Hasher::new()).bytes(kind.as_bytes())
    }

    /// Adds bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Mix {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a value by its debug text, which has every field, and numbers so that different ones differ.
    pub fn debug(self, value: &impl Debug) -> Mix {
        let text = format!("{value:?}");
        self.bytes(text.as_bytes())
    }

    /// Adds floats, bit by bit.
    pub fn floats(mut self, values: &[f32]) -> Mix {
        self.0.update(&(values.len() as u64).to_le_bytes());
        let mut bytes = [0; 4096];
        for chunk in values.chunks(bytes.len() / 4) {
            for (into, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(chunk) {
                *into = value.to_le_bytes();
            }
            self.0.update(&bytes[..4 * chunk.len()]);
        }
        self
    }

    /// Adds another key.
    pub fn key(mut self, key: &Key) -> Mix {
        self.0.update(&key.0);
        self
    }

    /// The key.
    pub fn done(self) -> Key {
        Key(*self.0.finalize().as_bytes())
    }
}

/// What measurements are valid for: this very program, which is all code that they follow from, and how it computes on this CPU.
/// Results of floats differ between instruction sets; numbers of threads change no bit of them.
pub fn identity(device: &Device) -> std::io::Result<Key> {
    let program = std::fs::read(std::env::current_exe()?)?;
    let cpu = device.cpu();
    let mix = Mix::of("program").bytes(&program).debug(&(device.isa(), cpu.isa, device.bf16()));
    Ok(mix.debug(&(cpu.arch, &cpu.model, cpu.caches)).done())
}
