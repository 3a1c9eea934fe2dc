//! Which keys a GGUF has to have so that it says what the folder said: found by reading it back.
//!
//! All that could be said is offered to the architecture's own reader. What it asks for and llama.cpp's converter writes
//! is kept. If the model that comes out is not the folder's, keys of our own are added, those that are needed and no others; and
//! if it is not even then, the model cannot be written.

use std::collections::BTreeMap;
use std::path::Path;

use super::keys::Keys;
use super::official::official;
use crate::arch::Arch;
use crate::hparams::Hparams;
use crate::mixers::Mixer;
use crate::rope::Scaling;
use crate::spec::{Act, Ffn, Positions, Spec};
use crate::{Error, Result};

/// Who reads a GGUF, and of what tensors.
pub(super) struct Reader<'a> {
    pub path: &'a Path,
    /// The row of the GGUF's architecture.
    pub arch: &'static Arch,
    /// Their names and rows.
    pub tensors: Vec<(String, usize)>,
}

/// Keys that say what the spec says, and those of them that only we read.
pub(super) struct Said {
    pub keys: Keys,
    pub own: Vec<String>,
}

impl Reader<'_> {
    /// The fewest of `candidates` that say `spec`.
    ///
    /// # Errors
    /// None do: what differs.
    pub fn say(&self, spec: &Spec, candidates: Keys) -> Result<Said> {
        let (mut keys, own): (Keys, Keys) =
            candidates.into_iter().partition(|(key, _)| official(self.arch.gguf, key));
        let mut names = vec![];
        if self.differs(spec, &keys).is_some() {
            names = own.keys().cloned().collect();
            keys.extend(own);
            if let Some(what) = self.differs(spec, &keys) {
                return Err(Error::Folder {
                    path: self.path.display().to_string(),
                    found: format!("a model of the architecture {} with {what}", spec.arch),
                    expected: "what a GGUF has keys for; take the safetensors, or a GGUF of the model".into(),
                });
            }
            names.retain(|name| {
                let value = keys.remove(name);
                let needed = self.differs(spec, &keys).is_some();
                keys.extend(value.filter(|_| needed).map(|value| (name.clone(), value)));
                needed
            });
        }
        let (_, unread) = self.read(&keys);
        keys.retain(|key, _| !unread.contains(key));
        Ok(Said { keys, own: names })
    }

    /// What the keys say, and which of them nobody read.
    fn read(&self, keys: &Keys) -> (Result<Spec>, Vec<String>) {
        let fields: BTreeMap<_, _> = keys.clone();
        let hparams =
            Hparams::from_gguf(self.path, self.arch.gguf, fields).beside(self.tensors.iter().cloned());
        let spec = (self.arch.build)(&hparams);
        let unread = hparams.unread();
        (spec, unread)
    }

    /// How the model that the keys say is another.
    fn differs(&self, spec: &Spec, keys: &Keys) -> Option<String> {
        match self.read(keys).0 {
            Ok(read) => difference(&self.plain(spec), &self.plain(&read)),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Less what lies in a GGUF's tensors.
    fn plain(&self, spec: &Spec) -> Spec {
        let mut s = spec.clone();
        (s.arch, s.tied, s.unused_layers, s.embedding) = (self.arch.gguf, None, 0, None);
        for rope in &mut s.ropes {
            match &mut rope.scaling {
                // (A dynamic one has no words in a GGUF; a note says so.)
                scaling @ (Scaling::Llama3 { .. }
                | Scaling::Factors(_)
                | Scaling::Proportional { .. }
                | Scaling::Dynamic { .. }) => {
                    *scaling = Scaling::None;
                }
                scaling if *scaling == (Scaling::Linear { factor: 1.0 }) => *scaling = Scaling::None,
                Scaling::LongRope { short, long, .. } => (*short, *long) = (vec![], vec![]),
                _ => {}
            }
        }
        s.positions = s.positions.map(|p| Positions { rows: p.rows - p.offset, offset: 0 });
        for layer in &mut s.layers {
            if let Ffn::Mlp { act: act @ Act::Xielu { .. }, .. } = &mut layer.ffn {
                *act = Act::Xielu { p: 0.0, n: 0.0, beta: 0.0, eps: 0.0 };
            }
            for mixer in &mut layer.mixers {
                match mixer {
                    Mixer::DeltaNet(delta) => delta.tiled = false,
                    Mixer::Mla(mla) => *mla = mla.clone().unfold(),
                    _ => {}
                }
            }
        }
        if let Some(take) = self.arch.in_weights {
            take(&mut s);
        }
        s
    }
}

/// The first place where two specs say different things, numbers apart that f32 does not tell.
fn difference(a: &Spec, b: &Spec) -> Option<String> {
    let (a, b) = (format!("{a:#?}"), format!("{b:#?}"));
    let (mut left, mut right) = (a.lines(), b.lines());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return None,
            (Some(a), Some(b)) if same(a, b) => {}
            (a, b) => {
                let shown =
                    |line: Option<&str>| line.unwrap_or("nothing").trim().trim_end_matches(',').to_string();
                return Some(format!("`{}` where a GGUF of it would say `{}`", shown(a), shown(b)));
            }
        }
    }
}

fn same(a: &str, b: &str) -> bool {
    let number = |line: &str| line.trim().trim_end_matches(',').rsplit(' ').next()?.parse::<f64>().ok();
    a == b
        || matches!((number(a), number(b)), (Some(x), Some(y)) if (x - y).abs() <= 1e-5 * x.abs().max(y.abs()))
}
