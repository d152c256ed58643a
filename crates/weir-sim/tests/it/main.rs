//! The demonstration as a closed loop: fleet, validation, location handler, tasks, orders.

mod closed_loop;
mod run;
