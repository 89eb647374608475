//! Small models built in code.

mod real;
