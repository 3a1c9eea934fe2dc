//! Which instruction set the kernels of this process use. Asked before every kernel of the forward step.
//!
//! Chosen once, at run time, so that one binary is fast everywhere. `INFLUENCE_ISA` lowers the choice (it can
//! never raise it above what the machine has): `scalar|avx2|avx2-vnni|avx512|avx512-bf16` on
//! x86-64,
//! `scalar|neon|neon-dotprod|neon-i8mm` on aarch64.

use std::sync::OnceLock;

/// An instruction set for which every kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust: the definition, and the path of every other processor.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX2 with dot products of u8 and i8 (AVX-VNNI: Intel since 2021 where AVX-512 is not).
    Avx2Vnni,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// AVX-512 with dot products of bf16 as well.
    Avx512Bf16,
    /// What every aarch64 processor has.
    Neon,
    /// NEON with dot products of i8 (Armv8.2).
    NeonDotprod,
    /// NEON with dot products of u8 and i8 as well (Armv8.6).
    NeonI8mm,
}

/// The sets of this architecture by strength. Each has all before it, but for AVX-VNNI, which some processors with
/// AVX-512 lack.
#[cfg(target_arch = "x86_64")]
const SETS: &[Isa] = &[Isa::Scalar, Isa::Avx2, Isa::Avx2Vnni, Isa::Avx512, Isa::Avx512Bf16];
/// The sets of this architecture, each with all before it.
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
const SETS: &[Isa] = &[Isa::Scalar, Isa::Neon, Isa::NeonDotprod, Isa::NeonI8mm];
/// The sets of this architecture, each with all before it.
#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
const SETS: &[Isa] = &[Isa::Scalar];

impl Isa {
    /// The name that `INFLUENCE_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx2Vnni => "avx2-vnni",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512-bf16",
            Isa::Neon => "neon",
            Isa::NeonDotprod => "neon-dotprod",
            Isa::NeonI8mm => "neon-i8mm",
        }
    }

    /// The set of this name, if this architecture has one.
    pub fn from_name(name: &str) -> Option<Isa> {
        SETS.iter().copied().find(|i| i.name().eq_ignore_ascii_case(name.trim()))
    }

    /// Whether this machine has it.
    #[cfg(target_arch = "x86_64")]
    fn is_here(self) -> bool {
        match self {
            Isa::Scalar => true,
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            Isa::Avx2Vnni => Isa::Avx2.is_here() && is_x86_feature_detected!("avxvnni"),
            Isa::Avx512 => {
                Isa::Avx2.is_here()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            Isa::Avx512Bf16 => Isa::Avx512.is_here() && is_x86_feature_detected!("avx512bf16"),
            _ => false,
        }
    }

    /// Whether this machine has it.
    #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
    fn is_here(self) -> bool {
        match self {
            Isa::Scalar | Isa::Neon => true,
            Isa::NeonDotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
            Isa::NeonI8mm => Isa::NeonDotprod.is_here() && std::arch::is_aarch64_feature_detected!("i8mm"),
            _ => false,
        }
    }

    /// Whether this machine has it.
    #[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
    fn is_here(self) -> bool {
        self == Isa::Scalar
    }

    /// The best set that this machine has.
    pub fn best() -> Isa {
        // The last of all.
        Isa::NeonI8mm.or_lesser()
    }

    /// This set, or the best one below it that this machine has.
    pub fn or_lesser(self) -> Isa {
        static HERE: OnceLock<Vec<Isa>> = OnceLock::new();
        let here = HERE.get_or_init(Isa::available);
        here.iter().rev().copied().find(|&i| i <= self).unwrap_or(Isa::Scalar)
    }

    /// The set this process uses: the best one, or the lower one that `INFLUENCE_ISA` names.
    pub fn current() -> Isa {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let asked = std::env::var("INFLUENCE_ISA").ok().and_then(|n| Isa::from_name(&n));
            asked.map_or_else(Isa::best, Isa::or_lesser)
        })
    }

    /// Every set that this machine can run, scalar first (what a test walks through).
    pub fn available() -> Vec<Isa> {
        SETS.iter().copied().filter(|i| i.is_here()).collect()
    }
}

/// A name in `INFLUENCE_ISA` that is none of this architecture's, for a program that wants to say so at start.
pub fn unknown_override() -> Option<String> {
    std::env::var("INFLUENCE_ISA").ok().filter(|n| !n.is_empty() && Isa::from_name(n).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_order_is_by_strength() {
        for &i in SETS {
            assert_eq!(Isa::from_name(i.name()), Some(i));
        }
        assert!(SETS.is_sorted() && SETS.contains(&Isa::best()));
        assert_eq!(Isa::from_name("sse9"), None);
        assert_eq!(Isa::available()[0], Isa::Scalar);
        assert!(Isa::current() <= Isa::best());
    }
}
