//! Kafka, against a real broker: the connector by itself ([`connector`]), and the whole way from a topic to a view as a
//! client sees it ([`views`], [`stored`], [`crashes`], [`faults`]).

#![allow(clippy::unwrap_used)] // a test fails by panicking

#[path = "../support/kafka.rs"]
mod broker;
#[path = "../support/mod.rs"]
mod support;

mod connector;
mod crashes;
mod database;
mod faults;
mod stored;
mod views;
