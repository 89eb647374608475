//! The edge runtime.
