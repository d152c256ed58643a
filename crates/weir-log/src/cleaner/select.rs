//! Which log is due, and how much of it.

use std::collections::BTreeMap;

use weir_protocol::{Offset, TimestampMs};

use super::run::{CleanRules, CleanRun, Source};
use crate::log::Log;
use crate::log_dir::{LogDir, LogId};

/// What of a log may be cleaned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cleanable {
    pub(crate) first_dirty: Offset,
    /// The segments at the front of the log that may be.
    pub(crate) segments: usize,
    pub(crate) clean_bytes: u64,
    pub(crate) dirty_bytes: u64,
    /// `max.compaction.lag.ms` is over.
    pub(crate) is_overdue: bool,
    /// There would be more if the recovery point moved on.
    pub(crate) wants_checkpoint: bool,
}

impl Cleanable {
    /// Kafka's `cleanableRatio`.
    #[allow(clippy::cast_precision_loss)] // A ratio.
    pub(crate) fn dirty_ratio(&self) -> f64 {
        match self.clean_bytes + self.dirty_bytes {
            0 => 0.0,
            all => self.dirty_bytes as f64 / all as f64,
        }
    }
}

impl LogDir {
    /// The log to be cleaned: one that was asked for, else one whose records have waited too long, else
    /// the dirtiest above `min.cleanable.dirty.ratio`. If not `all`, only what was asked for.
    ///
    /// With it comes the request that it answers.
    pub(crate) fn select(
        &mut self,
        now: TimestampMs,
        all: bool,
    ) -> Option<(CleanRun, Option<Offset>)> {
        let forced = self.roll_forced(now);
        let mut best: Option<((bool, bool, f64), LogId, Cleanable)> = None;
        let mut ratio_max = 0.0_f64;
        let mut dirty_ratios = BTreeMap::new();
        let mut wanting = Vec::new();
        for (id, log) in self.logs().filter(|(_, log)| log.config.cleanup_compact) {
            let is_forced = forced.contains_key(&id);
            let is_left_alone = self.upkeep.cleaner.uncleanable.contains_key(&id);
            if !is_forced && !all {
                continue;
            }
            let cleanable = log.cleanable(now);
            let ratio = cleanable.dirty_ratio();
            dirty_ratios.insert(id, ratio);
            if !is_forced && is_left_alone {
                continue;
            }
            ratio_max = ratio_max.max(ratio);
            let is_dirty = cleanable.dirty_bytes > 0;
            let is_due =
                is_dirty && (cleanable.is_overdue || ratio > log.config.min_cleanable_dirty_ratio);
            // What is clean already is cleaned again on request, as tombstones may be due.
            let is_asked = forced.get(&id).is_some_and(|asked_to| {
                let ready = log.can_clean_to(*asked_to, &cleanable);
                if !ready && cleanable.wants_checkpoint {
                    wanting.push(id);
                }
                ready && cleanable.segments > 0
            });
            let rank = (is_asked, cleanable.is_overdue, ratio);
            if (is_asked || is_due) && best.as_ref().is_none_or(|(other, ..)| rank > *other) {
                best = Some((rank, id, cleanable));
            }
        }
        if all {
            self.upkeep.cleaner.stats.dirty_ratio_max = ratio_max;
            self.upkeep.cleaner.dirty_ratios = dirty_ratios;
        }
        self.ask_for_checkpoint(wanting);
        self.drop_hopeless(&forced);
        let ((is_asked, ..), id, cleanable) = best?;
        let asked_to = forced.get(&id).copied().filter(|_| is_asked);
        Some((self.new_run(id, &cleanable, now)?, asked_to))
    }

    /// Seals what was appended to logs that are to be cleaned on request.
    fn roll_forced(&mut self, now: TimestampMs) -> BTreeMap<LogId, Offset> {
        let forced = self.upkeep.cleaner.forced.clone();
        for (id, asked_to) in &forced {
            let Some(log) = self.get_mut(*id) else { continue };
            let base = log.active().base;
            if log.config.cleanup_compact && base < *asked_to && base < log.end.offset {
                // Without room what is sealed already is cleaned.
                let _ = log.roll(now);
            }
        }
        forced
    }

