//! AlterConfigs, IncrementalAlterConfigs, ListConfigResources: configurations of topics, brokers, groups and metrics
//! subscriptions, changed while all runs.
//!
//! Each resource is changed whole or not at all, and answered once its change is on disk. The levels of loggers are no
//! configuration of the broker: they are set when weir starts.

use std::collections::BTreeSet;

use weir_log::check_topic_name;
use weir_protocol::api::alter_configs::{self, AlterConfigsRequest, AlterConfigsResponse};
use weir_protocol::api::incremental_alter_configs::{
    AlterConfigsResourceResponse, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use weir_protocol::api::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use weir_protocol::{ErrorCode, Str};

use crate::broker::{Broker, Step};
use crate::configs::{
    broker_key, check_topic_value, topic_key, ConfigType, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER,
    RESOURCE_CLIENT_METRICS, RESOURCE_GROUP, RESOURCE_TOPIC,
};
use crate::dynamic_configs::{self, ALL_BROKERS, THIS_BROKER};
use crate::effects::Ticket;
use crate::request::Response;
use crate::resource_configs::{check_client_metrics, check_group, CLIENT_METRICS_KEYS, GROUP_KEYS};
use crate::settings::{ConfigOwner, Configs, SettingsChange};
use crate::staged::Change;
use crate::topic_requests::Refused;
use crate::topics::{log_config, topic_value};

const OPERATION_SET: i8 = 0;
const OPERATION_DELETE: i8 = 1;
const OPERATION_APPEND: i8 = 2;
const OPERATION_SUBTRACT: i8 = 3;

/// What becomes of a configuration.
enum Wanted<'a> {
    /// It is changed key by key.
    Changes(&'a [AlterableConfig]),
    /// It is replaced.
    All(Configs),
}

/// A resource whose configuration can be changed, with the one it has.
struct Alterable {
    target: Target,
    before: Configs,
}

enum Target {
    Topic(Str),
    Settings(ConfigOwner, String),
}

impl Broker {
    pub(crate) fn incremental_alter_configs(
        &mut self,
        ticket: Ticket,
        request: &IncrementalAlterConfigsRequest,
    ) -> Step {
        let ids: Vec<(i8, &Str)> =
            request.resources.iter().map(|one| (one.resource_type, &one.resource_name)).collect();
        let twice = twice(&ids);
        let allowed = self.check_names(ids.len());
        let mut is_staged = false;
        let mut responses = Vec::with_capacity(request.resources.len());
        for (resource, id) in request.resources.iter().zip(&ids) {
            let outcome = match twice.contains(id) {
                _ if allowed.is_err() => allowed.clone().map(|()| false),
                true => Err(listed_twice()),
                false => check_keys(resource.configs.iter().map(|one| &one.name)).and_then(|()| {
                    self.alter(*id, Wanted::Changes(&resource.configs), request.validate_only)
                }),
            };
            is_staged |= outcome == Ok(true);
            let (error_code, error_message) = split(outcome);
            responses.push(AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
            });
        }
        let response = IncrementalAlterConfigsResponse { throttle_time_ms: 0, responses };
        let response = Response::IncrementalAlterConfigs(response);
        self.answer_staged(ticket, response, is_staged)
    }

    pub(crate) fn alter_configs(&mut self, ticket: Ticket, request: &AlterConfigsRequest) -> Step {
        let ids: Vec<(i8, &Str)> =
            request.resources.iter().map(|one| (one.resource_type, &one.resource_name)).collect();
        let twice = twice(&ids);
        let allowed = self.check_names(ids.len());
        let mut is_staged = false;
        let mut responses = Vec::with_capacity(request.resources.len());
        for (resource, id) in request.resources.iter().zip(&ids) {
            let outcome = match twice.contains(id) {
                _ if allowed.is_err() => allowed.clone().map(|()| false),
                true => Err(listed_twice()),
                false => replacement(&resource.configs)
                    .and_then(|all| self.alter(*id, Wanted::All(all), request.validate_only)),
            };
            is_staged |= outcome == Ok(true);
            let (error_code, error_message) = split(outcome);
            responses.push(alter_configs::AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
            });
        }
        let response = AlterConfigsResponse { throttle_time_ms: 0, responses };
        let response = Response::AlterConfigs(response);
        self.answer_staged(ticket, response, is_staged)
    }

    /// Stages the change of one resource. Whether there is any.
    fn alter(
        &mut self,
        (resource_type, name): (i8, &Str),
        wanted: Wanted<'_>,
        validate_only: bool,
    ) -> Result<bool, Refused> {
        let Alterable { target, before } = self.alterable(resource_type, name, &wanted)?;
        let after = match wanted {
            Wanted::All(all) => all,
            Wanted::Changes(changes) => {
                let mut after = before.clone();
                for change in changes {
                    self.change(&target, &mut after, change)?;
                }
                after
            }
        };
        self.check_configs(&target, &after)?;
        if validate_only || after == before {
            return Ok(false);
        }
        match target {
            Target::Topic(name) => {
                self.stage(Change::Configure { name, configs: after }).map(|()| true)
            }
            Target::Settings(owner, name) => {
                self.stage_settings(SettingsChange::Configs { owner, name, configs: after })
            }
        }
    }

    fn alterable(
        &self,
        resource_type: i8,
        name: &Str,
        wanted: &Wanted<'_>,
    ) -> Result<Alterable, Refused> {
        let invalid = |words: String| Err((ErrorCode::InvalidRequest, words));
        let owner = match resource_type {
            RESOURCE_TOPIC => return self.alterable_topic(name),
            RESOURCE_BROKER => ConfigOwner::Broker,
            RESOURCE_GROUP => ConfigOwner::Group,
            RESOURCE_CLIENT_METRICS => ConfigOwner::ClientMetrics,
            RESOURCE_BROKER_LOGGER if matches!(wanted, Wanted::Changes(_)) => {
                let words = "The levels of loggers are set when weir starts (logging.level).";
                return invalid(words.to_owned());
            }
            other => return invalid(format!("Unknown resource type {other}")),
        };
        match owner {
            ConfigOwner::Broker if !matches!(&**name, ALL_BROKERS | THIS_BROKER) => {
                invalid(match name.parse::<i32>() {
                    Ok(id) => format!("Unexpected broker id, expected 0, but received {id}"),
                    Err(_) => format!("Node id must be an integer, but it is: {name}"),
                })
            }
            ConfigOwner::Group if name.is_empty() => {
                invalid("Default group resources are not allowed.".to_owned())
            }
            ConfigOwner::ClientMetrics if name.is_empty() => {
                invalid("Subscription name can't be empty".to_owned())
            }
            _ => Ok(Alterable {
                target: Target::Settings(owner, name.to_string()),
                before: self.settings.configs(owner, name).clone(),
            }),
        }
    }

    fn alterable_topic(&self, name: &Str) -> Result<Alterable, Refused> {
        if name.is_empty() {
            let words = "Default topic resources are not allowed.".to_owned();
            return Err((ErrorCode::InvalidRequest, words));
        }
        check_topic_name(name).map_err(|words| (ErrorCode::InvalidTopicException, words))?;
        let topic = self.topics.get(name).ok_or_else(|| {
            let words = format!("The topic '{name}' does not exist.");
            (ErrorCode::UnknownTopicOrPartition, words)
        })?;
        let target = Target::Topic(topic.name().clone());
        Ok(Alterable { target, before: topic.configs().clone() })
    }

    /// Makes one change. A key that is deleted need not exist.
    fn change(
        &self,
        target: &Target,
        configs: &mut Configs,
        change: &AlterableConfig,
    ) -> Result<(), Refused> {
        let name = &*change.name;
        if change.config_operation == OPERATION_DELETE {
            configs.remove(name);
            return Ok(());
        }
        let value = change.value.as_ref().ok_or_else(|| null_value(name))?;
        let word = match change.config_operation {
            OPERATION_SET => {
                configs.insert(name.to_owned(), value.to_string());
                return Ok(());
            }
            OPERATION_APPEND => "APPEND",
            OPERATION_SUBTRACT => "SUBTRACT",
            other => return Err((ErrorCode::InvalidRequest, format!("Unknown operation {other}"))),
        };
        let (kind, default) = self.type_and_default(target, name);
        if kind != Some(ConfigType::List) {
            let words = format!("Can't {word} to key {name} because its type is not LIST.");
            return Err((ErrorCode::InvalidConfig, words));
        }
        let before = configs.get(name).cloned().unwrap_or(default);
        let mut list: Vec<&str> = before.split(',').filter(|one| !one.is_empty()).collect();
        let named = value.split(',').filter(|one| !one.is_empty());
        match change.config_operation {
            OPERATION_APPEND => {
                for one in named {
                    if !list.contains(&one) {
                        list.push(one);
                    }
                }
            }
            _ => list.retain(|has| !named.clone().any(|one| one == *has)),
        }
        let after = list.join(",");
        configs.insert(name.to_owned(), after);
        Ok(())
    }

    /// The type of a key, and what holds where it is not set.
    fn type_and_default(&self, target: &Target, name: &str) -> (Option<ConfigType>, String) {
        match target {
            Target::Topic(_) => {
                let defaults = &self.config.topic_defaults;
                let own = Configs::new();
                let default = topic_value(&own, defaults, name);
                (topic_key(name).map(|key| key.kind), default.to_owned())
            }
            Target::Settings(ConfigOwner::Broker, _) => {
                let default = self.broker_value(name).unwrap_or_default();
                (broker_key(name).map(|key| key.kind), default)
            }
            Target::Settings(owner, _) => {
                let keys = match owner {
                    ConfigOwner::Group => GROUP_KEYS,
                    _ => CLIENT_METRICS_KEYS,
                };
                let key = keys.iter().find(|key| key.name == name);
                (key.map(|key| key.kind), key.map_or("", |key| key.default).to_owned())
            }
        }
    }

    fn check_configs(&self, target: &Target, configs: &Configs) -> Result<(), Refused> {
        let invalid = |words: String| (ErrorCode::InvalidConfig, words);
        match target {
            Target::Topic(_) => {
                for (name, value) in configs {
                    check_topic_value(name, value).map_err(invalid)?;
                }
                log_config(configs, &self.config.topic_defaults).map(|_| ()).map_err(invalid)
            }
            Target::Settings(ConfigOwner::Broker, _) => {
                dynamic_configs::check(&self.config, configs)
            }
            Target::Settings(ConfigOwner::Group, _) => {
                let bound = |name: &str| self.broker_value(name)?.trim().parse().ok();
                check_group(configs, bound)
            }
            Target::Settings(ConfigOwner::ClientMetrics, _) => check_client_metrics(configs),
        }
    }

    pub(crate) fn list_config_resources(
        &self,
        request: &ListConfigResourcesRequest,
        version: i16,
    ) -> Step {
        const ALL: &[i8] = &[
            RESOURCE_GROUP,
            RESOURCE_CLIENT_METRICS,
            RESOURCE_BROKER_LOGGER,
            RESOURCE_BROKER,
            RESOURCE_TOPIC,
        ];
        let asked = &request.resource_types;
        let mut response = ListConfigResourcesResponse::default();
        if asked.iter().any(|one| !ALL.contains(one)) {
            response.error_code = ErrorCode::UnsupportedVersion.code();
            return Step::Answer(Response::ListConfigResources(response));
        }
        // Version 0 was ListClientMetricsResources.
        let wanted = |one: &i8| match version {
            0 => *one == RESOURCE_CLIENT_METRICS,
            _ => asked.is_empty() || asked.contains(one),
        };
        for resource_type in ALL.iter().copied().filter(wanted) {
            let names: Vec<Str> = match resource_type {
                RESOURCE_GROUP => self.setting_names(ConfigOwner::Group),
                RESOURCE_CLIENT_METRICS => self.setting_names(ConfigOwner::ClientMetrics),
                RESOURCE_TOPIC => self.topics.iter().map(|topic| topic.name().clone()).collect(),
                _ => vec![Str::from_static(THIS_BROKER)],
            };
            let named = |resource_name| ConfigResource { resource_name, resource_type };
            response.config_resources.extend(names.into_iter().map(named));
        }
        Step::Answer(Response::ListConfigResources(response))
    }

    fn setting_names(&self, owner: ConfigOwner) -> Vec<Str> {
        self.settings.names(owner).map(Str::copy_from).collect()
    }
}

