//! Attention against plain arithmetic, and bit for bit against every other way to cut it.

use super::*;

struct Case {
    heads: usize,
    kv_heads: usize,
    k_dim: usize,
    v_dim: usize,
    softcap: f32,
    window: Option<usize>,
    chunk: Option<usize>,
    alibi: bool,
    sinks: bool,
}

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut x = seed;
    (0..n)
        .map(|_| {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (x >> 33) as f32 / (1u64 << 30) as f32 - 1.0
        })
        .collect()
}

const PLAIN: Case = Case {
    heads: 4,
    kv_heads: 2,
    k_dim: 64,
    v_dim: 64,
    softcap: 0.0,
    window: None,
    chunk: None,
    alibi: false,
    sinks: false,
};

const CASES: [Case; 6] = [
    PLAIN,
    Case { heads: 6, k_dim: 10, v_dim: 22, softcap: 5.0, sinks: true, ..PLAIN },
    Case { heads: 3, kv_heads: 3, k_dim: 80, v_dim: 80, window: Some(37), ..PLAIN },
    Case { heads: 8, kv_heads: 1, k_dim: 16, v_dim: 128, window: Some(600), sinks: true, ..PLAIN },
    Case { k_dim: 16, v_dim: 16, chunk: Some(77), ..PLAIN },
    Case { heads: 6, kv_heads: 3, k_dim: 16, v_dim: 16, alibi: true, ..PLAIN },
];

struct Sequence {
    kv: KvLayer,
    table: Vec<u32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    sinks: Vec<f32>,
}

fn sequence(c: &Case, kind: KvType, n: usize, pool: &Pool) -> Sequence {
    let blocks = n.div_ceil(32) + 3;
    let blocks = if blocks.is_multiple_of(7) { blocks + 1 } else { blocks };
    // Blocks in an order of their own.
    let table: Vec<u32> = (0..n.div_ceil(32)).map(|i| ((i * 7 + 2) % blocks) as u32).collect();
    let mut kv = KvLayer::new(kind, blocks, c.kv_heads, c.k_dim, c.v_dim);
    let q = numbers(n * c.heads * c.k_dim, 1).iter().map(|x| x * 3.0).collect();
    let (k, v) = (numbers(n * c.kv_heads * c.k_dim, 2), numbers(n * c.kv_heads * c.v_dim, 3));
    let slots: Vec<u32> = (0..n).map(|i| table[i / 32] * 32 + i as u32 % 32).collect();
    kv.write(pool, &slots, &k, &v);
    Sequence { kv, table, q, k, v, sinks: numbers(c.heads, 4) }
}

fn run(isa: Isa, pool: &Pool, c: &Case, s: &Sequence, from: usize, to: usize) -> Vec<f32> {
    let sinks = c.sinks.then_some(&s.sinks[..]);
    let scale = 1.0 / (c.k_dim as f32).sqrt();
    let slopes = slopes(c);
    let p = AttnParams {
        softcap: c.softcap,
        window: c.window,
        chunk: c.chunk,
        slopes: c.alibi.then_some(&slopes[..]),
        sinks,
        ..AttnParams::new(c.heads, scale)
    };
    let span = Span { row: 0, tokens: to - from, position: from, blocks: &s.table };
    let mut out = vec![f32::NAN; (to - from) * c.heads * c.v_dim];
    let width = c.heads * c.k_dim;
    attend_on(isa, pool, &s.kv, &p, &[span], &s.q[from * width..to * width], &mut out);
    out
}

fn slopes(c: &Case) -> Vec<f32> {
    (1..=c.heads).map(|h| 0.5f32.powi(h as i32 + 2)).collect()
}

