//! Q4_K: 256 numbers of 4 bits; 8 groups of 32, each with a 6-bit scale and minimum.
//!
//! `d: f16, dmin: f16, scales: [u8; 12], qs: [u8; 128]`; x = d sc q - dmin m. Groups 2c and 2c+1 share 32
//! bytes, low and high nibbles.

use super::bits::{f16_at, inverse, put_f16};
use super::search::{self, Fit, Loss, Plan, nearest};

/// One block -> 256 numbers.
pub fn unpack(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (i, x) in out[..256].iter_mut().enumerate() {
        let (sc, m) = scale_min(&block[4..16], i / 32);
        *x = (d * f32::from(sc)) * f32::from(nibble(&block[16..144], i)) - dmin * f32::from(m);
    }
}

/// Number `i` of 256 nibbles in 128 bytes: the order that Q4_K and Q5_K share.
pub(super) fn nibble(bytes: &[u8], i: usize) -> u8 {
    (bytes[i / 64 * 32 + i % 32] >> (4 * (i % 64 / 32))) & 15
}

/// Scale and minimum of a group, 6 bits each. Groups 0 to 3 have theirs in the low bits of bytes 0 to 3 and
/// 4 to 7; groups 4 to 7 in the nibbles of bytes 8 to 11 and the high pairs of the former.
pub(crate) fn scale_min(s: &[u8], group: usize) -> (u8, u8) {
    match group {
        0..4 => (s[group] & 63, s[group + 4] & 63),
        _ => ((s[group + 4] & 15) | (s[group - 4] >> 6) << 4, (s[group + 4] >> 4) | (s[group] >> 6) << 4),
    }
}

/// Stores them; the bits were zero.
fn put_scale_min(s: &mut [u8], group: usize, sc: u8, m: u8) {
    if group < 4 {
        s[group] |= sc;
        s[group + 4] |= m;
    } else {
        s[group + 4] |= (sc & 15) | (m & 15) << 4;
        s[group - 4] |= (sc >> 4) << 6;
        s[group] |= (m >> 4) << 6;
    }
}

/// 256 numbers -> one block, each group fitted by weighted search.
pub fn quantize(values: &[f32], block: &mut [u8]) {
    let plan = Plan { top: 15, from: -1.0, step: 0.1, steps: 20, loss: Loss::Square, rms: 1.0 };
    let q = fit(values, &mut block[..16], &plan);
    block[16..144].fill(0);
    for (i, q) in q.into_iter().enumerate() {
        block[16 + i / 64 * 32 + i % 32] |= q << (4 * (i % 64 / 32));
    }
}

/// Fits the 16 bytes of scales that Q4_K and Q5_K share, and returns the 256 numbers.
pub(super) fn fit(values: &[f32], head: &mut [u8], plan: &Plan) -> [u8; 256] {
    let mut fits = [Fit::default(); 8];
    for (fit, x) in fits.iter_mut().zip(values.chunks_exact(32)) {
        *fit = search::scale_and_min(x, plan);
    }
    let levels = search::levels(&fits, 63);
    head.fill(0);
    let unit = Fit { scale: put_f16(head, 0, levels.scale), min: put_f16(head, 2, levels.min) };
    let mut q = [0; 256];
    for (group, (q, x)) in q.chunks_exact_mut(32).zip(values.chunks_exact(32)).enumerate() {
        let (sc, m) = search::settle(x, plan, unit, (levels.scales[group], levels.mins[group]), 63);
        put_scale_min(&mut head[4..16], group, sc, m);
        let (inv, min) = (inverse(unit.scale * f32::from(sc)), unit.min * f32::from(m));
        for (q, x) in q.iter_mut().zip(x) {
            *q = nearest((x + min) * inv, 0, plan.top) as u8;
        }
    }
    q
}
