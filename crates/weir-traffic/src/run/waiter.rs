//! Callers waiting for the answers to the events of one call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Answer;
use crate::error::{Reason, Refused};
use crate::sink::Accepted;

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
    /// By an event the later ones of this call that repeat its id: they share its answer. Bounded by
    /// the events of the call.
    repeats: HashMap<u32, Vec<u32>>,
}

impl Group {
    pub(super) fn new(events: usize) -> Arc<Self> {
        let state =
            State { answers: vec![None; events], left: events, repeats: HashMap::default() };
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

    /// The event at `index` has the id of the one at `first`, which is on its way: its answer is that
    /// one's, as a duplicate. It has no [`Waiter`]. To be said before `first` can be answered.
    pub(super) fn repeat(&self, first: u32, index: usize) {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.state().repeats.entry(first).or_default().push(index);
    }

    fn put(&self, index: u32, answer: Answer) {
        let mut state = self.state();
        for repeat in state.repeats.remove(&index).into_iter().flatten() {
            let repeated = answer.clone().map(|place| Accepted { duplicate: true, ..place });
            state.put(repeat, repeated);
        }
        state.put(index, answer);
        if state.left == 0 {
            self.done.notify_one();
        }
    }
}

impl State {
    fn put(&mut self, index: u32, answer: Answer) {
        if let Some(place @ None) = self.answers.get_mut(index as usize) {
            *place = Some(answer);
            self.left -= 1;
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
            group.put(self.index, answer);
        }
    }

    pub(super) fn settle(mut self, answer: Answer) {
        if let Some(group) = self.group.take() {
            group.put(self.index, answer);
        }
    }
}

/// A waiter nobody settled: its event was in a manager that is gone.
impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            group.put(self.index, Err(Refused::new(Reason::OutcomeUnknown, 0)));
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