#[cfg_attr(miri, allow(dead_code))] // its test is not Miri's
fn plain(c: &Case, s: &Sequence, t: usize, head: usize) -> Vec<f64> {
    let h = head / (c.heads / c.kv_heads);
    let first = (t + 1).saturating_sub(c.window.unwrap_or(usize::MAX));
    let first = c.chunk.map_or(first, |n| first.max(t / n * n));
    let slope = if c.alibi { f64::from(slopes(c)[head]) } else { 0.0 };
    let q = &s.q[(t * c.heads + head) * c.k_dim..][..c.k_dim];
    let score = |j: usize| {
        let k = &s.k[(j * c.kv_heads + h) * c.k_dim..][..c.k_dim];
        let x = q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let (x, cap) = (x / (c.k_dim as f64).sqrt(), f64::from(c.softcap));
        (if cap > 0.0 { cap * (x / cap).tanh() } else { x }) + slope * (j as f64 - t as f64)
    };
    let weights: Vec<f64> = (first..=t).map(|j| score(j).exp()).collect();
    let sink = if c.sinks { f64::from(s.sinks[head]).exp() } else { 0.0 };
    let total: f64 = weights.iter().sum::<f64>() + sink;
    (0..c.v_dim)
        .map(|d| {
            let value = |j: usize| f64::from(s.v[(j * c.kv_heads + h) * c.v_dim + d]);
            weights.iter().enumerate().map(|(i, w)| w * value(first + i)).sum::<f64>() / total
        })
        .collect()
}

