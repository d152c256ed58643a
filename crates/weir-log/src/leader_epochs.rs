//! [`LeaderEpochs`]: under which leader epoch each offset was written (KIP-101, KIP-320).

use weir_protocol::{LeaderEpoch, Offset};

/// Start offset of each epoch, both strictly rising. Follows Kafka's `LeaderEpochFileCache`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    /// Takes what a file said; entries that contradict an earlier one are dropped.
    pub(crate) fn from_entries(entries: impl IntoIterator<Item = (LeaderEpoch, Offset)>) -> Self {
        let mut epochs = Self::default();
        for (epoch, start) in entries {
            epochs.assign(epoch, start);
        }
        epochs
    }

    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// Notes that `epoch` begins at `start`, unless it began before. An epoch that began there, but
    /// wrote nothing, is forgotten. Returns whether anything changed.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch < LeaderEpoch(0) || self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        self.entries.retain(|(_, known_start)| *known_start < start);
        self.entries.push((epoch, start));
        true
    }

    /// The epoch an offset was written under.
    pub(crate) fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let count = self.entries.partition_point(|(_, start)| *start <= offset);
        self.entries.get(count.checked_sub(1)?).map(|(epoch, _)| *epoch)
    }

    /// The largest epoch up to `epoch` and the offset where it ends: Kafka's `endOffsetFor`.
    /// `None` if `epoch` is later than any that is known.
    pub(crate) fn end_of(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        if epoch == LeaderEpoch::NONE {
            return None;
        }
        if self.latest() == Some(epoch) {
            return Some((epoch, log_end));
        }
        let later = self.entries.partition_point(|(known, _)| *known <= epoch);
        let (_, end) = *self.entries.get(later)?;
        match later.checked_sub(1).and_then(|floor| self.entries.get(floor)) {
            Some((floor, _)) => Some((*floor, end)),
            // Earlier than any that is known: it ends where the first one begins.
            None => Some((epoch, end)),
        }
    }

    /// Forgets what began at or after `end`.
    pub(crate) fn truncate_from_end(&mut self, end: Offset) {
        self.entries.retain(|(_, start)| *start < end);
    }

    /// Forgets what ended before `start`; the epoch that holds `start` then begins there.
    pub(crate) fn truncate_from_start(&mut self, start: Offset) {
        let before = self.entries.partition_point(|(_, known)| *known <= start);
        let Some(holds) = before.checked_sub(1) else { return };
        self.entries.drain(..holds);
        if let Some(first) = self.entries.first_mut() {
            first.1 = start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs() -> LeaderEpochs {
        LeaderEpochs::from_entries([
            (LeaderEpoch(1), Offset(10)),
            (LeaderEpoch(3), Offset(20)),
            (LeaderEpoch(4), Offset(30)),
        ])
    }

    #[test]
    fn end_of_an_epoch_is_the_start_of_the_next_known() {
        let check = |epoch: i32, expect: Option<(i32, i64)>| {
            let expect = expect.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end)));
            assert_eq!(epochs().end_of(LeaderEpoch(epoch), Offset(99)), expect, "{epoch}");
        };
        check(-2, Some((-2, 10)));
        check(-1, None);
        check(0, Some((0, 10)));
        check(1, Some((1, 20)));
        check(2, Some((1, 20)));
        check(3, Some((3, 30)));
        check(4, Some((4, 99)));
        check(5, None);
    }

    #[test]
    fn an_epoch_that_wrote_nothing_is_forgotten() {
        let mut epochs = epochs();
        assert!(epochs.assign(LeaderEpoch(5), Offset(30)));
        assert_eq!(epochs.epoch_of(Offset(30)), Some(LeaderEpoch(5)));
        assert_eq!(epochs.epoch_of(Offset(29)), Some(LeaderEpoch(3)));
        assert!(!epochs.assign(LeaderEpoch(5), Offset(40)));
        assert!(!epochs.assign(LeaderEpoch(2), Offset(40)));
    }

    #[test]
    fn truncation_keeps_what_holds_the_bound() {
        let mut cut = epochs();
        cut.truncate_from_end(Offset(20));
        assert_eq!(cut.entries(), [(LeaderEpoch(1), Offset(10))]);
        let mut cut = epochs();
        cut.truncate_from_start(Offset(25));
        assert_eq!(cut.entries(), [(LeaderEpoch(3), Offset(25)), (LeaderEpoch(4), Offset(30))]);
        let mut cut = epochs();
        cut.truncate_from_start(Offset(5));
        assert_eq!(cut, epochs());
    }
}
