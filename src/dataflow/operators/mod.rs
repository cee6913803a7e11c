//! The operators, one a file. They know neither names nor plans: what they work on is bound when they are made.

pub mod aggregate;
pub mod anti;
pub mod arrange;
mod backlog;
mod calendar;
pub mod changes;
mod clock;
pub mod evaluate;
pub mod filter;
pub mod final_rows;
pub mod join;
pub mod negate;
pub mod project;
pub mod repeat;
pub mod session;
pub mod sink;
pub mod union;
pub mod values;
pub mod window;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod random;
