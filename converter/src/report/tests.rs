//! The page of packs that nobody made.
