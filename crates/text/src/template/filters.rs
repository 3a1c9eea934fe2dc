//! Filters and functions that templates expect and the engine has otherwise or not at all.

use minijinja::Environment;

/// Adds them all.
pub(crate) fn register(env: &mut Environment<'_>) {
    env.add_filter("tojson", super::json::filter);
    env.add_function("raise_exception", super::raise);
}
