//! What is changed in a template's text before the engine compiles it.

/// `{% generation %}` ... `{% endgeneration %}` marks what the assistant said, for training; it renders
/// its body, in a scope of its own, as `with` does.
pub(crate) fn prepare(source: &str) -> Result<String, String> {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        out.push_str(&rest[..at + 2]);
        rest = &rest[at + 2..];
        let sign = rest.len() - rest.trim_start_matches(['-', '+']).len();
        let inner = rest[sign..].trim_start();
        for (word, other) in [("generation", " with "), ("endgeneration", " endwith ")] {
            if let Some(after) = inner.strip_prefix(word) {
                let end = after.trim_start();
                if end.starts_with("%}") || end.starts_with("-%}") || end.starts_with("+%}") {
                    out.push_str(&rest[..sign]);
                    out.push_str(other);
                    rest = end;
                    break;
                }
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}
