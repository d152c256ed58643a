//! DescribeAcls, CreateAcls, DeleteAcls: rules of access, kept and told. They are not enforced yet: everybody may do
//! everything, whatever they say.
//!
//! Unlike a Kafka without an authorizer, which answers SECURITY_DISABLED, this broker always keeps them.

use std::collections::BTreeSet;

use weir_protocol::api::create_acls::{
    AclCreation, AclCreationResult, CreateAclsRequest, CreateAclsResponse,
};
use weir_protocol::api::delete_acls::{
    DeleteAclsFilter, DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsRequest,
    DeleteAclsResponse,
};
use weir_protocol::api::describe_acls::{
    AclDescription, DescribeAclsRequest, DescribeAclsResource, DescribeAclsResponse,
};
use weir_protocol::{ErrorCode, Str};

use crate::broker::{Broker, Step};
use crate::effects::Ticket;
use crate::request::Response;
use crate::settings::SettingsChange;
use crate::topic_requests::Refused;

/// Declares an enum with Kafka's numbers and names.
macro_rules! kafka_enum {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $code:literal, $word:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(i8)]
        #[allow(missing_docs)] // The names are Kafka's.
        pub enum $name {
            $($variant = $code,)+
        }

        impl $name {
            fn from_code(code: i8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

kafka_enum! {
    /// What a rule is about.
    ResourceType {
        Topic = 2, "TOPIC";
        Group = 3, "GROUP";
        Cluster = 4, "CLUSTER";
        TransactionalId = 5, "TRANSACTIONAL_ID";
        DelegationToken = 6, "DELEGATION_TOKEN";
        User = 7, "USER";
    }
}
kafka_enum! {
    /// Whether a rule is about one name or all that begin with it.
    PatternType {
        Literal = 3, "LITERAL";
        Prefixed = 4, "PREFIXED";
    }
}
kafka_enum! {
    /// What a rule allows or denies.
    Operation {
        All = 2, "ALL";
        Read = 3, "READ";
        Write = 4, "WRITE";
        Create = 5, "CREATE";
        Delete = 6, "DELETE";
        Alter = 7, "ALTER";
        Describe = 8, "DESCRIBE";
        ClusterAction = 9, "CLUSTER_ACTION";
        DescribeConfigs = 10, "DESCRIBE_CONFIGS";
        AlterConfigs = 11, "ALTER_CONFIGS";
        IdempotentWrite = 12, "IDEMPOTENT_WRITE";
        CreateTokens = 13, "CREATE_TOKENS";
        DescribeTokens = 14, "DESCRIBE_TOKENS";
        TwoPhaseCommit = 15, "TWO_PHASE_COMMIT";
    }
}
kafka_enum! {
    /// Whether a rule allows or denies.
    Permission {
        Deny = 2, "DENY";
        Allow = 3, "ALLOW";
    }
}

/// Matches every value, in filters.
const ANY: i8 = 1;
/// Matches names that a rule applies to, in filters.
const PATTERN_MATCH: i8 = 2;
/// What a client sends for a value it does not know.
const UNKNOWN: i8 = 0;
/// The name of a literal rule about all resources.
const WILDCARD: &str = "*";
/// Rules that one request may be held against, all its filters together: some tenths of a second.
const FILTERED_MAX: usize = 10_000_000;
/// The only name of the resource CLUSTER.
const CLUSTER_NAME: &str = "kafka-cluster";

/// A rule of access.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    resource_type: ResourceType,
    pattern_type: PatternType,
    resource_name: String,
    principal: String,
    host: String,
    operation: Operation,
    permission: Permission,
}

impl Acl {
    /// Memory that its names take.
    pub(crate) fn len_bytes(&self) -> usize {
        self.resource_name.len() + self.principal.len() + self.host.len()
    }

    /// It, in words of the file of settings.
    pub(crate) fn words(&self) -> [String; 7] {
        [
            self.resource_type.word().to_owned(),
            self.pattern_type.word().to_owned(),
            self.resource_name.clone(),
            self.principal.clone(),
            self.host.clone(),
            self.operation.word().to_owned(),
            self.permission.word().to_owned(),
        ]
    }

    /// The rule of these words.
    pub(crate) fn from_words(words: &[String]) -> Option<Self> {
        let [resource_type, pattern_type, name, principal, host, operation, permission] = words
        else {
            return None;
        };
        Some(Self {
            resource_type: ResourceType::from_word(resource_type)?,
            pattern_type: PatternType::from_word(pattern_type)?,
            resource_name: name.clone(),
            principal: principal.clone(),
            host: host.clone(),
            operation: Operation::from_word(operation)?,
            permission: Permission::from_word(permission)?,
        })
    }

    /// The rule that a client wants, with the checks of Kafka's `AclControlManager`.
    fn wanted(creation: &AclCreation) -> Result<Self, Refused> {
        let invalid = |words: String| (ErrorCode::InvalidRequest, words);
        let name = &creation.resource_name;
        let acl = Self {
            resource_type: ResourceType::from_code(creation.resource_type).ok_or_else(|| {
                invalid(format!("Invalid resourceType {}", creation.resource_type))
            })?,
            pattern_type: PatternType::from_code(creation.resource_pattern_type).ok_or_else(
                || invalid(format!("Invalid patternType {}", creation.resource_pattern_type)),
            )?,
            resource_name: name.to_string(),
            principal: creation.principal.to_string(),
            host: creation.host.to_string(),
            operation: Operation::from_code(creation.operation)
                .ok_or_else(|| invalid(format!("Invalid operation {}", creation.operation)))?,
            permission: Permission::from_code(creation.permission_type).ok_or_else(|| {
                invalid(format!("Invalid permissionType {}", creation.permission_type))
            })?,
        };
        if name.is_empty() {
            return Err(invalid("Invalid empty resource name".to_owned()));
        }
        if acl.resource_type == ResourceType::Cluster && *name != *CLUSTER_NAME {
            let words = format!("The only valid name for the CLUSTER resource is {CLUSTER_NAME}");
            return Err(invalid(words));
        }
        if !acl.principal.contains(':') {
            return Err(invalid(format!(
                "Could not parse principal from `{}` (no colon is present separating the principal type from the \
                 principal name)",
                acl.principal
            )));
        }
        Ok(acl)
    }
}

/// Which rules are meant.
#[derive(Debug, Clone)]
struct AclFilter {
    resource_type: i8,
    resource_name: Option<Str>,
    pattern_type: i8,
    principal: Option<Str>,
    host: Option<Str>,
    operation: i8,
    permission: i8,
}

impl From<&DescribeAclsRequest> for AclFilter {
    fn from(request: &DescribeAclsRequest) -> Self {
        Self {
            resource_type: request.resource_type_filter,
            resource_name: request.resource_name_filter.clone(),
            pattern_type: request.pattern_type_filter,
            principal: request.principal_filter.clone(),
            host: request.host_filter.clone(),
            operation: request.operation,
            permission: request.permission_type,
        }
    }
}

impl From<&DeleteAclsFilter> for AclFilter {
    fn from(filter: &DeleteAclsFilter) -> Self {
        Self {
            resource_type: filter.resource_type_filter,
            resource_name: filter.resource_name_filter.clone(),
            pattern_type: filter.pattern_type_filter,
            principal: filter.principal_filter.clone(),
            host: filter.host_filter.clone(),
            operation: filter.operation,
            permission: filter.permission_type,
        }
    }
}

impl AclFilter {
    /// Kafka closes the connection where a filter has the number for "unknown"; here it is said.
    fn check(&self) -> Result<(), Refused> {
        let numbers = [self.resource_type, self.pattern_type, self.operation, self.permission];
        match numbers.contains(&UNKNOWN) {
            true => Err((
                ErrorCode::InvalidRequest,
                "The filter contains elements of unknown type.".to_owned(),
            )),
            false => Ok(()),
        }
    }

    /// The one rule that it can mean, if it leaves nothing open.
    fn exact(&self) -> Option<Acl> {
        Some(Acl {
            resource_type: ResourceType::from_code(self.resource_type)?,
            pattern_type: PatternType::from_code(self.pattern_type)?,
            resource_name: self.resource_name.as_ref()?.to_string(),
            principal: self.principal.as_ref()?.to_string(),
            host: self.host.as_ref()?.to_string(),
            operation: Operation::from_code(self.operation)?,
            permission: Permission::from_code(self.permission)?,
        })
    }

    fn matches(&self, acl: &Acl) -> bool {
        let number = |wanted: i8, has: i8| wanted == ANY || wanted == has;
        let text =
            |wanted: &Option<Str>, has: &str| wanted.as_ref().is_none_or(|one| **one == *has);
        number(self.resource_type, acl.resource_type as i8)
            && self.matches_name(acl)
            && text(&self.principal, &acl.principal)
            && text(&self.host, &acl.host)
            && number(self.operation, acl.operation as i8)
            && number(self.permission, acl.permission as i8)
    }

    /// Kafka's `ResourcePatternFilter.matches` (KIP-290).
    fn matches_name(&self, acl: &Acl) -> bool {
        let pattern = acl.pattern_type;
        if !matches!(self.pattern_type, ANY | PATTERN_MATCH) && self.pattern_type != pattern as i8 {
            return false;
        }
        let Some(wanted) = self.resource_name.as_deref() else { return true };
        if self.pattern_type != PATTERN_MATCH {
            return *wanted == *acl.resource_name;
        }
        match pattern {
            PatternType::Literal => *wanted == *acl.resource_name || acl.resource_name == WILDCARD,
            PatternType::Prefixed => wanted.starts_with(&acl.resource_name),
        }
    }
}

impl Broker {
    pub(crate) fn describe_acls(&self, request: &DescribeAclsRequest) -> Step {
        let filter = AclFilter::from(request);
        let mut response = DescribeAclsResponse::default();
        if let Err((error, words)) = filter.check() {
            (response.error_code, response.error_message) = (error.code(), Some(words.into()));
            return Step::Answer(Response::DescribeAcls(response));
        }
        let mut last: Option<&Acl> = None;
        for acl in self.settings.acls().iter().filter(|acl| filter.matches(acl)) {
            let same = last.replace(acl).is_some_and(|last| {
                (last.resource_type, last.pattern_type) == (acl.resource_type, acl.pattern_type)
                    && last.resource_name == acl.resource_name
            });
            if !same {
                response.resources.push(DescribeAclsResource {
                    resource_type: acl.resource_type as i8,
                    resource_name: Str::copy_from(&acl.resource_name),
                    pattern_type: acl.pattern_type as i8,
                    acls: Vec::new(),
                });
            }
            if let Some(resource) = response.resources.last_mut() {
                resource.acls.push(AclDescription {
                    principal: Str::copy_from(&acl.principal),
                    host: Str::copy_from(&acl.host),
                    operation: acl.operation as i8,
                    permission_type: acl.permission as i8,
                });
            }
        }
        Step::Answer(Response::DescribeAcls(response))
    }

    pub(crate) fn create_acls(&mut self, ticket: Ticket, request: &CreateAclsRequest) -> Step {
        let allowed = self.check_names(request.creations.len());
        let wanted: Vec<Result<Acl, Refused>> = match allowed {
            Ok(()) => request.creations.iter().map(Acl::wanted).collect(),
            Err(refused) => vec![Err(refused); request.creations.len()],
        };
        let valid = wanted.iter().filter_map(|one| one.as_ref().ok());
        let new: Vec<Acl> =
            valid.filter(|acl| !self.settings.acls().contains(acl)).cloned().collect();
        let staged = match new.is_empty() {
            true => Ok(false),
            false => self.stage_settings(SettingsChange::AddAcls(new)),
        };
        let results = wanted.into_iter().map(|wanted| {
            let outcome = wanted.map(|_| ()).and_then(|()| staged.clone().map(|_| ()));
            let (error, words) = match outcome {
                Ok(()) => (ErrorCode::None, Some(Str::new())),
                Err((error, words)) => (error, Some(words.into())),
            };
            AclCreationResult { error_code: error.code(), error_message: words }
        });
        let results = results.collect();
        let response = Response::CreateAcls(CreateAclsResponse { throttle_time_ms: 0, results });
        match staged {
            Ok(true) => self.answer_when_stored(ticket, response),
            _ => Step::Answer(response),
        }
    }

    /// Whether so many filters may be held against all rules. Those that mean one rule are looked up, and do not count.
    fn check_filters(&self, filters: &[AclFilter]) -> Result<(), Refused> {
        self.check_names(filters.len())?;
        let wide = filters.iter().filter(|filter| filter.check().is_ok());
        let wide = wide.filter(|filter| filter.exact().is_none()).count();
        if wide.saturating_mul(self.settings.acls().len()) > FILTERED_MAX {
            let words = "So many filters for so many rules are too much for one request.";
            return Err((ErrorCode::InvalidRequest, words.to_owned()));
        }
        Ok(())
    }

    pub(crate) fn delete_acls(&mut self, ticket: Ticket, request: &DeleteAclsRequest) -> Step {
        let filters: Vec<AclFilter> = request.filters.iter().map(AclFilter::from).collect();
        if let Err((error, words)) = self.check_filters(&filters) {
            let result = DeleteAclsFilterResult {
                error_code: error.code(),
                error_message: Some(words.into()),
                ..Default::default()
            };
            return Step::Answer(deleted(vec![result; filters.len()]));
        }
        let mut gone: BTreeSet<Acl> = BTreeSet::new();
        let mut results = Vec::with_capacity(request.filters.len());
        for filter in filters {
            let mut result = DeleteAclsFilterResult { error_message: None, ..Default::default() };
            match filter.check() {
                Err((error, words)) => {
                    (result.error_code, result.error_message) = (error.code(), Some(words.into()));
                }
                Ok(()) => {
                    // What an earlier filter of the request has taken is gone for the later ones, as in Kafka.
                    let acls = self.settings.acls();
                    let matching: Vec<&Acl> = match filter.exact() {
                        Some(exact) => acls.get(&exact).into_iter().collect(),
                        None => acls.iter().filter(|acl| filter.matches(acl)).collect(),
                    };
                    let matching: Vec<&Acl> =
                        matching.into_iter().filter(|acl| !gone.contains(acl)).collect();
                    result.matching_acls = matching.iter().map(|acl| matching_acl(acl)).collect();
                    gone.extend(matching.into_iter().cloned());
                }
            }
            results.push(result);
        }
        if gone.is_empty() {
            return Step::Answer(deleted(results));
        }
        match self.stage_settings(SettingsChange::RemoveAcls(gone.into_iter().collect())) {
            Ok(_) => self.answer_when_stored(ticket, deleted(results)),
            Err((error, words)) => {
                let words = Str::from(words);
                for result in results.iter_mut().filter(|result| result.error_code == 0) {
                    result.matching_acls.clear();
                    result.error_code = error.code();
                    result.error_message = Some(words.clone());
                }
                Step::Answer(deleted(results))
            }
        }
    }
}

fn deleted(filter_results: Vec<DeleteAclsFilterResult>) -> Response {
    Response::DeleteAcls(DeleteAclsResponse { throttle_time_ms: 0, filter_results })
}

fn matching_acl(acl: &Acl) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl {
        error_code: 0,
        error_message: None,
        resource_type: acl.resource_type as i8,
        resource_name: Str::copy_from(&acl.resource_name),
        pattern_type: acl.pattern_type as i8,
        principal: Str::copy_from(&acl.principal),
        host: Str::copy_from(&acl.host),
        operation: acl.operation as i8,
        permission_type: acl.permission as i8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(pattern: &str, name: &str) -> Acl {
        let words = ["TOPIC", pattern, name, "User:a", "*", "READ", "ALLOW"];
        Acl::from_words(&words.map(str::to_owned)).unwrap()
    }

    fn filter(pattern_type: i8, name: Option<&str>) -> AclFilter {
        AclFilter {
            resource_type: 2,
            resource_name: name.map(Str::copy_from),
            pattern_type,
            principal: None,
            host: None,
            operation: ANY,
            permission: ANY,
        }
    }

    #[test]
    fn names_are_matched_as_by_kafka() {
        let acls = [
            acl("LITERAL", "orders"),
            acl("PREFIXED", "ord"),
            acl("LITERAL", "*"),
            acl("PREFIXED", "x"),
        ];
        let check = |filter: AclFilter, expect: &[usize]| {
            let matching: Vec<usize> =
                (0..acls.len()).filter(|index| filter.matches(&acls[*index])).collect();
            assert_eq!(matching, expect, "{filter:?}");
        };
        check(filter(3, Some("orders")), &[0]);
        check(filter(4, Some("ord")), &[1]);
        check(filter(4, Some("orders")), &[]);
        check(filter(ANY, Some("ord")), &[1]);
        check(filter(ANY, None), &[0, 1, 2, 3]);
        check(filter(3, None), &[0, 2]);
        check(filter(PATTERN_MATCH, Some("orders")), &[0, 1, 2]);
        check(filter(PATTERN_MATCH, Some("ord")), &[1, 2]);
        check(filter(PATTERN_MATCH, Some("*")), &[2]);
        check(filter(PATTERN_MATCH, None), &[0, 1, 2, 3]);
    }
}
