//! A schema, an expression, a GBNF or Lark grammar (the first byte says which), and an answer along its masks.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use text::{Constraint, GrammarFactory};

fuzz_target!(|data: &[u8]| {
    static FACTORY: OnceLock<GrammarFactory> = OnceLock::new();
    let factory =
        FACTORY.get_or_init(|| GrammarFactory::new(fuzz::bytes_tokenizer()).expect("our tokenizer"));
    let (kind, rest) = fuzz::split_byte(data);
    let source = String::from_utf8_lossy(rest).into_owned();
    let constraint = match kind % 3 {
        0 => match serde_json::from_str(&source) {
            Ok(schema) => Constraint::JsonSchema(schema),
            Err(_) => return,
        },
        1 => Constraint::Regex(source),
        _ => Constraint::Grammar(source),
    };
    let Ok(mut grammar) = factory.compile(&constraint) else { return };
    for step in 0..24usize {
        if grammar.is_complete() {
            break;
        }
        let Ok(mask) = grammar.mask() else { break };
        let allowed: Vec<u32> =
            (0..mask.len() as u32 * 32).filter(|id| mask[*id as usize / 32] >> (id % 32) & 1 == 1).collect();
        let Some(&token) = allowed.get(rest.get(step).map_or(0, |b| usize::from(*b)) % allowed.len().max(1))
        else {
            break;
        };
        grammar.consume(token).expect("the mask allowed it");
        let _ = (grammar.forced(), grammar.is_accepting());
    }
});
