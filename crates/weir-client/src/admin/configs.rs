//! Administrative calls about settings: of topics, brokers, groups.

use weir_protocol::api::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use weir_protocol::api::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::{NodeId, Str};

use super::acls::refused;
use super::{passing, words, Admin};
use crate::client::Lane;
use crate::error::ClientError;

/// Kafka's config source "default config".
const SOURCE_DEFAULT: i8 = 5;

/// What settings belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic.
    Topic(String),
    /// A broker; `None` for the dynamic defaults of all.
    Broker(Option<NodeId>),
    /// A group (KIP-848).
    Group(String),
}

impl ConfigResource {
    /// Kafka's type and name.
    fn parts(&self) -> (i8, Str) {
        match self {
            ConfigResource::Topic(name) => (2, Str::copy_from(name)),
            ConfigResource::Broker(Some(node)) => (4, Str::copy_from(&node.to_string())),
            ConfigResource::Broker(None) => (4, Str::default()),
            ConfigResource::Group(name) => (32, Str::copy_from(name)),
        }
    }
}

/// A change of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// To this value.
    Set(String),
    /// Back to its default.
    Delete,
    /// This is added to a list.
    Append(String),
    /// This is taken from a list.
    Subtract(String),
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's name.
    pub name: Str,
    /// Its value; `None` if it is null or hidden.
    pub value: Option<Str>,
    /// Whether nobody has set it.
    pub is_default: bool,
    /// Whether it cannot be changed.
    pub read_only: bool,
    /// Whether its value is hidden.
    pub sensitive: bool,
}

impl Admin {
    /// All settings of a topic, by name.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`] if there is none; or if the cluster could not be asked.
    pub async fn describe_topic_configs(
        &self,
        topic: &str,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        self.describe_configs(&ConfigResource::Topic(topic.to_owned())).await
    }

    /// All settings of a resource, by name.
    ///
    /// # Errors
    /// [`ClientError::UnknownTopic`] if there is no such topic; or if the cluster could not be asked.
    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let (resource_type, resource_name) = resource.parts();
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type,
                resource_name,
                configuration_keys: None,
            }],
            ..DescribeConfigsRequest::default()
        };
        let ask = || async {
            match resource {
                // A broker tells only its own.
                ConfigResource::Broker(Some(node)) => {
                    let connection = self.client.connection(*node, Lane::SHARED).await?;
                    let timeout_ms = self.client.config().request_timeout_ms;
                    connection.request(&request, i16::MAX, timeout_ms).await
                }
                _ => self.client.ask_any(&request).await,
            }
        };
        let response = self.client.with_retries("describe configs", ask).await?;
        let result = response.results.into_iter().next().unwrap_or_default();
        match (ErrorCode::from_code(result.error_code), resource) {
            (ErrorCode::None, _) => {}
            (ErrorCode::UnknownTopicOrPartition, ConfigResource::Topic(topic)) => {
                return Err(ClientError::UnknownTopic { topic: topic.clone() });
            }
            (code, _) => {
                let message = words(result.error_message.as_ref());
                return Err(ClientError::Broker { api: "DescribeConfigs", code, message });
            }
        }
        let mut entries: Vec<ConfigEntry> = result.configs.into_iter().map(config_entry).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Changes these settings of a resource and leaves the others as they are (KIP-339). All or none.
    ///
    /// # Errors
    /// If the cluster could not be asked, or refused.
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &[(&str, ConfigChange)],
    ) -> Result<(), ClientError> {
        let (resource_type, resource_name) = resource.parts();
        let alterable = |(name, change): &(&str, ConfigChange)| {
            let (config_operation, value) = match change {
                ConfigChange::Set(value) => (0, Some(value)),
                ConfigChange::Delete => (1, None),
                ConfigChange::Append(value) => (2, Some(value)),
                ConfigChange::Subtract(value) => (3, Some(value)),
            };
            let value = value.map(|value| Str::copy_from(value));
            AlterableConfig { name: Str::copy_from(name), config_operation, value }
        };
        let configs = changes.iter().map(alterable).collect();
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource { resource_type, resource_name, configs }],
            validate_only: false,
        };
        let ask = || async {
            let response = match resource {
                ConfigResource::Broker(Some(node)) => {
                    let connection = self.client.connection(*node, Lane::SHARED).await?;
                    let timeout_ms = self.client.config().request_timeout_ms;
                    connection.request(&request, i16::MAX, timeout_ms).await?
                }
                _ => self.client.ask_controller(&request).await?,
            };
            let codes = response.responses.iter().map(|result| result.error_code);
            passing(&self.client, "IncrementalAlterConfigs", codes)?;
            Ok(response)
        };
        let response = self.client.with_retries("alter configs", ask).await?;
        response.responses.iter().try_for_each(|result| {
            let message = result.error_message.as_ref();
            refused("IncrementalAlterConfigs", result.error_code, message)
        })
    }
}

fn config_entry(config: DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: config.name,
        value: config.value.filter(|_| !config.is_sensitive),
        is_default: config.config_source == SOURCE_DEFAULT,
        read_only: config.read_only,
        sensitive: config.is_sensitive,
    }
}
