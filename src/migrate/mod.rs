//! Help up to the cut-over.

mod cutover;
mod sequence;
