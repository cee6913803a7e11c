//! Records of the catalog: stored plans and objects. Damaged ones are an error; what is read is written as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream::catalog::Object;
use millstream::plan;
use millstream::plan::explain;

fuzz_target!(|text: &str| {
    if let Ok(read) = plan::stored::read(text) {
        let written = plan::stored::write(&read);
        assert_eq!(plan::stored::read(&written).expect("what was written is read"), read);
        explain::explain(&read, &Default::default());
    }
    if let Ok(object) = serde_json::from_str::<Object>(text) {
        let written = serde_json::to_string(&object).expect("an object is plain data");
        let again = serde_json::from_str::<Object>(&written).expect("what was written is read");
        assert_eq!(serde_json::to_string(&again).expect("plain data"), written);
    }
});
