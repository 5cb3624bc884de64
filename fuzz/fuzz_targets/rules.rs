//! Any text as a rules file, and its lines as the other options of admission: never a panic, an
//! error is one line, and a decision names a rule of the file.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use tine::cli::{ExplainedClient, Moment, decide};
use tine::{AccessRules, Error, Penalties, Rate};

fuzz_target!(|text: &str| {
    match AccessRules::new().reverse_dns(true).text(text, "rules").map(AccessRules::build) {
        Ok(access) => {
            let moment = "Mon 12:00".parse().expect("a time");
            let mentioned = text.split([':', '/', ',']).filter_map(|word| word.parse::<IpAddr>().ok());
            for address in mentioned.chain(
                ["127.0.0.1", "255.255.255.255", "::", "2001:db8::1"]
                    .map(|one| one.parse().expect("an address")),
            ) {
                let client = ExplainedClient::Address(address);
                for name in text.split([':', '=']).map(Some).take(8).chain([None, Some("a.example.com")]) {
                    let decision = decide(&access, &client, name, moment);
                    let by = decision.rule.unwrap_or("rules:0: :allow");
                    let word = if decision.allowed { ":allow" } else { ":deny" };
                    assert!(by.starts_with("rules:") && by.contains(word), "{address}: {decision:?}");
                }
            }
        }
        Err(error) => check_message(&error),
    }
    for line in text.lines() {
        let faults = [
            AccessRules::new().allow(line).err(),
            AccessRules::new().reverse_dns(true).deny(line).err(),
            AccessRules::new().deny(line).err(),
            AccessRules::new().times(line).err(),
            line.parse::<Rate>().err(),
            line.parse::<Penalties>().err(),
            line.parse::<Moment>().err(),
        ];
        faults.iter().flatten().for_each(check_message);
    }
});

fn check_message(error: &Error) {
    let message = error.to_string();
    assert!(!message.is_empty() && !message.contains('\n') && !error.kind().is_temporary(), "{message:?}");
}