/// Those that are listed more than once.
fn twice<'a>(ids: &[(i8, &'a Str)]) -> BTreeSet<(i8, &'a Str)> {
    let mut seen = BTreeSet::new();
    ids.iter().copied().filter(|id| !seen.insert(*id)).collect()
}

fn listed_twice() -> Refused {
    (ErrorCode::InvalidRequest, "Each resource must appear at most once.".to_owned())
}

fn null_value(name: &str) -> Refused {
    (ErrorCode::InvalidRequest, format!("Null value not supported for : {name}"))
}

fn check_keys<'a>(names: impl Iterator<Item = &'a Str>) -> Result<(), Refused> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            let words = "Error due to duplicate config keys".to_owned();
            return Err((ErrorCode::InvalidRequest, words));
        }
    }
    Ok(())
}

fn replacement(configs: &[alter_configs::AlterableConfig]) -> Result<Configs, Refused> {
    check_keys(configs.iter().map(|one| &one.name))?;
    let pair = |config: &alter_configs::AlterableConfig| {
        let value = config.value.as_ref().ok_or_else(|| null_value(&config.name))?;
        Ok((config.name.to_string(), value.to_string()))
    };
    configs.iter().map(pair).collect()
}

fn split(outcome: Result<bool, Refused>) -> (i16, Option<Str>) {
    match outcome {
        Ok(_) => (0, None),
        Err((error, words)) => (error.code(), Some(words.into())),
    }
}
