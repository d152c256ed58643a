//! [`ConfiguredUsers`]: users of the configuration, ready for logins; and all users as a login sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_protocol::scram::{is_same_secret, ScramCredential, ScramMechanism, ITERATIONS_MIN};

use super::shared::Shared;
use crate::config::BrokerConfig;
use crate::scram_users::ScramUsers;
use crate::security::sasl::Users;
use crate::security::{SaslMechanism, Secret};

/// Users of the configuration.
#[derive(Debug, Default)]
pub(super) struct ConfiguredUsers {
    passwords: BTreeMap<String, Secret>,
    credentials: BTreeMap<(ScramMechanism, String), Arc<ScramCredential>>,
}

impl ConfiguredUsers {
    /// Makes the keys of every user for the mechanisms that listeners have: some milliseconds each.
    ///
    /// Their salts are made as those of users that are not there, so that nobody can tell the ones from the others.
    pub(super) fn new(config: &BrokerConfig, stored: &ScramUsers) -> Self {
        let is_enabled = |mechanism: &&ScramMechanism| {
            let wanted = SaslMechanism::Scram(**mechanism);
            config.listeners.iter().any(|listener| listener.sasl_mechanisms.contains(&wanted))
        };
        let mut made = Self::default();
        for user in &config.users {
            for mechanism in ScramMechanism::ALL.iter().filter(is_enabled) {
                let salt = stored.salt(*mechanism, &user.name);
                let password = user.password.expose().as_bytes();
                let credential =
                    ScramCredential::from_password(*mechanism, password, salt, ITERATIONS_MIN);
                made.credentials.insert((*mechanism, user.name.clone()), Arc::new(credential));
            }
            made.passwords.insert(user.name.clone(), user.password.clone());
        }
        made
    }
}

impl Users for Shared {
    fn is_password(&self, user: &str, password: &str) -> bool {
        // Hashes have one length, so that the comparison does not tell that of the password.
        let hash = |text: &str| ScramMechanism::Sha256.hash(text.as_bytes());
        let known = self.users.passwords.get(user);
        let is_same = is_same_secret(&hash(known.map_or("", Secret::expose)), &hash(password));
        known.is_some() && is_same
    }

    fn credential(&self, mechanism: ScramMechanism, user: &str) -> Option<Arc<ScramCredential>> {
        // What was set by a client counts: it is how a password is changed while weir runs.
        let configured = || self.users.credentials.get(&(mechanism, user.to_owned())).cloned();
        self.stored_credential(mechanism, user).or_else(configured)
    }

    fn salt_of_unknown(&self, mechanism: ScramMechanism, user: &str) -> Vec<u8> {
        self.salt(mechanism, user)
    }
}
