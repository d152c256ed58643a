//! The partitions a member holds, and what `poll` has to do about them. Pure.
//!
//! Partitions change hands only inside `poll`, so a protocol does not take or give them: it leaves
//! steps, which `poll` takes one by one and confirms by number: while it does one, that one may have
//! become of no use, and then nothing else is taken for done. Each time a partition is taken it gets a new
//! [`Tenure`]; a commit is good as long as the tenure in which it was asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::consumer::TopicPartition;
use crate::error::ClientError;

/// One stay of a partition with this member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tenure(u64);

/// The number of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StepId(u64);

/// What `poll` does next about its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Commit what is to be committed of these, then give them up.
    Revoke(Vec<TopicPartition>),
    /// Give these up: they are somebody else's already.
    Lose(Vec<TopicPartition>),
    /// Take these, beside those that are held.
    Assign(Vec<TopicPartition>),
    /// Tell the program.
    Fail(ClientError),
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    owned: BTreeMap<TopicPartition, Tenure>,
    next_tenure: u64,
    next_step: u64,
    steps: VecDeque<(StepId, Step)>,
}

impl Holdings {
    pub(crate) fn owned(&self) -> impl Iterator<Item = &TopicPartition> {
        self.owned.keys()
    }

    pub(crate) fn owned_list(&self) -> Vec<TopicPartition> {
        self.owned.keys().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.owned.is_empty()
    }

    /// The present stay of this partition, if it is held.
    pub(crate) fn tenure(&self, partition: &TopicPartition) -> Option<Tenure> {
        self.owned.get(partition).copied()
    }

    /// Whether `poll` has nothing left to do.
    pub(crate) fn is_settled(&self) -> bool {
        self.steps.is_empty()
    }

    /// The oldest step; it stays until it is confirmed.
    pub(crate) fn next_step(&self) -> Option<(StepId, Step)> {
        self.steps.front().cloned()
    }

    /// Whether this step is the oldest, and so of use still.
    pub(crate) fn is_next(&self, id: StepId) -> bool {
        self.steps.front().is_some_and(|(next, _)| *next == id)
    }

    /// This step is done. Changes nothing if it was dropped meanwhile.
    pub(crate) fn confirm(&mut self, id: StepId) {
        if !self.is_next(id) {
            return;
        }
        match self.steps.pop_front().map(|(_, step)| step) {
            Some(Step::Revoke(partitions)) => {
                let gone: BTreeSet<TopicPartition> = partitions.into_iter().collect();
                self.owned.retain(|partition, _| !gone.contains(partition));
            }
            Some(Step::Assign(partitions)) => {
                for partition in partitions {
                    self.next_tenure += 1;
                    self.owned.insert(partition, Tenure(self.next_tenure));
                }
            }
            Some(Step::Lose(_) | Step::Fail(_)) | None => {}
        }
    }

    /// Has these given up, after a commit. Does nothing for none.
    pub(crate) fn revoke(&mut self, partitions: Vec<TopicPartition>) {
        if !partitions.is_empty() {
            self.push(Step::Revoke(partitions));
        }
    }

    /// Has these taken. Also for none: a program waits for the word that the group has settled.
    pub(crate) fn assign(&mut self, partitions: Vec<TopicPartition>) {
        self.push(Step::Assign(partitions));
    }

    /// Everything is somebody else's already, from now on. Steps not done yet are of no use any more.
    pub(crate) fn lose(&mut self) {
        self.steps.retain(|(_, step)| matches!(step, Step::Lose(_) | Step::Fail(_)));
        let lost: Vec<TopicPartition> = std::mem::take(&mut self.owned).into_keys().collect();
        if !lost.is_empty() {
            self.push(Step::Lose(lost));
        }
    }

    /// Has everything given up, for good.
    pub(crate) fn close(&mut self) {
        self.steps.retain(|(_, step)| matches!(step, Step::Lose(_)));
        self.revoke(self.owned_list());
    }

    /// Has this told.
    pub(crate) fn fail(&mut self, error: ClientError) {
        self.push(Step::Fail(error));
    }

    fn push(&mut self, step: Step) {
        self.next_step += 1;
        self.steps.push_back((StepId(self.next_step), step));
    }

    /// Leaves the steps that lead from what is held to `target`: first what goes, then what comes.
    /// Returns whether something goes.
    pub(crate) fn move_to(&mut self, target: &[TopicPartition]) -> bool {
        let wanted: BTreeSet<&TopicPartition> = target.iter().collect();
        let gone: Vec<TopicPartition> =
            self.owned().filter(|partition| !wanted.contains(partition)).cloned().collect();
        let is_new = |partition: &&TopicPartition| !self.owned.contains_key(partition);
        let come = wanted.iter().copied().filter(is_new).cloned().collect();
        let something_goes = !gone.is_empty();
        self.revoke(gone);
        self.assign(come);
        something_goes
    }
}
