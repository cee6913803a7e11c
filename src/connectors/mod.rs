//! Connectors carry messages and offsets; they never know what the messages mean.
