//! The operators, one a file. They know neither names nor plans: what they work on is bound when they are made.

pub mod aggregate;
pub mod arrange;
pub mod evaluate;
pub mod filter;
pub mod join;
pub mod negate;
pub mod project;
pub mod repeat;
pub mod union;
pub mod values;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod random;
