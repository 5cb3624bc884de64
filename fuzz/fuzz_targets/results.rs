//! Any text as the result of a load in JSON: never a panic, and a result that is written and read
//! again is the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tine_load::report::Report;

fuzz_target!(|json: &str| {
    let Ok(report) = serde_json::from_str::<Report>(json) else { return };
    let written = serde_json::to_string(&report).expect("a report can be written");
    let again: Report = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(serde_json::to_string(&again).expect("a report can be written"), written);
});
