//! Who commits offsets in a transaction.

/// A consumer's place in its group, so that the coordinator refuses the offsets of a member that has
/// lost its partitions meanwhile (KIP-447). [`crate::Consumer::group_metadata`] gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    /// `group.id`.
    pub group_id: String,
    /// The generation, or the member epoch of KIP-848; -1 without a membership.
    pub generation_id: i32,
    /// The member's id; empty without a membership.
    pub member_id: String,
    /// `group.instance.id`.
    pub instance_id: Option<String>,
}

impl GroupMetadata {
    /// A group whose members nobody checks: for offsets read by `assign`.
    pub fn new(group_id: impl Into<String>) -> Self {
        GroupMetadata {
            group_id: group_id.into(),
            generation_id: -1,
            member_id: String::new(),
            instance_id: None,
        }
    }
}
