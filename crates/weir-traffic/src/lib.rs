//! Admission, lanes, limits, breaker and ledger.
