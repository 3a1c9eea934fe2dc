#!/usr/bin/env bash
# Fuzzes the readers: fuzz/run.sh [-t SECONDS] [TARGET ...]   (all targets, 60 seconds each).
# Works with a stable compiler: RUSTC_BOOTSTRAP lets it take the flags that cargo-fuzz gives a nightly one.
set -euo pipefail
cd "$(dirname "$0")"

seconds=60
if [ "${1-}" = -t ]; then seconds=$2; shift 2; fi
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
    targets=(); for f in fuzz_targets/*.rs; do targets+=("$(basename "$f" .rs)"); done
fi

host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 ASAN_OPTIONS=${ASAN_OPTIONS-detect_odr_violation=0}
export RUSTFLAGS="-Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=16 --cfg fuzzing --cfg sanitized"
bins=(); for t in "${targets[@]}"; do bins+=(--bin "$t"); done
cargo build --release --locked --target "$host" "${bins[@]}"
python3 seeds.py "${targets[@]}"

failed=()
for t in "${targets[@]}"; do
    printf '\n== %s, %s s\n' "$t" "$seconds"
    mkdir -p "corpus/$t" "artifacts/$t"
    dict=(); [ -f "corpus/$t.dict" ] && dict=(-dict="corpus/$t.dict")
    "target/$host/release/$t" "corpus/$t" -artifact_prefix="artifacts/$t/" -max_total_time="$seconds" \
        -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=25 -print_final_stats=1 "${dict[@]}" \
        ${FUZZ_FLAGS-} >"artifacts/$t.log" 2>&1 || failed+=("$t")
    grep -E '^(SUMMARY|stat::number_of_executed|stat::peak_rss|Test unit written|==.*ERROR)|panicked at' "artifacts/$t.log" || true
    rm -rf /dev/shm/influence-fuzz-* 2>/dev/null || true
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "found something: ${failed[*]} (logs and inputs in fuzz/artifacts)" >&2
    exit 1
fi
