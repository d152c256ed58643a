//! Callers waiting for the answers to the events of one call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Answer;
use crate::error::{Reason, Refused};

/// The answers of one call, as they come.
#[derive(Debug)]
pub(super) struct Group {
    state: Mutex<State>,
    done: Notify,
}

#[derive(Debug)]
struct State {
    answers: Vec<Option<Answer>>,
    left: usize,
}

impl Group {
    pub(super) fn new(events: usize) -> Arc<Self> {
        let state = State { answers: vec![None; events], left: events };
        Arc::new(Self { state: Mutex::new(state), done: Notify::new() })
    }

    /// Waits for all. Every event has a [`Waiter`] somewhere, and a waiter answers even when dropped.
    pub(super) async fn answers(&self) -> Vec<Answer> {
        while self.state().left > 0 {
            // One permit is kept, and there is one that waits: nothing is missed.
            self.done.notified().await;
        }
        let unknown = || Err(Refused::new(Reason::OutcomeUnknown, 0));
        let answers = std::mem::take(&mut self.state().answers);
        answers.into_iter().map(|answer| answer.unwrap_or_else(unknown)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, index: usize, answer: Answer) {
        let mut state = self.state();
        if let Some(place @ None) = state.answers.get_mut(index) {
            *place = Some(answer);
            state.left -= 1;
        }
        if state.left == 0 {
            self.done.notify_one();
        }
    }
}

/// The right, and the duty, to answer one event.
#[derive(Debug)]
pub(super) struct Waiter {
    group: Option<Arc<Group>>,
    index: u32,
}

impl Waiter {
    pub(super) fn new(group: Arc<Group>, index: usize) -> Self {
        Self { group: Some(group), index: u32::try_from(index).unwrap_or(u32::MAX) }
    }

    /// Which event of its call it stands for.
    pub(super) const fn index(&self) -> u32 {
        self.index
    }

    /// Answers while the event is still on its way; what comes later is not heard any more.
    pub(super) fn settle_early(&self, answer: Answer) {
        if let Some(group) = &self.group {
            group.put(self.index as usize, answer);
        }
    }

    pub(super) fn settle(mut self, answer: Answer) {
        if let Some(group) = self.group.take() {
            group.put(self.index as usize, answer);
        }
    }
}

/// A waiter nobody settled: its event was in a manager that is gone.
impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            group.put(self.index as usize, Err(Refused::new(Reason::OutcomeUnknown, 0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_event_whose_waiter_is_dropped_has_an_unknown_outcome() {
        let group = Group::new(2);
        let refused = Refused::new(Reason::LaneFull, 5);
        Waiter::new(Arc::clone(&group), 1).settle(Err(refused.clone()));
        drop(Waiter::new(Arc::clone(&group), 0));
        assert_eq!(group.state().left, 0);
        let answers = group.answers().await;
        assert_eq!(answers[0].as_ref().unwrap_err().reason, Reason::OutcomeUnknown);
        assert_eq!(answers[1], Err(refused));
    }

    #[tokio::test]
    async fn a_call_without_events_is_answered_at_once() {
        assert!(Group::new(0).answers().await.is_empty());
    }
}
