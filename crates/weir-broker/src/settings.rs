//! [`ClusterSettings`]: what admin clients set beside topics, durable in `weir-settings`.
//!
//! Dynamic configurations of the broker, of groups and of client metrics, ACLs, and quotas. Kafka's own place for them is
//! its metadata log. The file is replaced whole by the commit that a change goes with ([`crate::staged`]), before the
//! change is seen or answered; its form is described in [`text`].
//!
//! ACLs and quotas are kept and told; nothing is refused or slowed by them yet.

mod text;

use std::collections::{BTreeMap, BTreeSet};

use weir_log::Disk;
use weir_protocol::ErrorCode;

use crate::acls::Acl;
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::files;
use crate::quotas::QuotaEntity;
use crate::staged::Change;
use crate::topic_requests::Refused;
pub use text::{parse, print, FILE};

/// About how large the file may grow: it is made whole, under the lock.
pub const SETTINGS_BYTES_MAX: usize = 4 << 20;
/// What a line of the file takes beside its names and values, at most.
const LINE_BYTES: usize = 64;

/// Whose configuration it is. Topics have theirs in the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigOwner {
    /// A broker, by its id; all brokers if the name is empty.
    Broker,
    /// A subscription to the metrics of clients (KIP-714).
    ClientMetrics,
    /// A group of consumers.
    Group,
}

/// A configuration without defaults.
pub type Configs = BTreeMap<String, String>;

/// What admin clients have set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClusterSettings {
    configs: BTreeMap<(ConfigOwner, String), Configs>,
    acls: BTreeSet<Acl>,
    quotas: BTreeMap<QuotaEntity, BTreeMap<String, f64>>,
}

/// One change of them.
#[derive(Debug, Clone)]
pub enum SettingsChange {
    /// A configuration becomes this.
    Configs {
        /// Whose.
        owner: ConfigOwner,
        /// Its name.
        name: String,
        /// All of it.
        configs: Configs,
    },
    /// These ACLs are added.
    AddAcls(Vec<Acl>),
    /// These ACLs go.
    RemoveAcls(Vec<Acl>),
    /// The quotas of an entity become these.
    Quotas {
        /// Whose.
        entity: QuotaEntity,
        /// All of them.
        values: BTreeMap<String, f64>,
    },
}

impl ClusterSettings {
    /// Reads the file; without one nothing was set.
    pub(crate) fn open(disk: &dyn Disk, dir: &std::path::Path) -> Result<Self, BrokerError> {
        let text = files::read(disk, dir, FILE)?;
        text.as_deref().map(parse).transpose().map(Option::unwrap_or_default)
    }

    /// The configuration of a resource; empty if nothing was set.
    #[must_use]
    pub fn configs(&self, owner: ConfigOwner, name: &str) -> &Configs {
        static NONE: Configs = Configs::new();
        self.configs.get(&(owner, name.to_owned())).unwrap_or(&NONE)
    }

    /// The names of resources of which something was set.
    pub fn names(&self, owner: ConfigOwner) -> impl Iterator<Item = &str> {
        let of_owner = self.configs.keys().filter(move |(other, _)| *other == owner);
        of_owner.map(|(_, name)| name.as_str())
    }

    /// The ACLs.
    #[must_use]
    pub fn acls(&self) -> &BTreeSet<Acl> {
        &self.acls
    }

    /// The quotas by entity.
    #[must_use]
    pub fn quotas(&self) -> &BTreeMap<QuotaEntity, BTreeMap<String, f64>> {
        &self.quotas
    }

    /// About how many bytes the file has.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        let configs = self.configs.iter().map(|((_, name), configs)| configs_bytes(name, configs));
        let quotas = self.quotas.iter().map(|(entity, values)| quotas_bytes(entity, values));
        configs.sum::<usize>() + quotas.sum::<usize>() + acls_bytes(&self.acls)
    }

    /// How many bytes more it has after `change`, at most.
    #[must_use]
    pub fn more_bytes(&self, change: &SettingsChange) -> usize {
        match change {
            SettingsChange::Configs { owner, name, configs } => {
                let before = configs_bytes(name, self.configs(*owner, name));
                configs_bytes(name, configs).saturating_sub(before)
            }
            SettingsChange::AddAcls(acls) => acls_bytes(acls),
            SettingsChange::RemoveAcls(_) => 0,
            SettingsChange::Quotas { entity, values } => {
                let before = self.quotas.get(entity);
                let before = before.map_or(0, |values| quotas_bytes(entity, values));
                quotas_bytes(entity, values).saturating_sub(before)
            }
        }
    }

    /// Makes a change.
    pub fn apply(&mut self, change: &SettingsChange) {
        match change {
            SettingsChange::Configs { owner, name, configs } => {
                let key = (*owner, name.clone());
                match configs.is_empty() {
                    true => self.configs.remove(&key),
                    false => self.configs.insert(key, configs.clone()),
                };
            }
            SettingsChange::AddAcls(acls) => self.acls.extend(acls.iter().cloned()),
            SettingsChange::RemoveAcls(acls) => acls.iter().for_each(|acl| {
                self.acls.remove(acl);
            }),
            SettingsChange::Quotas { entity, values } => {
                match values.is_empty() {
                    true => self.quotas.remove(entity),
                    false => self.quotas.insert(entity.clone(), values.clone()),
                };
            }
        }
    }
}

fn configs_bytes(name: &str, configs: &Configs) -> usize {
    configs.iter().map(|(key, value)| LINE_BYTES + name.len() + key.len() + value.len()).sum()
}

fn quotas_bytes(entity: &QuotaEntity, values: &BTreeMap<String, f64>) -> usize {
    values.keys().map(|key| LINE_BYTES + entity.len_bytes() + key.len()).sum()
}

fn acls_bytes<'a>(acls: impl IntoIterator<Item = &'a Acl>) -> usize {
    acls.into_iter().map(|acl| LINE_BYTES + acl.len_bytes()).sum()
}

impl Broker {
    /// Stages a change of the settings. Gives `true`, for those who ask whether something was staged.
    ///
    /// # Errors
    /// If there is no room for it, or nothing can be written.
    pub(crate) fn stage_settings(&mut self, change: SettingsChange) -> Result<bool, Refused> {
        let more_bytes = self.settings.more_bytes(&change);
        let staged_bytes = self.staged.more_settings_bytes();
        if more_bytes > 0
            && self.settings.len_bytes() + staged_bytes + more_bytes > SETTINGS_BYTES_MAX
        {
            let words = "There is no room for more dynamic configurations, ACLs and quotas.";
            return Err((ErrorCode::PolicyViolation, words.to_owned()));
        }
        self.stage(Change::Settings { change, more_bytes }).map(|()| true)
    }
}
