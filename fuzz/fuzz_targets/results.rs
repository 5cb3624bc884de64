//! Any text as the result of a load in JSON: never a panic, the findings of a result that is
//! written and read again are the same, and every form of a report can be written of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tine_load::report::{Report, csv::csv, hgrm::hgrm, html::html, text::text};

fuzz_target!(|json: &str| {
    let Ok(report) = serde_json::from_str::<Report>(json) else { return };
    let written = serde_json::to_string(&report).expect("a report can be written");
    let again: Report = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    // Reading a fraction may change its last digit. Findings are whole numbers.
    let findings =
        |report: &Report| serde_json::to_string(&report.findings).expect("findings can be written");
    assert_eq!(findings(&again), findings(&report));
    for form in [text, csv, hgrm, html] {
        assert!(!form(&report).is_empty());
    }
});
