//! Search, download and keep models of the Hugging Face Hub.
//!
//! Before the way of a token begins: this crate turns `ORG/MODEL[:QUANT][@REVISION]` into a path that
//! can be loaded. [`search`](search::search) and [`download`](download::download) use the network,
//! [`Store`](store::Store) never does. All of them block; none may be called from inside a tokio task.

mod api;
mod cache;
mod checksum;
mod choose;
mod client;
pub mod config;
pub mod download;
pub mod error;
mod fetch;
pub mod quants;
pub mod reference;
mod remove;
pub mod search;
pub mod store;

pub use config::Config;
pub use error::{Error, Kind, Result};
pub use reference::{Reference, Target};
pub use remove::Removal;
pub use store::Store;

/// Runs a future to its end on a runtime of its own.
fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime =
        runtime.map_err(|e| Error::new(Kind::Other, format!("cannot start the network threads: {e}")))?;
    runtime.block_on(future)
}
