//! A download as a person sees it: a bar for each file that moves and one in sum; plain lines where
//! standard error is no terminal.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use ::hub::download::{Event, Planned, Progress};
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use super::clean;

/// Shows events on standard error.
pub struct Screen {
    state: Mutex<State>,
}

struct State {
    bars: Option<MultiProgress>,
    files: Vec<File>,
    sum: ProgressBar,
}

struct File {
    path: String,
    size: u64,
    at: u64,
    bar: Option<ProgressBar>,
}

impl Screen {
    /// Bars if standard error is a terminal, lines if not.
    pub fn new() -> Screen {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Screen { state: Mutex::new(State { bars, files: Vec::new(), sum: ProgressBar::hidden() }) }
    }

    /// Takes the bars away.
    pub fn finish(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bars) = &state.bars {
            let _ = bars.clear();
        }
    }
}

impl Progress for Screen {
    fn on(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Note(text) => state.say(&clean(text)),
            Event::Plan(plan) => state.plan(plan),
            Event::Moved { file, at } => state.moved(file, at),
            Event::Done { file } => state.done(file),
        }
    }
}

impl State {
    fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    fn plan(&mut self, plan: &[Planned]) {
        let file = |planned: &Planned| {
            let at = if planned.present { planned.size } else { 0 };
            File { path: clean(&planned.path), size: planned.size, at, bar: None }
        };
        self.files = plan.iter().map(file).collect();
        let total = plan.iter().map(|planned| planned.size).fold(0, u64::saturating_add);
        let here = plan.iter().filter(|planned| planned.present).count();
        let kept = if here > 0 { format!(", {here} of them here already") } else { String::new() };
        self.say(&format!("{} files, {}{kept}", plan.len(), HumanBytes(total)));
        if let Some(bars) = self.bars.as_ref().filter(|_| here < plan.len()) {
            self.sum = bars.add(
                ProgressBar::new(total).with_style(style("{spinner} {wide_msg}")).with_message("in sum"),
            );
            self.sum.set_position(self.at());
            self.sum.reset_eta();
        }
    }

    fn at(&self) -> u64 {
        self.files.iter().map(|file| file.at).fold(0, u64::saturating_add)
    }

    fn moved(&mut self, index: usize, at: u64) {
        let Some(file) = self.files.get_mut(index) else { return };
        file.at = at;
        let first = file.bar.is_none();
        if let Some(bars) = self.bars.as_ref().filter(|_| first) {
            let bar =
                ProgressBar::new(file.size).with_style(style("  {wide_msg}")).with_message(file.path.clone());
            file.bar = Some(bars.insert_before(&self.sum, bar));
        }
        if let Some(bar) = &file.bar {
            bar.set_position(at);
        }
        self.sum.set_position(self.at());
        if first && at > 0 {
            // What was here before says nothing about the speed.
            self.sum.reset_eta();
            self.files[index].bar.iter().for_each(ProgressBar::reset_eta);
        }
    }

    fn done(&mut self, index: usize) {
        let Some(file) = self.files.get_mut(index) else { return };
        file.at = file.size;
        let line = format!("  {}  {}", file.path, HumanBytes(file.size));
        if let (Some(bars), Some(bar)) = (&self.bars, file.bar.take()) {
            bar.finish_and_clear();
            bars.remove(&bar);
        }
        self.say(&line);
        self.sum.set_position(self.at());
    }
}

/// A bar with bytes, speed and time left; it shrinks with the terminal, the name first.
fn style(name: &str) -> ProgressStyle {
    let text = format!("{name} {{bar:16}} {{bytes:>10}}/{{total_bytes:10}} {{bytes_per_sec:>12}} {{eta:>4}}");
    // The pattern is ours, so it is right; the default bar is better than none.
    ProgressStyle::with_template(&text).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}
