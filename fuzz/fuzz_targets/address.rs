//! Any text as an address: never a panic, an error is one line, and an address that is printed and
//! parsed again is the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tine::Address;

fuzz_target!(|text: &str| {
    match text.parse::<Address>() {
        Ok(address) => {
            let printed = address.to_string();
            let again = printed.parse::<Address>().unwrap_or_else(|error| panic!("{printed:?}: {error}"));
            assert_eq!(again, address, "{text:?}, {printed:?}");
        }
        Err(error) => {
            // The message quotes the text, line breaks included.
            let message = error.to_string().replace(text, "");
            assert!(
                !message.is_empty() && !message.contains('\n') && !error.kind().is_temporary(),
                "{message:?}"
            );
        }
    }
});
