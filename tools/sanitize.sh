#!/usr/bin/env bash
# The parts with `unsafe` in them under sanitizers, on every instruction set of the machine:
#   tools/sanitize.sh [address] [thread] [checks] [models]      (without a word: the first three)
# Works with a stable compiler: RUSTC_BOOTSTRAP lets it take flags that only a nightly one has else. `--cfg sanitized` makes
# big buffers and model files lie in memory from the allocator: in mappings of their own a sanitizer sees no ends.
set -euo pipefail
cd "$(dirname "$0")/.."

what=("$@"); [ ${#what[@]} -gt 0 ] || what=(address thread checks)
host=$(rustc -vV | sed -n 's/^host: //p')
case $(uname -m) in
    x86_64) sets=(scalar avx2 avx2-vnni avx512 avx512-bf16) ;;
    aarch64) sets=(scalar neon neon-dotprod neon-i8mm) ;;
    *) sets=(scalar) ;;
esac
checks='-Cdebug-assertions=on -Coverflow-checks=on --cfg sanitized'

# run NAME FLAGS ARGUMENTS...: tests of the crates on each set. A set that the machine lacks falls back to a lesser one.
run() {
    local name=$1 flags=$2; shift 2
    for isa in "${sets[@]}"; do
        printf '\n== %s, INFLUENCE_ISA=%s: %s\n' "$name" "$isa" "$*"
        RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags $checks" RUSTDOCFLAGS="$flags $checks" CARGO_TARGET_DIR=target/sanitize/$name \
            INFLUENCE_ISA=$isa cargo test --locked --target "$host" "$@"
    done
}

for w in "${what[@]}"; do
    case $w in
        # Reads and writes beyond what was asked for, and after it was given back.
        address) run address -Zsanitizer=address -p kernels -p weights ;;
        # What a model does with them: longer, so by name only.
        models) run address -Zsanitizer=address -p kernels -p weights -p models --test fixtures --test formats ;;
        # Threads that touch the same memory without an order. The standard library comes compiled without this; what it
        # is blamed for is in tools/thread.supp.
        thread)
            TSAN_OPTIONS="suppressions=$PWD/tools/thread.supp ${TSAN_OPTIONS-}" \
                run thread '-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer' -p kernels --lib -- pool alloc norm attention matmul ;;
        # No sanitizer, every assertion: pointers that are null or unaligned, sums that overflow.
        checks) run checks '' -p kernels -p weights ;;
        *) echo "tools/sanitize.sh: $w is none of address, thread, checks, models" >&2; exit 2 ;;
    esac
done
