//! Nowhere: a sink whose changes are counted and forgotten. It shows what a query costs by itself.

use std::collections::BTreeMap;

use super::SinkConnector;
use super::options::OptionSpec;
use super::options::Options;
use crate::error::Result;

/// `connector = 'blackhole'`.
pub struct Blackhole;

impl SinkConnector for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    fn validate(&self, options: &BTreeMap<String, String>) -> Result<()> {
        Options::check(self.name(), self.options(), options).map(drop)
    }
}
