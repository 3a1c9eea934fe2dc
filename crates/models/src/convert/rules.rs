//! What a tensor under our name becomes in a GGUF, where that is not itself: a table. The loader understands both sides of
//! each row.

use weights::Tensor;

use super::source::{Change, Stored};
use crate::load::by_group;
use crate::mixers::{DeltaNet, Mamba2, Mixer, Mla};
use crate::spec::Spec;

/// Our name within a layer (or of the model), and what is written: GGUF's names, and what is done on the way to each. A
/// name that begins with `/` stands outside the layers.
pub(crate) type Rule = (&'static str, &'static [(&'static str, &'static [Form])]);

/// What is done to a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    /// `[n]` becomes `[n, 1]`.
    Column,
    /// All numbers in one row, under so many dimensions of one.
    Row(usize),
    /// Dimensions of one are left out.
    Squeezed,
    /// A row for each group of Mamba-2's heads.
    Groups,
    /// Logarithms of rates become negative rates.
    Decay,
    /// Of rows in two halves (of each expert), the first or the second.
    Half(usize),
    /// Multiplied by what config.json says at these keys.
    Times(&'static [&'static str]),
    /// Rows multiplied by the factors of Mamba-2's parts.
    TimesParts,
    /// Of Qwen3-Next's fused rows, those of queries, keys and values; or those of the gate.
    DeltaQkv,
    DeltaGate,
    /// Value heads in the order of Qwen 3.5's GGUFs: rows after those of queries and keys; all rows, of whole heads; one
    /// row for each head; columns.
    TiledAfterKeys,
    TiledHeads,
    TiledEach,
    TiledColumns,
    /// Of DeepSeek's matrix of keys and values: each head's keys, turned; each head's values.
    LatentKeys,
    LatentValues,
    /// Rows from that of the first position on.
    FromPosition,
    /// Only in the first layer.
    InFirst,
    /// Only where the embedding serves as output matrix.
    WhereTied,
}

use Form::*;

/// What holds for all.
const COMMON: &[Rule] = &[
    ("ffn_gate_up_exps.weight", &[("ffn_gate_exps.weight", &[Half(0)]), ("ffn_up_exps.weight", &[Half(1)])]),
    ("ffn_gate_up_exps.bias", &[("ffn_gate_exps.bias", &[Half(0)]), ("ffn_up_exps.bias", &[Half(1)])]),
    ("ffn_gate_inp_shexp.weight", &[("ffn_gate_inp_shexp.weight", &[Squeezed])]),
    ("exp_probs_b.bias", &[("exp_probs_b.bias", &[Row(0)])]),
    ("ssm_a_log", &[("ssm_a", &[Decay])]),
    ("ssm_conv1d.weight", &[("ssm_conv1d.weight", &[Squeezed])]),
    ("shortconv.conv.weight", &[("shortconv.conv.weight", &[Squeezed])]),
];

const MAMBA2: &[Rule] = &[
    ("ssm_a_log", &[("ssm_a", &[Decay, Column])]),
    ("ssm_d", &[("ssm_d", &[Column])]),
    ("ssm_norm.weight", &[("ssm_norm.weight", &[Groups])]),
];

const DELTA: &[Rule] =
    &[("ssm_in.weight", &[("attn_qkv.weight", &[DeltaQkv]), ("attn_gate.weight", &[DeltaGate])])];

/// What the rules ask about.
pub(super) struct Asked<'a> {
    pub spec: &'a Spec,
    pub layer: Option<usize>,
    /// The architecture's own rows.
    pub own: &'static [Rule],
    /// A number of config.json.
    pub number: &'a dyn Fn(&str) -> f32,
}

