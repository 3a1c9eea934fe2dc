//! A stand-in for the Hugging Face Hub on 127.0.0.1: two hosts (the Hub and its storage, which are
//! two ports here), real files, and faults on order.
//!
//! It speaks what the Hub speaks: search and the tree by pages with `Link`, model info, `resolve` with a
//! redirect to the other host for large files, `Range`, `ETag`, `X-Linked-Etag`, `X-Linked-Size`,
//! `X-Repo-Commit`, `X-Error-Code`, renamed, gated and private models.
#![allow(dead_code)]

mod serve;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use sha2::{Digest, Sha256};

/// Files of at least this many bytes are LFS: kept on the storage host.
pub const LARGE: usize = 1000;

/// A model of the stand-in.
#[derive(Clone)]
pub struct Model {
    pub files: Vec<(String, Vec<u8>)>,
    pub commit: String,
    /// Files need this token.
    pub gated: Option<String>,
    /// Everything needs this token.
    pub private: Option<String>,
    pub tags: Vec<String>,
    pub downloads: u64,
    /// The list of files has no sums, as that of some mirrors.
    pub sums_hidden: bool,
    /// What the list of files says of one file's size.
    pub size_lie: Option<(String, u64)>,
}

/// What goes wrong with an answer.
#[derive(Clone)]
pub enum Fault {
    /// This status with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection ends after so many bytes.
    Cut(usize),
    /// Nothing comes after so many bytes.
    Stall(usize),
    /// One byte is another.
    Corrupt,
    /// More bytes than were promised (no length is said).
    Long,
    /// Answers with the whole file whatever the range.
    NoRange,
    /// Says this header with another value.
    Header(&'static str, String),
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub host: &'static str,
    pub path: String,
    pub range: Option<String>,
    pub token: Option<String>,
}

#[derive(Default)]
pub struct State {
    pub models: BTreeMap<String, Model>,
    pub renamed: BTreeMap<String, String>,
    /// Faults by part of the path; a count of how often each happens.
    pub faults: Vec<(String, usize, Fault)>,
    pub seen: Vec<Seen>,
    pub page: usize,
    pub hub: String,
    pub storage: String,
}

/// A running stand-in; it stops when dropped.
pub struct Standin {
    state: Arc<Mutex<State>>,
    _runtime: tokio::runtime::Runtime,
}

impl Standin {
    pub fn start() -> Standin {
        Standin::on([0, 0])
    }

    /// On these ports of 127.0.0.1; 0 is any.
    pub fn on(ports: [u16; 2]) -> Standin {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let state = Arc::new(Mutex::new(State { page: 2, ..State::default() }));
        let bind = |port| std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        let [hub, storage] = ports.map(bind);
        {
            let mut state = state.lock().unwrap();
            state.hub = format!("http://{}", hub.local_addr().unwrap());
            state.storage = format!("http://{}", storage.local_addr().unwrap());
        }
        for (listener, host) in [(hub, "hub"), (storage, "storage")] {
            listener.set_nonblocking(true).unwrap();
            let app = serve::app(state.clone(), host);
            runtime.spawn(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, app).await.unwrap();
            });
        }
        Standin { state, _runtime: runtime }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn endpoint(&self) -> String {
        self.state().hub.clone()
    }

    pub fn add(&self, name: &str, model: Model) {
        self.state().models.insert(name.to_owned(), model);
    }

    /// The next `times` requests whose path holds `part` go wrong.
    pub fn fault(&self, part: &str, times: usize, fault: Fault) {
        self.state().faults.push((part.to_owned(), times, fault));
    }

    /// The requests so far whose path holds `part`.
    pub fn seen(&self, part: &str) -> Vec<Seen> {
        self.state().seen.iter().filter(|seen| seen.path.contains(part)).cloned().collect()
    }
}

impl Model {
    /// A model of these files.
    pub fn new(files: &[(&str, Vec<u8>)]) -> Model {
        let files: Vec<(String, Vec<u8>)> =
            files.iter().map(|(path, body)| ((*path).to_owned(), body.clone())).collect();
        let all: Vec<u8> = files.iter().flat_map(|(path, body)| [path.as_bytes(), body].concat()).collect();
        Model {
            commit: sha256(&all)[..40].to_owned(),
            files,
            gated: None,
            private: None,
            tags: vec!["safetensors".into(), "text-generation".into()],
            downloads: 7,
            sums_hidden: false,
            size_lie: None,
        }
    }

    /// A small model as a run needs it, and files that it does not need.
    pub fn usual() -> Model {
        Model::new(&[
            (".gitattributes", b"*.safetensors filter=lfs".to_vec()),
            ("README.md", b"# usual".to_vec()),
            ("config.json", br#"{"model_type":"llama"}"#.to_vec()),
            ("model.safetensors", noise(300_000, 1)),
            ("onnx/model.onnx", noise(5000, 2)),
            ("pytorch_model.bin", noise(5000, 3)),
            ("tokenizer.json", noise(3000, 4)),
            ("tokenizer_config.json", br#"{"a":1}"#.to_vec()),
        ])
    }

    /// A repository of GGUF files, one of them split.
    pub fn ggufs() -> Model {
        let mut model = Model::new(&[
            ("README.md", b"quants".to_vec()),
            ("m-Q4_K_M.gguf", noise(40_000, 5)),
            ("m-Q8_0-00001-of-00002.gguf", noise(50_000, 6)),
            ("m-Q8_0-00002-of-00002.gguf", noise(45_000, 7)),
        ]);
        model.tags = vec!["gguf".into()];
        model
    }

    pub fn file(&self, path: &str) -> Option<&[u8]> {
        self.files.iter().find(|(name, _)| name == path).map(|(_, body)| body.as_slice())
    }
}

/// Bytes that look like none other.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

pub fn sha256(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|b| format!("{b:02x}")).collect()
}

/// git's name for a file.
pub fn git_sha1(body: &[u8]) -> String {
    let mut hasher = sha1::Sha1::new_with_prefix(format!("blob {}\0", body.len()));
    hasher.update(body);
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// The name that a file's content has in the cache.
pub fn sum(body: &[u8]) -> String {
    if body.len() >= LARGE { sha256(body) } else { git_sha1(body) }
}
