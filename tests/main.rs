//! The real binary, end to end: every test starts `tune` as a user would and looks at what it prints, its exit code and
//! the files it leaves.

#![expect(clippy::disallowed_methods, reason = "tests touch files and the clock themselves")]

mod support;

mod bad_input;
mod bench;
mod devices;
mod diff;
mod documents;
mod exporting;
mod fuzz_corpus;
mod golden;
mod hub;
mod peft;
mod publishing;
mod quickstart;
mod recipe_page;
mod resuming;
mod same_bits;
mod screens;
mod site;
mod sources;
mod tamper_table;
mod tampering;
mod unshareable;
mod untrusted;