// Too many positions for Miri; those below walk the same code.
#[cfg(not(miri))]
#[test]
fn attention_is_near_plain_arithmetic() {
    let pool = Pool::new(2);
    let n = 1100;
    for c in &CASES {
        for (kind, tolerance) in [(KvType::F32, 2e-6), (KvType::F16, 1e-3), (KvType::Q8, 1e-2)] {
            let s = sequence(c, kind, n, &pool);
            for isa in Isa::available().into_iter().skip(1) {
                let from = 1037;
                let out = run(isa, &pool, c, &s, from, n);
                for t in [from, from + 20, n - 1] {
                    for head in 0..c.heads {
                        let got = &out[((t - from) * c.heads + head) * c.v_dim..][..c.v_dim];
                        for (g, e) in got.iter().zip(plain(c, &s, t, head)) {
                            assert!(
                                (f64::from(*g) - e).abs() < tolerance,
                                "{g} for {e}, {t} {head} {kind:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[cfg(not(miri))]
#[test]
fn a_row_is_the_same_bits_however_the_work_is_cut() {
    let pools: Vec<Pool> = (1..=3).map(Pool::new).collect();
    let n = 600;
    for (c, kind) in CASES.iter().flat_map(|c| [(c, KvType::F16), (c, KvType::Q8)]) {
        let s = sequence(c, kind, n, &pools[0]);
        let width = c.heads * c.v_dim;
        let all = run(Isa::best(), &pools[1], c, &s, 0, n);
        for isa in Isa::available() {
            for (i, (from, to)) in
                [(0, 1), (5, 6), (31, 33), (500, 541), (511, 513), (599, 600)].iter().enumerate()
            {
                for pool in &pools {
                    let got = run(isa, pool, c, &s, *from, *to);
                    let same = got
                        .iter()
                        .zip(&all[from * width..to * width])
                        .all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{} case {i}, {} threads, {from}..{to}", isa.name(), pool.threads());
                }
            }
        }
    }
}

#[test]
fn numbers_beyond_f16_are_held() {
    let pool = Pool::new(1);
    let mut kv = KvLayer::new(KvType::F16, 1, 1, 4, 4);
    kv.write(&pool, &[0], &[1.0; 4], &[1e6, -1e6, 1.0, 0.0]);
    let p = AttnParams::new(1, 0.5);
    let mut out = [0.0; 4];
    attend(&pool, &kv, &p, &[Span { row: 0, tokens: 1, position: 0, blocks: &[0] }], &[1.0; 4], &mut out);
    assert_eq!(out, [65504.0, -65504.0, 1.0, 0.0]);
}

/// A token of an encoder sees what follows it too: reading the text backwards gives the same.
#[test]
fn both_ways_is_the_same_read_backwards() {
    let small = Case { heads: 2, kv_heads: 1, k_dim: 8, v_dim: 16, ..PLAIN };
    let (pool, c, n) =
        (Pool::new(2), if cfg!(miri) { small } else { PLAIN }, if cfg!(miri) { 33 } else { 90 });
    let (keys, values) = (c.kv_heads * c.k_dim, c.kv_heads * c.v_dim);
    let (queries, outs) = (c.heads * c.k_dim, c.heads * c.v_dim);
    for window in [None, Some(20)] {
        let p = AttnParams { both_ways: true, window, ..AttnParams::new(c.heads, 0.1) };
        let (q, k, v) = (numbers(n * queries, 1), numbers(n * keys, 2), numbers(n * values, 3));
        let run = |q: &[f32], k: &[f32], v: &[f32]| {
            let mut kv = KvLayer::new(KvType::F32, 3, c.kv_heads, c.k_dim, c.v_dim);
            kv.write(&pool, &(0..n as u32).collect::<Vec<_>>(), k, v);
            let mut out = vec![0.0; n * outs];
            let span = Span { row: 0, tokens: n, position: 0, blocks: &[0, 1, 2] };
            attend(&pool, &kv, &p, &[span], q, &mut out);
            out
        };
        let back = |x: &[f32], width: usize| x.chunks(width).rev().flatten().copied().collect::<Vec<_>>();
        let forth = run(&q, &k, &v);
        let backwards = run(&back(&q, queries), &back(&k, keys), &back(&v, values));
        let far = forth.iter().zip(back(&backwards, outs)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-5, "{far}");
        let mut other = v.clone();
        other[(n - 1) * values] += 1.0;
        let moved = run(&q, &k, &other)[0] != forth[0];
        assert_eq!(moved, window.is_none(), "the first token and the last, window {window:?}");
    }
}

/// The same attention over keys and values that were rounded by the format's definition and kept as f32.
#[test]
fn bytes_with_scales_are_read_as_their_definition_has_them() {
    let (pool, n) = (Pool::new(2), if cfg!(miri) { 34 } else { 140 });
    let round = |x: &[f32], dim: usize| -> Vec<f32> {
        let group = |g: &[f32]| -> Vec<f32> {
            let scale = g.iter().fold(0f32, |m, x| m.max(x.abs())) / 127.0;
            g.iter().map(|x| if scale > 0.0 { (x / scale).round_ties_even() * scale } else { 0.0 }).collect()
        };
        x.chunks(dim).flat_map(|row| row.chunks(32).flat_map(group).collect::<Vec<_>>()).collect()
    };
    for c in &CASES {
        let bytes = sequence(c, KvType::Q8, n, &pool);
        let mut plain = sequence(c, KvType::F32, n, &pool);
        let slots: Vec<u32> = (0..n).map(|i| plain.table[i / 32] * 32 + i as u32 % 32).collect();
        plain.kv.write(&pool, &slots, &round(&plain.k, c.k_dim), &round(&plain.v, c.v_dim));
        for isa in Isa::available() {
            for (from, to) in [(if cfg!(miri) { n - 4 } else { 0 }, n), (n - 1, n)] {
                let (a, b) = (run(isa, &pool, c, &bytes, from, to), run(isa, &pool, c, &plain, from, to));
                assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()), "{} {from}", isa.name());
            }
        }
    }
}

#[test]
fn strange_numbers_do_not_spread_in_bytes() {
    let pool = Pool::new(1);
    let mut kv = KvLayer::new(KvType::Q8, 1, 1, 4, 4);
    let v = [f32::INFINITY, f32::NAN, 0.0, -1.0];
    kv.write(&pool, &[0, 1], &[0.0; 8], &[&v[..], &[0.0; 4]].concat());
    let p = AttnParams::new(1, 0.5);
    let mut out = [0.0; 4];
    attend(&pool, &kv, &p, &[Span { row: 0, tokens: 1, position: 0, blocks: &[0] }], &[1.0; 4], &mut out);
    assert!(out[0] > 3e38 && out[0].is_finite() && out[1..] == [0.0; 3], "{out:?}");
    // 32 numbers of a value in f32, f16, and as bytes with one scale.
    let bytes = |kind| KvLayer::new(kind, 1, 2, 64, 64).bytes() / (2 * 32 * 64 * 2 / 32);
    assert_eq!([KvType::F32, KvType::F16, KvType::Q8].map(bytes), [128, 64, 36]);
}