    /// Forgets requests for logs that have nothing to clean.
    fn drop_hopeless(&mut self, forced: &BTreeMap<LogId, Offset>) {
        for id in forced.keys() {
            let has_some = self
                .get(*id)
                .is_some_and(|log| log.config.cleanup_compact && log.segments.len() > 1);
            if !has_some {
                self.upkeep.cleaner.forced.remove(id);
            }
        }
    }

    fn ask_for_checkpoint(&mut self, logs: Vec<LogId>) {
        if self.checkpoint_logs.is_empty() {
            self.checkpoint_logs.extend(logs);
        }
    }

    fn new_run(&self, id: LogId, cleanable: &Cleanable, now: TimestampMs) -> Option<CleanRun> {
        let log = self.get(id)?;
        let options = &self.options.cleaner;
        let [high, low] = hash_key(self.directory_id().0);
        let rules = CleanRules {
            now,
            delete_retention_ms: log.config.delete_retention_ms,
            segment_bytes_max: log.config.segment_bytes_max,
            segment_index_bytes_max: log.config.segment_index_bytes_max,
            index_interval_bytes: log.config.index_interval_bytes,
            dedupe_bytes_max: options.dedupe_buffer_bytes_max,
            inflate_bytes_max: options.inflate_bytes_max,
            hash_key: [high, low],
            producers: log.producers.last_batches(),
        };
        let ends = log.segments.iter().skip(1).map(|next| next.base);
        let sources = log.segments.iter().zip(ends).take(cleanable.segments);
        let sources = sources.map(|(segment, end)| Source {
            base: segment.base,
            end,
            size_bytes: segment.size_bytes,
            path: segment.path(),
            index_entries: [segment.offsets.len(), segment.times.len()],
        });
        let later = log.segments.iter().skip(cleanable.segments).map(|segment| segment.base);
        Some(CleanRun::new(
            id,
            log.commit.generation,
            log.place.clone(),
            rules,
            sources.collect(),
            later.collect(),
            cleanable.first_dirty,
        ))
    }
}

/// The directory's own random bits: no secret, but nobody who sends records knows them.
fn hash_key(id: [u8; 16]) -> [u64; 2] {
    let number = u128::from_be_bytes(id);
    // Both halves fit.
    [(number >> 64) as u64, number as u64]
}

impl Log {
    /// Whether waiting for a sync or a checkpoint would not let more of what was asked for be cleaned.
    fn can_clean_to(&self, asked_to: Offset, cleanable: &Cleanable) -> bool {
        let limit = self.segments.get(cleanable.segments).map_or(self.end.offset, |next| next.base);
        let waits = cleanable.wants_checkpoint || self.synced.offset < asked_to;
        limit >= asked_to || !waits
    }

    /// What may be cleaned now; Kafka's `LogCleanerManager.cleanableOffsets`.
    pub(crate) fn cleanable(&self, now: TimestampMs) -> Cleanable {
        let first_dirty = self.cleaned_to.unwrap_or(self.log_start).max(self.log_start);
        let mut found = Cleanable {
            first_dirty,
            segments: 0,
            clean_bytes: 0,
            dirty_bytes: 0,
            is_overdue: false,
            wants_checkpoint: false,
        };
        let decided = self.last_stable_offset();
        let ends = self.segments.iter().skip(1).map(|next| next.base);
        for (segment, end) in self.segments.iter().zip(ends) {
            let is_dirty = end > first_dirty;
            if end > decided || is_dirty && self.is_too_young(segment, now) {
                break;
            }
            if end > self.recovery_point_on_file {
                found.wants_checkpoint = true;
                break;
            }
            found.segments += 1;
            if is_dirty {
                found.dirty_bytes += segment.size_bytes;
                found.is_overdue |= self.is_overdue(segment, now);
            } else {
                found.clean_bytes += segment.size_bytes;
            }
        }
        found
    }

    fn is_too_young(&self, segment: &crate::segment::Segment, now: TimestampMs) -> bool {
        let lag_ms = self.config.min_compaction_lag_ms;
        lag_ms > 0 && now.since(segment.latest_or_later().timestamp) < lag_ms
    }

    fn is_overdue(&self, segment: &crate::segment::Segment, now: TimestampMs) -> bool {
        if self.config.max_compaction_lag_ms == i64::MAX {
            return false;
        }
        // One that cannot be read is not more urgent for that.
        let first = segment.first_timestamp().unwrap_or(TimestampMs(-1));
        first > TimestampMs(0) && now.since(first) > self.config.max_compaction_lag_ms
    }
}
