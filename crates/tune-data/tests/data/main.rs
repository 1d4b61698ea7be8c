//! From files to rows, through the public interface.

mod chat;
mod refusals;
mod rows;
mod support;
mod tokenizer;
