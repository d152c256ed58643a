//! Order per key over a change of the number of partitions.
//!
//! When a topic grows, keys map to the new number of partitions from the next record on, as with any
//! producer of Kafka. A key may so go to another partition than before. What was appended before the
//! change is answered before anything appended after it is sent: so the log never has a later record of
//! a key earlier in time than an earlier one.
//!
//! The price: after a growth, a partition that stands still holds the later records of its topic back,
//! at most for the delivery timeout.

use std::collections::VecDeque;

/// Batches of a topic not answered yet, by the number of partitions when they were opened.
#[derive(Debug)]
pub(super) struct Generations {
    /// Number and batches, oldest first, never empty.
    list: VecDeque<(u32, u64)>,
}

impl Generations {
    pub(super) fn new() -> Self {
        Generations { list: VecDeque::from([(0, 0)]) }
    }

    /// The topic has more partitions from now on.
    pub(super) fn grow(&mut self) {
        let (newest, batches) = self.list.back().copied().unwrap_or_default();
        if batches > 0 {
            self.list.push_back((newest.wrapping_add(1), 0));
        }
    }

    /// A batch is opened; the generation it is of.
    pub(super) fn opened(&mut self) -> u32 {
        match self.list.back_mut() {
            Some((number, batches)) => {
                *batches += 1;
                *number
            }
            None => 0,
        }
    }

    /// One more batch of this generation: another was too large.
    pub(super) fn split(&mut self, generation: u32) {
        if let Some((_, batches)) = self.list.iter_mut().find(|(number, _)| *number == generation) {
            *batches += 1;
        }
    }

    /// A batch of this generation is decided. `true`: those of a later one may be sent now.
    pub(super) fn decided(&mut self, generation: u32) -> bool {
        if let Some((_, batches)) = self.list.iter_mut().find(|(number, _)| *number == generation) {
            debug_assert!(*batches > 0, "a batch is decided once");
            *batches = batches.saturating_sub(1);
        }
        let oldest = self.oldest();
        while self.list.len() > 1 && self.list.front().is_some_and(|(_, batches)| *batches == 0) {
            self.list.pop_front();
        }
        self.oldest() != oldest
    }

    pub(super) fn may_send(&self, generation: u32) -> bool {
        self.oldest() == generation
    }

    fn oldest(&self) -> u32 {
        self.list.front().map_or(0, |(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_growth_everything_may_be_sent() {
        let mut generations = Generations::new();
        let first = generations.opened();
        generations.grow();
        generations.grow();
        let second = generations.opened();
        assert!(generations.may_send(first) && !generations.may_send(second));
        assert!(generations.decided(first));
        assert!(generations.may_send(second));
        assert!(!generations.decided(second), "nobody waits");
    }

    proptest! {
        /// The model: a list of open batches with the number of growths before each.
        #[test]
        fn a_batch_goes_only_when_all_opened_before_the_last_growth_are_decided(
            acts in prop::collection::vec((0..4_u8, any::<prop::sample::Index>()), 0..80),
        ) {
            let mut generations = Generations::new();
            let mut growths = 0;
            let mut model: Vec<(u32, u32)> = Vec::new();
            for (act, which) in acts {
                match act {
                    0 => {
                        generations.grow();
                        growths += 1;
                    }
                    1 | 2 => model.push((generations.opened(), growths)),
                    _ if !model.is_empty() => {
                        let (generation, _) = model.remove(which.index(model.len()));
                        generations.decided(generation);
                    }
                    _ => {}
                }
                let oldest = model.iter().map(|(_, growths)| *growths).min();
                for (generation, growths) in &model {
                    prop_assert_eq!(generations.may_send(*generation), Some(*growths) == oldest);
                }
            }
        }
    }
}
