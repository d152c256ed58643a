//! Administrative calls about access control lists.

use weir_protocol::api::create_acls::{AclCreation, CreateAclsRequest};
use weir_protocol::api::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use weir_protocol::api::describe_acls::DescribeAclsRequest;
use weir_protocol::error_code::ErrorCode;
use weir_protocol::types::Str;

use super::{passing, words, Admin};
use crate::error::ClientError;

/// Kafka's pattern type of names that are meant literally.
pub const PATTERN_LITERAL: i8 = 3;
/// Kafka's code of "any" in the filters of resource types, operations and permissions.
pub const ANY: i8 = 1;

/// One rule: who may or may not do what with which resource. Types, operations and permissions are
/// Kafka's codes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// 2 topic, 3 group, 4 cluster, 5 transactional id.
    pub resource_type: i8,
    /// The resource's name, or the beginning of it.
    pub resource_name: Str,
    /// 3 literal, 4 prefixed.
    pub pattern_type: i8,
    /// As `User:name`.
    pub principal: Str,
    /// An address, or `*`.
    pub host: Str,
    /// 2 all, 3 read, 4 write, 5 create, 6 delete, 7 alter, 8 describe, ...
    pub operation: i8,
    /// 2 deny, 3 allow.
    pub permission: i8,
}

/// Which rules are meant; what is `None` or [`ANY`] is not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclFilter {
    /// As in [`Acl`], or [`ANY`].
    pub resource_type: i8,
    /// The name.
    pub resource_name: Option<String>,
    /// 1 any, 2 match (also prefixes and `*`), 3 literal, 4 prefixed.
    pub pattern_type: i8,
    /// As in [`Acl`].
    pub principal: Option<String>,
    /// As in [`Acl`].
    pub host: Option<String>,
    /// As in [`Acl`], or [`ANY`].
    pub operation: i8,
    /// As in [`Acl`], or [`ANY`].
    pub permission: i8,
}

impl Default for AclFilter {
    /// All rules.
    fn default() -> Self {
        AclFilter {
            resource_type: ANY,
            resource_name: None,
            pattern_type: ANY,
            principal: None,
            host: None,
            operation: ANY,
            permission: ANY,
        }
    }
}

impl Admin {
    /// The rules that the filter means, sorted.
    ///
    /// # Errors
    /// If the cluster could not be asked or refused.
    pub async fn describe_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, ClientError> {
        let text = |text: &Option<String>| text.as_deref().map(Str::copy_from);
        let request = DescribeAclsRequest {
            resource_type_filter: filter.resource_type,
            resource_name_filter: text(&filter.resource_name),
            pattern_type_filter: filter.pattern_type,
            principal_filter: text(&filter.principal),
            host_filter: text(&filter.host),
            operation: filter.operation,
            permission_type: filter.permission,
        };
        let ask = || async {
            let response = self.client.ask_any(&request).await?;
            let message = response.error_message.as_ref();
            refused("DescribeAcls", response.error_code, message)?;
            Ok(response)
        };
        let response = self.client.with_retries("describe ACLs", ask).await?;
        let mut acls = Vec::new();
        for resource in response.resources {
            acls.extend(resource.acls.into_iter().map(|acl| Acl {
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                pattern_type: resource.pattern_type,
                principal: acl.principal,
                host: acl.host,
                operation: acl.operation,
                permission: acl.permission_type,
            }));
        }
        acls.sort_unstable();
        Ok(acls)
    }

    /// Makes rules; one result per rule, in their order. A rule that exists is made again.
    ///
    /// # Errors
    /// If the cluster could not be asked.
    pub async fn create_acls(
        &self,
        acls: &[Acl],
    ) -> Result<Vec<Result<(), ClientError>>, ClientError> {
        let creation = |acl: &Acl| AclCreation {
            resource_type: acl.resource_type,
            resource_name: acl.resource_name.clone(),
            resource_pattern_type: acl.pattern_type,
            principal: acl.principal.clone(),
            host: acl.host.clone(),
            operation: acl.operation,
            permission_type: acl.permission,
        };
        let request = CreateAclsRequest { creations: acls.iter().map(creation).collect() };
        let ask = || async {
            let response = self.client.ask_controller(&request).await?;
            let codes = response.results.iter().map(|result| result.error_code);
            passing(&self.client, "CreateAcls", codes)?;
            Ok(response)
        };
        let response = self.client.with_retries("create ACLs", ask).await?;
        let results = response.results.into_iter();
        let result = results
            .map(|result| refused("CreateAcls", result.error_code, result.error_message.as_ref()));
        Ok(result.collect())
    }

    /// Deletes the rules that the filter means, and returns them, sorted.
    ///
    /// # Errors
    /// If the cluster could not be asked, or did not delete one.
    pub async fn delete_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, ClientError> {
        let text = |text: &Option<String>| text.as_deref().map(Str::copy_from);
        let filter = DeleteAclsFilter {
            resource_type_filter: filter.resource_type,
            resource_name_filter: text(&filter.resource_name),
            pattern_type_filter: filter.pattern_type,
            principal_filter: text(&filter.principal),
            host_filter: text(&filter.host),
            operation: filter.operation,
            permission_type: filter.permission,
        };
        let request = DeleteAclsRequest { filters: vec![filter] };
        let ask = || async {
            let response = self.client.ask_controller(&request).await?;
            let codes = response.filter_results.iter().map(|result| result.error_code);
            passing(&self.client, "DeleteAcls", codes)?;
            Ok(response)
        };
        let response = self.client.with_retries("delete ACLs", ask).await?;
        let mut deleted = Vec::new();
        for result in response.filter_results {
            refused("DeleteAcls", result.error_code, result.error_message.as_ref())?;
            for acl in result.matching_acls {
                refused("DeleteAcls", acl.error_code, acl.error_message.as_ref())?;
                deleted.push(Acl {
                    resource_type: acl.resource_type,
                    resource_name: acl.resource_name,
                    pattern_type: acl.pattern_type,
                    principal: acl.principal,
                    host: acl.host,
                    operation: acl.operation,
                    permission: acl.permission_type,
                });
            }
        }
        deleted.sort_unstable();
        Ok(deleted)
    }
}

/// The broker's refusal, with its words.
pub(super) fn refused(
    api: &'static str,
    code: i16,
    message: Option<&Str>,
) -> Result<(), ClientError> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::Broker { api, code, message: words(message) }),
    }
}
