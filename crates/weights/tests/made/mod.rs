//! Writes small model files for tests, right or wrong as asked.

/// A GGUF in the making.
#[derive(Default)]
pub struct GgufFile {
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: Vec<u8>,
}

pub fn string(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes(), s.as_bytes()].concat()
}

impl GgufFile {
    pub fn llama() -> GgufFile {
        GgufFile::default().text("general.architecture", "llama")
    }

    /// A key whose value has already its bytes.
    pub fn key(mut self, name: &str, kind: u32, value: &[u8]) -> GgufFile {
        self.keys.push([&string(name)[..], &kind.to_le_bytes(), value].concat());
        self
    }

    pub fn text(self, name: &str, value: &str) -> GgufFile {
        self.key(name, 8, &string(value))
    }

    pub fn u16(self, name: &str, value: u16) -> GgufFile {
        self.key(name, 2, &value.to_le_bytes())
    }

    /// A tensor with `dims` in GGUF's order, its bytes appended with padding.
    pub fn tensor(mut self, name: &str, dims: &[u64], ggml: u32, bytes: &[u8]) -> GgufFile {
        let offset = self.data.len().next_multiple_of(32);
        self.data.resize(offset, 0);
        self.data.extend_from_slice(bytes);
        let mut info = string(name);
        info.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|d| info.extend(d.to_le_bytes()));
        info.extend(ggml.to_le_bytes());
        info.extend((offset as u64).to_le_bytes());
        self.tensors.push(info);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        out.extend(self.keys.concat());
        out.extend(self.tensors.concat());
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(&self.data);
        out
    }
}

/// A safetensors file of a header's JSON and data.
pub fn safetensors(json: &str, data: &[u8]) -> Vec<u8> {
    [&string(json)[..], data].concat()
}
