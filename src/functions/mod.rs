//! (functions)
