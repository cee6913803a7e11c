//! The form of what an epoch larger than memory writes ahead: in a family of its own, under the family and the full key where it
//! belongs, so that later parts replace earlier ones and all lies in the order in which it will be folded into place.
//!
//! ```text
//!  key    family (1 byte), full key
//!  value  1, value     puts
//!         0            deletes
//! ```

use crate::error::Error;
use crate::error::Result;
use crate::state::space::Family;

const DELETES: u8 = 0;
const PUTS: u8 = 1;

/// Where a write to this full key of a family is spilled to.
pub(super) fn key(family: Family, full_key: &[u8]) -> Vec<u8> {
    [&[family as u8], full_key].concat()
}

/// The first key after those of a family.
pub(super) fn end(family: Family) -> Vec<u8> {
    vec![family as u8 + 1]
}

/// The first key after all.
pub(super) fn end_of_all() -> Vec<u8> {
    end(Family::Pending)
}

/// What is stored for a value; `None` deletes.
pub(super) fn stored(value: Option<&[u8]>) -> Vec<u8> {
    match value {
        Some(value) => [&[PUTS], value].concat(),
        None => vec![DELETES],
    }
}

/// The full key of such a key.
pub(super) fn full_key(key: &[u8]) -> &[u8] {
    key.get(1..).unwrap_or_default()
}

/// The family that such a key belongs to.
pub(super) fn family(key: &[u8]) -> Result<Family> {
    let number = key.first().copied();
    let family = Family::ALL.into_iter().find(|family| Some(*family as u8) == number && *family != Family::Pending);
    family.ok_or_else(|| Error::corrupted("a key of the store's pending writes is damaged"))
}

/// The value that is stored so; `None`: the key is deleted.
pub(super) fn value(stored: &[u8]) -> Option<&[u8]> {
    match stored {
        [PUTS, value @ ..] => Some(value),
        _ => None,
    }
}
