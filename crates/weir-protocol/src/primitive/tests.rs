//! Edges of lengths, varints, nulls, tagged fields and the heap budget.
