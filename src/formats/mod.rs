//! Bytes to rows and back. A format never knows where the bytes come from.

pub mod json;
