//! What a maker and its forker tell each other.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::Error;
use crate::ipc::text_channel::ReceivedText;
use crate::program::warm::{CopyPlan, NewTemplate, TemplateFacts};

/// The message of a forker that needs a template.
pub(super) const MAKE: &str = "make";

/// The message about a template, without its descriptors.
pub(super) fn made_message(template: &NewTemplate) -> String {
    let TemplateFacts { pid, calls, milliseconds, private_kib, is_protected } = template.facts;
    let facts = json!([pid, calls, milliseconds, private_kib, is_protected]);
    json!({ "plan": template.plan.to_json(), "facts": facts }).to_string()
}

/// The message of a maker that could not make one.
pub(super) fn not_made(why: &Error) -> String {
    json!({ "error": String::from_utf8_lossy(&why.to_message()) }).to_string()
}

/// The message about a file of the last template that has changed.
pub(super) fn changed_message(file: &Path) -> String {
    json!({ "changed": file.to_string_lossy() }).to_string()
}

/// What a maker says.
#[derive(Debug)]
pub(super) enum Said {
    Made(NewTemplate),
    NotMade(Error),
    Changed(String),
}

/// What a message of the maker says; `None` for another message.
pub(super) fn read(received: ReceivedText) -> Option<Said> {
    let value: Value = serde_json::from_slice(&received.text).ok()?;
    if let Some(error) = value["error"].as_str() {
        return Some(Said::NotMade(Error::from_message(error.as_bytes())));
    }
    if let Some(file) = value["changed"].as_str() {
        return Some(Said::Changed(file.to_owned()));
    }
    let facts = &value["facts"];
    let facts = TemplateFacts {
        pid: i32::try_from(facts[0].as_i64()?).ok()?,
        calls: facts[1].as_u64()?,
        milliseconds: facts[2].as_u64()?,
        private_kib: facts[3].as_u64()?,
        is_protected: facts[4].as_bool()?,
    };
    let plan = CopyPlan::from_json(&value["plan"])?;
    let [channel, process] = <[_; 2]>::try_from(received.descriptors).ok()?;
    Some(Said::Made(NewTemplate { channel, process, plan, facts }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_arrives_as_it_was() {
        let why = Error::usage("no point", "try another");
        let received = ReceivedText { text: not_made(&why).into_bytes(), descriptors: Vec::new() };
        let Some(Said::NotMade(read)) = read(received) else { panic!("another message") };
        assert_eq!(read.to_string(), "no point; try another");
        for text in ["", "{}", r#"{"facts":[1,2,3,4,true],"plan":{}}"#] {
            let received = ReceivedText { text: text.into(), descriptors: Vec::new() };
            assert!(super::read(received).is_none(), "{text}");
        }
    }
}
