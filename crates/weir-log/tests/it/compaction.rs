//! Compaction, case by case.
