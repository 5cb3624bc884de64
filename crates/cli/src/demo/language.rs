//! The language: that of the option, or of the locale.

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// The variables that can name the language of messages, the first that is set first (locale(7)).
const VARIABLES: [&str; 3] = ["LC_ALL", "LC_MESSAGES", "LANG"];

/// A language of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Chinese, in simplified characters.
    Chinese,
}

impl Language {
    /// All languages.
    const ALL: [Language; 2] = [Language::English, Language::Chinese];

    /// Its code in ISO 639, the value of `--lang`.
    const fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Chinese => "zh",
        }
    }

    /// The parser of `--lang`.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Language> {
        PossibleValuesParser::new(Language::ALL.map(Language::code)).try_map(|code| {
            let found = Language::ALL.into_iter().find(|language| language.code() == code);
            found.ok_or("there is no such language")
        })
    }

    /// The language of the locale.
    pub(super) fn of_environment() -> Language {
        Language::of_variables(|name| std::env::var(name).ok())
    }

    /// The language of the first variable that has a value.
    fn of_variables(value: impl Fn(&str) -> Option<String>) -> Language {
        let locale = VARIABLES.into_iter().find_map(|name| value(name).filter(|value| !value.is_empty()));
        Language::of_locale(&locale.unwrap_or_default())
    }

    /// The language of a locale, `LANGUAGE[_COUNTRY][.CHARSET][@MODIFIER]`. Chinese that the
    /// terminal reads in another character set than UTF-8 would be unreadable; English is not.
    fn of_locale(locale: &str) -> Language {
        let locale = locale.split('@').next().unwrap_or_default().to_ascii_lowercase();
        let (name, charset) = locale.split_once('.').unwrap_or((&locale, "utf-8"));
        let is_utf8 = matches!(charset, "utf-8" | "utf8");
        match name.split(['_', '-']).next() {
            Some("zh") if is_utf8 => Language::Chinese,
            _ => Language::English,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Language::{Chinese, English};

    #[test]
    fn a_locale_names_a_language() {
        for (locale, language) in [
            ("", English),
            ("C", English),
            ("C.UTF-8", English),
            ("POSIX", English),
            ("en_US.UTF-8", English),
            ("de_DE.UTF-8", English),
            ("zha_CN.UTF-8", English),
            ("zh", Chinese),
            ("zh_CN", Chinese),
            ("zh_CN.UTF-8", Chinese),
            ("zh_CN.utf8", Chinese),
            ("ZH_cn.Utf-8", Chinese),
            ("zh_SG.UTF-8@pinyin", Chinese),
            ("zh-Hans-CN", Chinese),
            ("zh_TW.UTF-8", Chinese),
            ("zh_CN.GB18030", English),
            ("zh_CN.gbk@stroke", English),
            ("zh_TW.Big5", English),
        ] {
            assert_eq!(Language::of_locale(locale), language, "{locale}");
        }
    }

    #[test]
    fn the_first_variable_with_a_value_decides() {
        for (set, language) in [
            (&[][..], English),
            (&[("LANG", "zh_CN.UTF-8")], Chinese),
            (&[("LC_MESSAGES", "zh_CN.UTF-8"), ("LANG", "en_US.UTF-8")], Chinese),
            (&[("LC_MESSAGES", "C"), ("LANG", "zh_CN.UTF-8")], English),
            (&[("LC_ALL", "C.UTF-8"), ("LC_MESSAGES", "zh_CN.UTF-8"), ("LANG", "zh_CN.UTF-8")], English),
            (&[("LC_ALL", ""), ("LC_MESSAGES", ""), ("LANG", "zh_CN.UTF-8")], Chinese),
            (&[("LC_CTYPE", "zh_CN.UTF-8"), ("LANGUAGE", "zh")], English),
        ] {
            let value = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, v)| v.to_string());
            assert_eq!(Language::of_variables(value), language, "{set:?}");
        }
    }
}
