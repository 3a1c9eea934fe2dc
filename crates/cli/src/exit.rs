//! What the program's end says: an error to stderr, and one of the exit codes of the README.

use std::process::ExitCode;

use engine::{EngineError, LoadError};

use crate::chat::full::ContextFull;
use crate::interrupt::{INTERRUPTED, Interrupted};
use crate::terminal;

/// The exit code of a run; its error, if any, is printed.
pub fn code(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            if let Some(usage) = error.downcast_ref::<clap::Error>() {
                usage.exit();
            }
            if error.is::<Interrupted>() {
                return ExitCode::from(INTERRUPTED);
            }
            if closed_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            eprintln!("error: {}", terminal::spelled(&format!("{error:#}")));
            ExitCode::from(of(&error))
        }
    }
}

/// A reader of stdout that has seen enough is no failure.
fn closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn of(error: &anyhow::Error) -> u8 {
    if let Some(hub) = error.downcast_ref::<::hub::Error>() {
        return hub.kind().exit_code();
    }
    if let Some(engine) = error.downcast_ref::<EngineError>() {
        return engine_code(engine);
    }
    if error.is::<ContextFull>() {
        return 5;
    }
    match error.downcast_ref::<LoadError>() {
        Some(LoadError::Config(engine)) => engine_code(engine),
        _ => 1,
    }
}

fn engine_code(error: &EngineError) -> u8 {
    match error {
        EngineError::PromptTooLong { .. } | EngineError::TextTooLong { .. } => 5,
        EngineError::CacheTooLarge { .. } => 5,
        EngineError::ContextTooLarge { .. } | EngineError::Parameter { .. } => 2,
        EngineError::Constraint(_) => 2,
        EngineError::EmptyPrompt | EngineError::UnknownToken { .. } | EngineError::UnknownBias { .. } => 2,
        EngineError::Encoder | EngineError::NoPooling => 2,
        _ => 1,
    }
}
