//! The offline converter.
