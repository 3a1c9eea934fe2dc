#!/bin/sh
# From nothing to assets/influence-tiny.gguf. MINUTES sets how long to train (default 60).
#   python3 -m venv .venv && .venv/bin/pip install -r tools/train/requirements.txt
#   PATH="$PWD/.venv/bin:$PATH" tools/train/train.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-$here/../../target/train}
mkdir -p "$build" "$here/../../assets"
cd "$here"
python corpus.py --out "$build"
python train.py --data "$build" --out "$build/model.pt" --minutes "${MINUTES:-60}"
python export_gguf.py --weights "$build/model.pt" --tokenizer "$build/tokenizer.json" --out ../../assets/influence-tiny.gguf
python check_gguf.py --gguf ../../assets/influence-tiny.gguf --weights "$build/model.pt" --tokenizer "$build/tokenizer.json"
