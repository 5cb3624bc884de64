//! Maps of users and groups.

use super::fields::Fields;
use crate::import::service::ImportedService;
use crate::import::textproto::TextFault;

/// Sets the user and the group outside of the jail. In the jail, a program of tine has the same
/// ones.
///
/// # Errors
/// A field has the wrong type.
pub(super) fn apply(fields: Fields, service: &mut ImportedService) -> Result<(), TextFault> {
    let user = outside(fields, "uidmap", service)?;
    let group = outside(fields, "gidmap", service)?;
    match (user, group) {
        (None, Some(group)) => {
            service.note(format!("gidmap: the group {group} without a user: set `user` and `group`"));
        }
        (user, group) => {
            if let Some(user) = user {
                service.set("user", user);
                // nsjail drops the groups of the user, and sets no variables of a login.
                service.set("supplementary-groups", "none");
                service.set("set-login-environment", "no");
            }
            if let Some(group) = group {
                service.set("group", group);
            }
        }
    }
    Ok(())
}

/// The first id outside, if it is another than that of the server. It is the program's one.
fn outside(fields: Fields, name: &str, service: &mut ImportedService) -> Result<Option<String>, TextFault> {
    let mut found = None;
    for (number, map) in fields.each_within(name)?.into_iter().enumerate() {
        let inside = map.text("inside_id")?.unwrap_or_default();
        let outside = map.text("outside_id")?.unwrap_or_default();
        let count = map.number("count")?.unwrap_or(1);
        let _mapper = map.flag("use_newidmap", false)?;
        for field in map.all() {
            if !["inside_id", "outside_id", "count", "use_newidmap"].contains(&field.name.as_str()) {
                service.note(format!("{name}.{}: an unknown field", field.name));
            }
        }
        if number > 0 || count != 1 {
            service.note(format!("{name} of {count} from {outside:?}: a jail has one user and one group"));
        }
        if number > 0 {
            continue;
        }
        let is_root = matches!(outside, "0" | "root");
        if is_root {
            service.note(format!(
                "{name}: the outside_id of root: tine takes a user of its own for each connection, or the server's"
            ));
        } else if !outside.is_empty() {
            found = Some(outside.to_owned());
        }
        if !inside.is_empty() && inside != outside {
            service.note(format!("{name}: inside_id {inside}: in a jail, ids are those outside"));
        }
    }
    Ok(found)
}
