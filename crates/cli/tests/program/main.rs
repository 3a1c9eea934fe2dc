//! The program as a person meets it: the real binary, in a home of its own, one module a verb or a worry.

mod bad_inputs;
mod chat;
mod encode;
mod folders;
mod generate;
mod home;
mod interrupt;
mod manual;
mod quantized;
mod score;
#[path = "../../../hub/tests/standin/mod.rs"]
mod standin;
mod store;
mod structure;
mod terminal;
mod tokenize;
