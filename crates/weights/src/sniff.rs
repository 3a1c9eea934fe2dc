//! Tells what a file is that is not what its name says, so that the error can.

/// What the first bytes of a file look like, with the way out; `None` when nothing is recognized.
pub(crate) fn looks_like(bytes: &[u8]) -> Option<String> {
    let known = SIGNATURES.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|&(_, what)| what);
    known.or_else(|| html(bytes)).or_else(|| safetensors(bytes)).or_else(|| text(bytes)).map(str::to_string)
}

const SIGNATURES: &[(&[u8], &str)] = &[
    (b"GGUF", "GGUF"),
    (
        b"PK\x03\x04",
        "ZIP, as archives and PyTorch checkpoints are; take the model's GGUF or safetensors file",
    ),
    (
        b"version https://git-lfs",
        "a git-LFS pointer, not the file itself; run `git lfs pull` or download it again",
    ),
    (b"\x80\x02", "a PyTorch pickle, which can run code and is not read; take the model's safetensors file"),
    (b"lmgg", "the old GGML format; convert the model to GGUF"),
    (b"fmgg", "the old GGMF format; convert the model to GGUF"),
    (b"tjgg", "the old GGJT format; convert the model to GGUF"),
    (b"algg", "the old GGLA adapter format; convert the adapter to GGUF"),
    (b"\x1f\x8b", "gzip; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd; unpack it first"),
    (b"\x89HDF", "HDF5"),
    (b"\x89PNG", "a PNG image"),
    (b"%PDF", "PDF"),
];

fn html(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    let opens = |tag: &str| start.get(..tag.len()).is_some_and(|s| s.eq_ignore_ascii_case(tag.as_bytes()));
    let is = ["<!doctype html", "<html", "<head", "<?xml"].iter().any(|tag| opens(tag));
    is.then_some("HTML, perhaps the error page of a failed download; download it again")
}

fn safetensors(bytes: &[u8]) -> Option<&'static str> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    (length <= bytes.len() as u64 && bytes.get(8) == Some(&b'{')).then_some("safetensors")
}

fn text(bytes: &[u8]) -> Option<&'static str> {
    let head = &bytes[..bytes.len().min(64)];
    let printable = head.iter().all(|&b| (0x20..0x7f).contains(&b) || b.is_ascii_whitespace());
    match head.first() {
        Some(b'{') if printable => Some("JSON text"),
        Some(_) if printable => Some("plain text, perhaps the message of a failed download"),
        _ => None,
    }
}
