//! Black-box tests: the binary as its user meets it, and the documents against the truth.

mod architecture;
mod error_pages;
mod main_job;
mod process;
