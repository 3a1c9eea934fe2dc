//! Real GGUF files of one model in several formats: our quantizers make the same bytes of the F32 one.
//!
//! The files lie outside the repository; where they are absent this says so and passes.

use std::path::Path;
use weights::{DType, Gguf};

fn open(kind: &str) -> Option<Gguf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/material/stories260K/gguf");
    let path = folder.join(format!("stories260K-{kind}.gguf"));
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(Gguf::open(&path).unwrap())
}

#[test]
fn quantizing_the_f32_file_gives_the_others() {
    let Some(plain) = open("F32") else { return };
    for kind in ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"] {
        let Some(file) = open(kind) else { return };
        let mut compared = 0;
        for (name, theirs) in file.tensors.iter().filter(|(_, t)| t.dtype != DType::F32) {
            let source = plain.tensor(name).unwrap();
            let mut values = vec![0.0; source.elements()];
            source.dtype.unpack_row(source.bytes(), &mut values);
            let mut ours = vec![0; theirs.bytes().len()];
            theirs.dtype.quantize_row(&values, &mut ours).unwrap();
            let block = theirs.dtype.format().block_bytes;
            let differ = ours.chunks(block).zip(theirs.bytes().chunks(block)).filter(|(a, b)| a != b).count();
            assert_eq!(differ, 0, "{kind} {name}: blocks of {}", ours.len() / block);
            compared += usize::from(theirs.dtype.format().name == kind);
        }
        assert!(compared > 30, "{kind}: {compared}");
    }
}
