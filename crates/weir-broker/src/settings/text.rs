//! The text of the file `weir-settings`, one setting a line, words between spaces:
//!
//! ```text
//! 0                                                               version
//! config broker % log.retention.ms 3600000                        of all brokers: the name is empty
//! config group vision consumer.session.timeout.ms 50000
//! acl TOPIC LITERAL orders User:anna * READ ALLOW
//! quota producer_byte_rate 1048576 user anna client-id -          of anna's clients without one of their own
//! ```
//! In a word, blanks, control characters and `%` are written `%20`. A lone `%` is the empty word, a lone `-` the default
//! entity of a quota.

use super::{ClusterSettings, ConfigOwner, SettingsChange};
use crate::acls::Acl;
use crate::error::BrokerError;
use crate::quotas::QuotaEntity;

/// The name of the file.
pub const FILE: &str = "weir-settings";

impl ConfigOwner {
    const fn word(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::ClientMetrics => "client-metrics",
            Self::Group => "group",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Broker, Self::ClientMetrics, Self::Group].into_iter().find(|one| one.word() == word)
    }
}

/// The file that says `settings`.
#[must_use]
pub fn print(settings: &ClusterSettings) -> String {
    let mut text = String::from("0\n");
    let mut line = |words: &[&str]| {
        for (index, word) in words.iter().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(word);
        }
        text.push('\n');
    };
    for ((owner, name), configs) in &settings.configs {
        for (key, value) in configs {
            line(&["config", owner.word(), &escape(name), &escape(key), &escape(value)]);
        }
    }
    for acl in &settings.acls {
        let words = acl.words().map(|word| escape(&word));
        let mut all = vec!["acl"];
        all.extend(words.iter().map(String::as_str));
        line(&all);
    }
    for (entity, values) in &settings.quotas {
        for (key, value) in values {
            let mut words = vec!["quota".to_owned(), escape(key), value.to_string()];
            for (kind, name) in entity.parts() {
                words.push(kind.name().to_owned());
                words.push(name.as_deref().map_or("-".to_owned(), escape));
            }
            line(&words.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    text
}

/// Reads the file.
///
/// # Errors
/// [`BrokerError::DamagedFile`] with the line.
pub fn parse(text: &str) -> Result<ClusterSettings, BrokerError> {
    let mut settings = ClusterSettings::default();
    for (index, line) in text.lines().enumerate() {
        let damaged = |reason| BrokerError::DamagedFile { file: FILE, line: index + 1, reason };
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["0"] if index == 0 => {}
            _ if index == 0 => return Err(damaged("this version of the file is not known")),
            ["config", owner, name, key, value] => {
                let owner = ConfigOwner::from_word(owner).ok_or_else(|| damaged("whose is it"))?;
                let word = |word: &str| unescape(word).ok_or_else(|| damaged("a word is none"));
                let name = word(name)?;
                let mut configs = settings.configs(owner, &name).clone();
                configs.insert(word(key)?, word(value)?);
                settings.apply(&SettingsChange::Configs { owner, name, configs });
            }
            ["acl", words @ ..] => {
                let words: Option<Vec<String>> = words.iter().map(|word| unescape(word)).collect();
                let acl = words.as_deref().and_then(Acl::from_words);
                settings.acls.insert(acl.ok_or_else(|| damaged("it is no ACL"))?);
            }
            ["quota", key, value, entity @ ..] => {
                let entity = quota_entity(entity).ok_or_else(|| damaged("whose quota is it"))?;
                let key = unescape(key).ok_or_else(|| damaged("a word is none"))?;
                let value = value.parse().map_err(|_| damaged("its value is no number"))?;
                settings.quotas.entry(entity).or_default().insert(key, value);
            }
            _ => return Err(damaged("begins with none of config, acl, quota")),
        }
    }
    Ok(settings)
}

fn quota_entity(words: &[&str]) -> Option<QuotaEntity> {
    let name = |word: &str| match word {
        "-" => Some(None),
        word => unescape(word).map(Some),
    };
    let parts: Option<Vec<(String, Option<String>)>> = words
        .chunks(2)
        .map(|pair| match pair {
            [kind, word] => Some(((*kind).to_owned(), name(word)?)),
            _ => None,
        })
        .collect();
    QuotaEntity::new(parts?).ok()
}

fn escape(word: &str) -> String {
    use std::fmt::Write as _;
    match word {
        "" => return "%".to_owned(),
        "-" => return "%2d".to_owned(),
        _ => {}
    }
    let mut text = String::with_capacity(word.len());
    for one in word.chars() {
        match one {
            '%' | ' ' => {
                // Writing to a String cannot fail.
                let _ = write!(text, "%{:02x}", u32::from(one));
            }
            one if one.is_whitespace() || one.is_control() => {
                let mut bytes = [0; 4];
                for byte in one.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "%{byte:02x}");
                }
            }
            one => text.push(one),
        }
    }
    text
}

fn unescape(word: &str) -> Option<String> {
    if word == "%" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        let mut settings = ClusterSettings::default();
        for (owner, name) in
            [(ConfigOwner::Broker, ""), (ConfigOwner::Broker, "0"), (ConfigOwner::Group, "a b\n-")]
        {
            let configs = [("log.retention.ms".to_owned(), "-".to_owned())].into();
            let name = name.to_owned();
            settings.apply(&SettingsChange::Configs { owner, name, configs });
        }
        let words = ["TOPIC", "PREFIXED", "my orders", "User:a b", "*", "READ", "DENY"];
        let acl = Acl::from_words(&words.map(str::to_owned)).unwrap();
        settings.apply(&SettingsChange::AddAcls(vec![acl]));
        let parts = vec![("user".to_owned(), None), ("client-id".to_owned(), Some("-".to_owned()))];
        let entity = QuotaEntity::new(parts).unwrap();
        let values = [("producer_byte_rate".to_owned(), 0.1)].into();
        settings.apply(&SettingsChange::Quotas { entity, values });
        assert_eq!(print(&settings).lines().count(), 6);
        assert_eq!(parse(&print(&settings)).unwrap(), settings);
    }

    #[test]
    fn damage_is_named_by_its_line() {
        for (text, expect) in [
            ("1\n", 1),
            ("0\nconfig planet x y z\n", 2),
            ("0\nconfig broker 0 a\n", 2),
            ("0\nconfig broker 0 a b\nacl TOPIC LITERAL x\n", 3),
            ("0\nacl TOPIC LITERAL x User:a * FLY ALLOW\n", 2),
            ("0\nquota a b user c\n", 2),
            ("0\nquota a 1 user\n", 2),
            ("0\nquota a 1 ip - user -\n", 2),
            ("0\nconfig broker 0 a %z1\n", 2),
        ] {
            match parse(text) {
                Err(BrokerError::DamagedFile { line, .. }) => assert_eq!(line, expect, "{text:?}"),
                other => panic!("{text:?} gave {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn every_word_comes_back(word in any::<String>()) {
            let escaped = escape(&word);
            prop_assert!(!escaped.is_empty() && !escaped.contains([' ', '\n', '\r']));
            prop_assert_eq!(unescape(&escaped), Some(word));
        }
    }
}
