#!/usr/bin/env python3
"""Proves that influence and the huggingface_hub package read each other's cache.

Needs: pip install huggingface_hub. Nothing touches the network or the user's cache: the stand-in of the
tests plays the Hub, and HF_HOME is a temporary folder.

    cargo build -p hub --example standin && cargo build
    python tools/hub_interop.py [--influence target/debug/influence] [--standin target/debug/examples/standin]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ASK = """
import json, sys
from huggingface_hub import scan_cache_dir, snapshot_download, try_to_load_from_cache
found = scan_cache_dir()
out = {
    "warnings": [str(w) for w in found.warnings],
    "repos": {r.repo_id: {v.commit_hash: [sorted(v.refs), v.size_on_disk, sorted(f.file_name for f in v.files)]
              for v in r.revisions} for r in found.repos},
    "config": try_to_load_from_cache("acme/usual", "config.json"),
    "snapshot": snapshot_download("acme/usual", allow_patterns=["*.json", "*.safetensors"]),
}
print(json.dumps(out))
"""

FETCH = """
from huggingface_hub import hf_hub_download, snapshot_download
print(snapshot_download("acme/usual", allow_patterns=["*.json", "model.safetensors"]))
print(hf_hub_download("acme/usual-gguf", "m-Q4_K_M.gguf"))
"""


def check(what, good, detail=""):
    print(f"{'ok  ' if good else 'FAIL'} {what} {detail if not good else ''}".rstrip())
    if not good:
        sys.exit(1)


class Bench:
    """A cache of its own, the stand-in's address, and how to run things there."""

    def __init__(self, folder, endpoint, influence):
        self.folder, self.influence = Path(folder), influence
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        self.env = keep | {"HF_HOME": str(self.folder / "home"), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}

    def run(self, command, **env):
        done = subprocess.run(command, cwd=self.folder, env=self.env | env, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise SystemExit(f"{command} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def ours(self, *arguments, **env):
        return self.run([self.influence, *arguments], **env)

    def theirs(self, code, **env):
        return self.run([sys.executable, "-c", code], **env)


def they_read_ours(bench):
    path = bench.ours("download", "-m", "acme/usual")
    check("influence prints the link", path == "./models/acme_usual", path)
    got = json.loads(bench.theirs(ASK, HF_HUB_OFFLINE="1"))
    check("scan_cache_dir has no warnings", got["warnings"] == [], got["warnings"])
    revisions = got["repos"].get("acme/usual", {})
    check("scan_cache_dir sees one revision, called main", [v[0] for v in revisions.values()] == [["main"]], revisions)
    names = [v[2] for v in revisions.values()][0]
    expected = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    check("scan_cache_dir sees the files", names == expected, names)
    config = Path(got["config"] or "")
    check("try_to_load_from_cache finds config.json", config.is_file() and json.loads(config.read_text()) == {"model_type": "llama"}, config)
    same = Path(got["snapshot"]).resolve() == (bench.folder / path).resolve()
    check("snapshot_download offline gives the folder that the link leads to", same, got["snapshot"])
    before = blobs(bench)
    bench.theirs(FETCH)
    check("snapshot_download online fetches none of it again", blobs(bench) == before, "")


def we_read_theirs(bench):
    snapshot, gguf = bench.theirs(FETCH).splitlines()
    models = {m["name"]: m for m in json.loads(bench.ours("list", "--json"))}
    check("influence list sees both models", set(models) == {"acme/usual", "acme/usual-gguf"}, set(models))
    usual = models["acme/usual"]
    check("the folder is theirs", Path(usual["path"]) == Path(snapshot) and usual["complete"], usual)
    check("the quantization is seen", models["acme/usual-gguf"]["quants"] == ["Q4_K_M"], models)
    before = blobs(bench)
    path = bench.ours("download", "-m", "acme/usual", HF_HUB_OFFLINE="1")
    check("download offline links what they fetched", (bench.folder / path).resolve() == Path(snapshot).resolve(), path)
    path = bench.ours("download", "-m", "acme/usual")
    check("download online fetches none of it again", blobs(bench) == before, "")
    path = bench.ours("download", "-m", "acme/usual-gguf:Q4_K_M")
    check("a quantization of theirs is found", (bench.folder / path).resolve() == Path(gguf).resolve(), path)
    bench.ours("rm", "acme/usual", "--yes")
    left = json.loads(bench.theirs("import json; from huggingface_hub import scan_cache_dir as s; "
                                   "c = s(); print(json.dumps([[r.repo_id for r in c.repos], len(c.warnings)]))"))
    check("after rm they see only the other, without warnings", left == [["acme/usual-gguf"], 0], left)


def blobs(bench):
    found = (bench.folder / "home/hub/models--acme--usual/blobs").iterdir()
    return {path.name: path.stat().st_mtime_ns for path in found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--influence", default="target/debug/influence")
    parser.add_argument("--standin", default="target/debug/examples/standin")
    args = parser.parse_args()
    import huggingface_hub

    print(f"huggingface_hub {huggingface_hub.__version__}")
    standin = subprocess.Popen([args.standin], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        endpoint = standin.stdout.readline().strip()
        for part in (they_read_ours, we_read_theirs):
            with tempfile.TemporaryDirectory() as folder:
                part(Bench(folder, endpoint, str(Path(args.influence).resolve())))
    finally:
        standin.stdin.close()
        standin.wait()


if __name__ == "__main__":
    main()
