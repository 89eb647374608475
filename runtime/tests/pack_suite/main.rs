//! The pack: round trips, broken files, the writer's manners.

mod broken;
mod fixture;
mod roundtrip;
mod spec;
mod truncation;
mod writing;
