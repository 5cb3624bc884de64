//! Limits of resources (setrlimit(2)).

use super::fields::Fields;
use crate::import::amounts;
use crate::import::service::ImportedService;
use crate::import::textproto::TextFault;

/// A limit of nsjail.
struct Limit {
    field: &'static str,
    type_field: &'static str,
    key: &'static str,
    unit: LimitUnit,
    /// In force where the field is missing.
    default: u64,
    default_type: &'static str,
    /// What a full jail has without the key.
    in_a_jail: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LimitUnit {
    MiB,
    KiB,
    Byte,
    /// Of seconds, processes and so on.
    One,
}

/// What a limit is, by the numbers of nsjail: the value, the soft or hard limit of the server, or
/// none.
const TYPES: [&str; 4] = ["VALUE", "SOFT", "HARD", "INF"];

const fn limit(names: [&'static str; 3], unit: LimitUnit, default: u64, default_type: &'static str) -> Limit {
    let [field, type_field, key] = names;
    Limit { field, type_field, key, unit, default, default_type, in_a_jail: None }
}

const fn in_a_jail(limit: Limit, value: &'static str) -> Limit {
    Limit { in_a_jail: Some(value), ..limit }
}

/// All limits, with nsjail's defaults.
const LIMITS: [Limit; 10] = [
    limit(["rlimit_as", "rlimit_as_type", "limit-as"], LimitUnit::MiB, 4096, "VALUE"),
    in_a_jail(limit(["rlimit_core", "rlimit_core_type", "limit-core"], LimitUnit::MiB, 0, "VALUE"), "0"),
    limit(["rlimit_cpu", "rlimit_cpu_type", "limit-cpu"], LimitUnit::One, 600, "VALUE"),
    in_a_jail(limit(["rlimit_fsize", "rlimit_fsize_type", "limit-fsize"], LimitUnit::MiB, 1, "VALUE"), "16M"),
    in_a_jail(
        limit(["rlimit_nofile", "rlimit_nofile_type", "limit-nofile"], LimitUnit::One, 32, "VALUE"),
        "64",
    ),
    in_a_jail(
        limit(["rlimit_nproc", "rlimit_nproc_type", "limit-nproc"], LimitUnit::One, 1024, "SOFT"),
        "64",
    ),
    limit(["rlimit_stack", "rlimit_stack_type", "limit-stack"], LimitUnit::MiB, 8, "SOFT"),
    limit(["rlimit_memlock", "rlimit_memlock_type", "limit-memlock"], LimitUnit::KiB, 64, "SOFT"),
    limit(["rlimit_rtprio", "rlimit_rtprio_type", "limit-rtprio"], LimitUnit::One, 0, "SOFT"),
    limit(["rlimit_msgqueue", "rlimit_msgqueue_type", "limit-msgqueue"], LimitUnit::Byte, 1024, "SOFT"),
];

/// Whether a field is one of a limit.
pub(super) fn is_limit(name: &str) -> bool {
    name == "disable_rl" || LIMITS.iter().any(|limit| name == limit.field || name == limit.type_field)
}

/// Sets the limits.
///
/// # Errors
/// A field has the wrong type.
pub(super) fn apply(fields: Fields, service: &mut ImportedService) -> Result<(), TextFault> {
    if fields.flag("disable_rl", false)? {
        service.note("disable_rl: true: a full jail has limits of its own: see limit-nofile and its like");
        return Ok(());
    }
    LIMITS.iter().try_for_each(|limit| limit.apply(fields, service))
}

impl Limit {
    fn apply(&self, fields: Fields, service: &mut ImportedService) -> Result<(), TextFault> {
        let value = fields.number(self.field)?;
        let named_type = fields.choice(self.type_field, &TYPES)?;
        match named_type.unwrap_or(self.default_type) {
            "VALUE" => service.set(self.key, self.written(value.unwrap_or(self.default))),
            "INF" => service.set(self.key, "infinity"),
            kind => {
                if let Some(value) = value {
                    service.note(format!(
                        "{}: {value}: nsjail ignores it without {}: VALUE",
                        self.field, self.type_field
                    ));
                }
                if named_type.is_some() {
                    let has = self.in_a_jail.map_or("the limit of the server is kept".into(), |value| {
                        format!("a full jail has {value}, unless {} is set", self.key)
                    });
                    service.note(format!("{}: {kind}: {has}", self.type_field));
                }
            }
        }
        Ok(())
    }

    /// The value as tine reads it. More than 64 bits of bytes are no limit.
    fn written(&self, value: u64) -> String {
        let factor = match self.unit {
            LimitUnit::MiB => 1 << 20,
            LimitUnit::KiB => 1 << 10,
            LimitUnit::Byte => 1,
            LimitUnit::One => return value.to_string(),
        };
        value.checked_mul(factor).map_or("infinity".into(), amounts::size)
    }
}
