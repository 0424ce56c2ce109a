//! Help up to the cut-over.

mod sequence;
