//! Which instruction set the kernels of this process use. Asked before every kernel of the forward step.
//!
//! Chosen once, at run time, so that one binary is fast everywhere. `INFLUENCE_ISA=scalar|avx2|avx512`
//! lowers the choice (it can never raise it above what the machine has).

use std::sync::OnceLock;

/// An instruction set for which every kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust: the definition, and the path of every other processor.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
}

impl Isa {
    /// The name that `INFLUENCE_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// The set of this name, if there is one.
    pub fn from_name(name: &str) -> Option<Isa> {
        [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().find(|i| i.name().eq_ignore_ascii_case(name.trim()))
    }

    /// The best set that this machine has.
    #[cfg(target_arch = "x86_64")]
    pub fn best() -> Isa {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        match (avx2, avx512) {
            (true, true) => Isa::Avx512,
            (true, false) => Isa::Avx2,
            _ => Isa::Scalar,
        }
    }

    /// The best set that this machine has.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn best() -> Isa {
        Isa::Scalar
    }

    /// The set this process uses: the best one, or the lower one that `INFLUENCE_ISA` names.
    pub fn current() -> Isa {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let asked = std::env::var("INFLUENCE_ISA").ok().and_then(|n| Isa::from_name(&n));
            asked.map_or(Isa::best(), |i| i.min(Isa::best()))
        })
    }

    /// Every set that this machine can run, scalar first (what a test walks through).
    pub fn available() -> Vec<Isa> {
        [Isa::Scalar, Isa::Avx2, Isa::Avx512].into_iter().filter(|&i| i <= Isa::best()).collect()
    }
}

/// A name in `INFLUENCE_ISA` that is none of ours, for a program that wants to say so at start.
pub fn unknown_override() -> Option<String> {
    std::env::var("INFLUENCE_ISA").ok().filter(|n| !n.is_empty() && Isa::from_name(n).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_order_is_by_strength() {
        for i in [Isa::Scalar, Isa::Avx2, Isa::Avx512] {
            assert_eq!(Isa::from_name(i.name()), Some(i));
        }
        assert!(Isa::Scalar < Isa::Avx2 && Isa::Avx2 < Isa::Avx512);
        assert_eq!(Isa::from_name("sse9"), None);
        assert_eq!(Isa::available()[0], Isa::Scalar);
        assert!(Isa::current() <= Isa::best());
    }
}
