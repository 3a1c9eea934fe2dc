//! How large a value may grow. Lists join lazily and values share their parts, so a few assignments can
//! make a list longer than memory or nested deeper than the stack; each value that is given a name is
//! counted (as a tree), which costs work and has a limit.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::filters::failed;

/// The most parts that a value may have.
const MAX_PARTS: usize = 1 << 20;
/// Parts that are counted for one unit of work.
const PARTS_PER_FUEL: usize = 8;

/// Lets a value through that is not too large.
pub(crate) fn check(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return Ok(value);
    }
    // What can only be gone over once is kept as a list.
    let value = match (value.kind(), value.len()) {
        (ValueKind::Iterable, None) => Value::from(listed(state, &value)?),
        _ => value,
    };
    let mut todo = vec![value.clone()];
    let (mut parts, mut uncharged) = (0usize, 0);
    while let Some(next) = todo.pop() {
        parts += 1;
        uncharged += 1;
        if uncharged == PARTS_PER_FUEL {
            state.consume_fuel(1)?;
            uncharged = 0;
        }
        let (kind, len) = (next.kind(), next.len().unwrap_or(0));
        if parts.saturating_add(todo.len()).saturating_add(len) > MAX_PARTS {
            return Err(too_large());
        }
        match kind {
            ValueKind::Seq | ValueKind::Iterable => todo.extend(next.try_iter()?.filter(nests)),
            ValueKind::Map => {
                let items = next.try_iter()?.map(|key| next.get_item(&key));
                todo.extend(items.collect::<Result<Vec<_>, _>>()?.into_iter().filter(nests));
            }
            _ => {}
        }
        parts += len;
    }
    Ok(value)
}

fn nests(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable)
}

fn listed(state: &State<'_, '_>, value: &Value) -> Result<Vec<Value>, Error> {
    let mut out = Vec::new();
    for item in value.try_iter()?.checked() {
        state.consume_fuel(1)?;
        if out.len() == MAX_PARTS {
            return Err(too_large());
        }
        out.push(item?);
    }
    Ok(out)
}

fn too_large() -> Error {
    failed(format!("a value has more than {MAX_PARTS} parts"))
}
