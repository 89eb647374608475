//! Tests of weight expressions.