impl<'a> Asked<'a> {
    fn mixer<T: 'a>(&self, kind: impl Fn(&'a Mixer) -> Option<T>) -> Option<T> {
        self.spec.layers.get(self.layer?)?.mixers.iter().find_map(kind)
    }

    fn mamba2(&self) -> Option<&'a Mamba2> {
        self.mixer(|m| if let Mixer::Mamba2(m) = m { Some(m) } else { None })
    }

    fn delta(&self) -> Option<&'a DeltaNet> {
        self.mixer(|m| if let Mixer::DeltaNet(d) = m { Some(d) } else { None })
    }

    fn mla(&self) -> Option<&'a Mla> {
        self.mixer(|m| if let Mixer::Mla(m) = m { Some(m) } else { None })
    }

    /// What is written for the tensor `part` of the layer.
    pub fn outputs(&self, part: &str) -> Option<&'static [(&'static str, &'static [Form])]> {
        let scans = match (self.mamba2(), self.delta()) {
            (Some(_), _) => MAMBA2,
            (_, Some(_)) => DELTA,
            _ => &[],
        };
        let mut rows = self.own.iter().chain(scans).chain(COMMON);
        rows.find(|(name, _)| *name == part).map(|(_, outputs)| *outputs)
    }

    /// The tensor after these steps; `None` where it is not written.
    pub fn formed(&self, mut tensor: Stored, forms: &[Form]) -> Option<Stored> {
        for form in forms {
            tensor = self.form(tensor, *form)?;
        }
        Some(tensor)
    }

    fn form(&self, t: Stored, form: Form) -> Option<Stored> {
        let numbers: usize = t.shape.iter().product();
        Some(match form {
            Column => t.shaped(vec![numbers, 1]),
            Row(more) => t.shaped([vec![1; more], vec![numbers]].concat()),
            Squeezed => {
                let shape = t.shape.iter().copied().filter(|&n| n != 1).collect();
                t.shaped(shape)
            }
            Groups => {
                let groups = self.mamba2()?.n_groups;
                t.shaped(vec![groups, numbers / groups])
            }
            Decay => t.changed(Change::Decay),
            Half(which) => half(t, which),
            Times(keys) => {
                t.changed(Change::Times(vec![keys.iter().map(|key| (self.number)(key)).product()]))
            }
            TimesParts => {
                let factors = parts_of(self.mamba2()?);
                t.changed(Change::Times(factors))
            }
            DeltaQkv | DeltaGate => by_kind(t, self.delta()?, form == DeltaGate),
            TiledAfterKeys | TiledHeads | TiledEach => {
                let delta = self.delta()?;
                let keys = if form == TiledAfterKeys { 2 * delta.key_heads * delta.key_dim } else { 0 };
                let size = if form == TiledEach { 1 } else { delta.value_dim };
                let order = tiled(delta, size);
                t.mapped(move |row| if row < keys { row } else { keys + order(row - keys) })
            }
            TiledColumns => {
                let delta = self.delta()?;
                let order = tiled(delta, delta.value_dim);
                let order: Vec<usize> = (0..delta.value_heads * delta.value_dim).map(order).collect();
                let shape = t.shape.clone();
                t.then(shape, move |t| t.transposed()?.reordered(&order)?.transposed())
            }
            LatentKeys => latent_keys(t, self.mla()?),
            LatentValues => {
                let mla = self.mla()?;
                let (nope, value) = (mla.nope_dim, mla.value_dim);
                t.mapped(move |row| row / value * (nope + value) + nope + row % value).shaped(vec![
                    mla.attn.n_heads,
                    value,
                    mla.kv_rank,
                ])
            }
            FromPosition => {
                let first = self.spec.positions?.offset;
                let mut shape = t.shape.clone();
                *shape.first_mut()? = shape.first()?.checked_sub(first)?;
                t.mapped(move |row| row + first).shaped(shape)
            }
            InFirst if self.layer != Some(0) => return None,
            WhereTied if self.spec.tied != Some(true) => return None,
            InFirst | WhereTied => t,
        })
    }
}

/// One half of `[.., 2 n, columns]`, or of biases `[experts, 2 n]`.
fn half(t: Stored, which: usize) -> Stored {
    let bias = t.parts[0].name.ends_with("bias");
    let mut shape = t.shape.clone();
    let at = if bias { shape.len() - 1 } else { shape.len().saturating_sub(2) };
    shape[at] /= 2;
    let n = shape[at];
    let from = move |row: usize| row / n * 2 * n + which * n + row % n;
    if !bias {
        return t.mapped(from).shaped(shape);
    }
    let numbers: usize = shape.iter().product();
    let order: Vec<usize> = (0..numbers).map(from).collect();
    let narrow = shape.clone();
    t.then(shape, move |t| {
        let mut flat = t.clone();
        flat.shape = vec![t.elements()];
        let mut out = flat.reordered(&order)?;
        out.shape.clone_from(&narrow);
        Some(out)
    })
}

/// Of each row of Mamba-2's projection, the factor of its part.
fn parts_of(mamba: &Mamba2) -> Vec<f32> {
    let inner = mamba.n_heads * mamba.head_dim;
    let bc = mamba.n_groups * mamba.state_dim;
    let widths = [inner, inner, bc, bc, mamba.n_heads];
    widths.iter().zip(mamba.in_scales).flat_map(|(&n, factor)| vec![factor; n]).collect()
}

fn by_kind(t: Stored, delta: &DeltaNet, gate: bool) -> Stored {
    let values = delta.value_heads / delta.key_heads * delta.value_dim;
    let order = by_group(delta.key_heads, &[delta.key_dim, delta.key_dim, values, values]);
    let channels = 2 * delta.key_heads * delta.key_dim + delta.value_heads * delta.value_dim;
    let mut shape = t.shape.clone();
    let rows = if gate { order[channels..].to_vec() } else { order[..channels].to_vec() };
    shape[0] = rows.len();
    t.mapped(move |row| rows[row]).shaped(shape)
}

/// From the order in which value heads lie apart to that in which those of a key head are neighbours.
fn tiled(delta: &DeltaNet, size: usize) -> impl Fn(usize) -> usize + Send + Sync + 'static {
    let (keys, each) = (delta.key_heads, delta.value_heads / delta.key_heads);
    move |row| {
        let (head, at) = (row / size, row % size);
        (head % keys * each + head / keys) * size + at
    }
}

fn latent_keys(t: Stored, mla: &Mla) -> Stored {
    let (heads, nope, both, rank) =
        (mla.attn.n_heads, mla.nope_dim, mla.nope_dim + mla.value_dim, mla.kv_rank);
    let order: Vec<usize> = (0..heads * nope).map(|row| row / nope * both + row % nope).collect();
    t.then(vec![heads, rank, nope], move |t: &Tensor| {
        let mut keys = t.reordered(&order)?;
        keys.shape = vec![heads, nope, rank];
        keys.transposed()
    })
}
