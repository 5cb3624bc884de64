//! A program that is started warm, as operators see it.

use serde_json::{Value, json};

use super::view::View;
use crate::ipc::board::reader::BoardReader;
use crate::ipc::board::warm::TemplateStatus;

/// Adds `warm` to an object about a service whose program is started warm.
pub(super) fn add(view: &View, object: &mut Value) {
    if let Some(forkers) = view.warm_forkers {
        object["warm"] = to_json(&view.board, forkers);
    }
}

/// The template of each forker, and what was counted.
fn to_json(board: &BoardReader, forkers: usize) -> Value {
    let template = |forker: usize| {
        let status = board.template(forker);
        let pid = if let TemplateStatus::Ready(pid) = status { Some(pid) } else { None };
        json!({ "forker": forker + 1, "state": status.name(), "pid": pid })
    };
    json!({
        "templates": (0..forkers).map(template).collect::<Vec<Value>>(),
        "copies": board.copies(),
        "templates_made": board.templates(),
        "copy_crashes": board.copy_crashes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::board::Board;

    #[test]
    fn each_forker_has_a_template_or_the_reason_that_there_is_none() {
        let (_, [drain]) = tine_sys::memory::flags().expect("memory");
        let board = Board::new(1, drain, false, None).expect("memory");
        board.set_template(0, TemplateStatus::Ready(4711));
        board.set_template(1, TemplateStatus::Refused);
        board.count_copy();
        board.count_copy();
        board.note_copy_crash();
        let board = board.into_reader().expect("mapped");
        let expected = json!({
            "templates": [
                { "forker": 1, "state": "ready", "pid": 4711 },
                { "forker": 2, "state": "refused", "pid": null },
                { "forker": 3, "state": "making", "pid": null },
            ],
            "copies": 2,
            "templates_made": 1,
            "copy_crashes": 1,
        });
        assert_eq!(to_json(&board, 3), expected);
    }
}
