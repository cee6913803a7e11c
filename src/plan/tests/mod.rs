//! The planner's tests: golden scripts (`tests/golden/planner`), stored plans (`tests/golden/plans`), and an oracle that
//! evaluates plans naively and compares with DataFusion's answer.

mod golden;
mod oracle;
mod stored;
mod world;
