//! What clients send: the first byte says whether before the startup or after it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream::server::pgwire;

fuzz_target!(|bytes: &[u8]| {
    if let Some((started, bytes)) = bytes.split_first() {
        pgwire::decode_all(bytes, started % 2 == 1);
    }
});
