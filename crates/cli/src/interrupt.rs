//! Ctrl-C: the program has one handler, and what it does at the moment is the last thing that was asked for.

use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

/// Exit code of a program that Ctrl-C ended.
pub const INTERRUPTED: u8 = 130;

type Action = Box<dyn Fn() + Send>;

static ACTION: Mutex<Option<Action>> = Mutex::new(None);
static PRESSED: AtomicBool = AtomicBool::new(false);

/// A run that ended because of Ctrl-C, as an error on its way out: it is not printed.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// From now on the first Ctrl-C runs `action`, and the second ends the program.
///
/// # Errors
/// The system has no such signal to give.
pub fn on_interrupt(action: impl Fn() + Send + 'static) -> Result<()> {
    let mut current = ACTION.lock().unwrap_or_else(PoisonError::into_inner);
    let installed = current.is_some();
    *current = Some(Box::new(action));
    PRESSED.store(false, Ordering::Relaxed);
    drop(current);
    if installed {
        return Ok(());
    }
    ctrlc::set_handler(|| {
        if PRESSED.swap(true, Ordering::Relaxed) {
            exit(INTERRUPTED.into());
        }
        if let Some(action) = &*ACTION.lock().unwrap_or_else(PoisonError::into_inner) {
            action();
        }
    })
    .context("cannot watch for Ctrl-C")
}

/// From now on every Ctrl-C runs `action`, and none ends the program.
///
/// # Errors
/// The system has no such signal to give.
pub fn on_each_interrupt(action: impl Fn() + Send + 'static) -> Result<()> {
    on_interrupt(move || {
        action();
        PRESSED.store(false, Ordering::Relaxed);
    })
}

/// A sign that turns true with Ctrl-C.
///
/// # Errors
/// The system has no such signal to give.
pub fn interrupted() -> Result<Arc<AtomicBool>> {
    let sign = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&sign);
    on_interrupt(move || set.store(true, Ordering::Relaxed))?;
    Ok(sign)
}

/// From now on Ctrl-C ends the program at once, as where nobody watches for it.
///
/// # Errors
/// The system has no such signal to give.
pub fn end_at_once() -> Result<()> {
    on_interrupt(|| exit(INTERRUPTED.into()))
}
