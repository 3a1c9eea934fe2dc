//! SentencePiece's BPE: the adjacent pair whose union has the best score is merged first, and what no
//! piece covers falls back to bytes. Kudo and Richardson, "SentencePiece" (2018). A heap of candidate
//! pairs over a linked list of symbols, O(n log n) in the length of the text.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::path::{Path, PathBuf};

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{Model, Token};

/// What a piece of a SentencePiece vocabulary is (the numbers are the file format's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    /// The kind with this number (1 to 6); others count as normal, as the reference programs have it.
    pub fn from_number(number: i64) -> Kind {
        match number {
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => Kind::Normal,
        }
    }
}

/// A piece: its text, score and kind.
pub(crate) struct Piece {
    pub text: String,
    pub score: f32,
    pub kind: Kind,
}

/// A score-driven BPE model.
pub(crate) struct Spm {
    pieces: Vec<Piece>,
    ids: HashMap<String, u32>,
    /// Pieces that no merge makes: control, unknown and byte pieces.
    reserved: HashMap<String, u32>,
    bytes: Box<[Option<u32>; 256]>,
    unk: u32,
    /// User-defined pieces by their first character, longest first: taken whole before any merging.
    frozen: HashMap<char, Vec<String>>,
}

/// The byte that a piece such as `<0x0A>` stands for.
pub(crate) fn byte_of(piece: &str) -> Option<u8> {
    let hex = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if hex.len() != 2 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(hex, 16).ok()
}

#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    end: usize,
    prev: usize,
    next: usize,
    frozen: bool,
}

const NONE: usize = usize::MAX;

/// A candidate merge: of the symbols `left` and the one after it, as long as they are still as they were.
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Candidate {}
impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Candidate {
    /// The better score is greater; among equal ones the leftmost.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

struct Merger<'a> {
    spm: &'a Spm,
    text: &'a str,
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Candidate>,
    /// Of an unused piece that was merged: where it came apart.
    seams: HashMap<(usize, usize), usize>,
}

impl Merger<'_> {
    fn consider(&mut self, left: usize, right: usize) {
        if left == NONE || right == NONE {
            return;
        }
        let (a, b) = (self.symbols[left], self.symbols[right]);
        if a.frozen || b.frozen {
            return;
        }
        let Some(&id) = self.spm.ids.get(&self.text[a.start..b.end]) else { return };
        let piece = &self.spm.pieces[id as usize];
        if piece.kind == Kind::Unused {
            self.seams.insert((a.start, b.end), a.end);
        }
        self.heap.push(Candidate { score: piece.score, left, right, len: b.end - a.start });
    }

    fn run(&mut self) {
        for right in 1..self.symbols.len() {
            self.consider(right - 1, right);
        }
        while let Some(best) = self.heap.pop() {
            let (a, b) = (self.symbols[best.left], self.symbols[best.right]);
            let stale = a.start == a.end || b.start == b.end || b.end.wrapping_sub(a.start) != best.len;
            if stale || a.next != best.right {
                continue;
            }
            self.symbols[best.left].end = b.end;
            self.symbols[best.left].next = b.next;
            self.symbols[best.right].start = b.end;
            if b.next != NONE {
                self.symbols[b.next].prev = best.left;
            }
            self.consider(a.prev, best.left);
            self.consider(best.left, b.next);
        }
    }

    fn emit(&self, start: usize, end: usize, out: &mut Vec<Token>) {
        let mut todo = vec![(start, end)];
        while let Some((start, end)) = todo.pop() {
            let text = &self.text[start..end];
            match self.spm.ids.get(text) {
                Some(&id) if self.spm.pieces[id as usize].kind == Kind::Unused => {
                    match self.seams.get(&(start, end)) {
                        Some(&seam) => todo.extend([(seam, end), (start, seam)]),
                        None => self.spm.fall_back(text, start, out),
                    }
                }
                Some(&id) => out.push(Token::new(id, text.to_owned(), (start, end))),
                None => self.spm.fall_back(text, start, out),
            }
        }
    }
}

impl Spm {
    /// A model of these pieces, ids in their order. `freeze`: take user-defined pieces whole out of the
    /// text here (else the added vocabulary does). Fails if there is neither a byte for every byte nor an
    /// unknown piece.
    pub fn new(pieces: Vec<Piece>, unk: Option<u32>, freeze: bool) -> Result<Spm, String> {
        let mut ids = HashMap::with_capacity(pieces.len());
        let mut reserved = HashMap::new();
        let mut bytes = Box::new([None; 256]);
        let mut frozen: HashMap<char, Vec<String>> = HashMap::new();
        for (id, piece) in pieces.iter().enumerate() {
            if matches!(piece.kind, Kind::Byte | Kind::Control | Kind::Unknown) {
                reserved.entry(piece.text.clone()).or_insert(id as u32);
            }
            match piece.kind {
                Kind::Byte => {
                    let byte = byte_of(&piece.text).ok_or_else(|| {
                        format!("token {id} is a byte token but is {:?}, not like <0x0A>", piece.text)
                    })?;
                    bytes[byte as usize].get_or_insert(id as u32);
                }
                Kind::Control | Kind::Unknown => {}
                _ if piece.text.is_empty() => {}
                kind => {
                    ids.entry(piece.text.clone()).or_insert(id as u32);
                    if let (true, Kind::UserDefined, Some(c)) = (freeze, kind, piece.text.chars().next()) {
                        frozen.entry(c).or_default().push(piece.text.clone());
                    }
                }
            }
            if piece.score.is_nan() {
                return Err(format!("the score of token {id} is not a number"));
            }
        }
        frozen.values_mut().for_each(|list| list.sort_by_key(|text| std::cmp::Reverse(text.len())));
        let unk =
            unk.or_else(|| pieces.iter().position(|piece| piece.kind == Kind::Unknown).map(|id| id as u32));
        let unk = match unk {
            Some(id) if (id as usize) < pieces.len() => id,
            None if bytes.iter().all(Option::is_some) => 0,
            Some(id) => {
                return Err(format!("the unknown token is {id}, but there are {} tokens", pieces.len()));
            }
            None => return Err("there is no unknown token and not a token for every byte".to_owned()),
        };
        Ok(Spm { pieces, ids, reserved, bytes, unk, frozen })
    }

    fn symbols(&self, text: &str) -> Vec<Symbol> {
        let mut out: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut start = 0;
        while let Some(c) = text[start..].chars().next() {
            let whole = self.frozen.get(&c);
            let whole = whole.and_then(|list| list.iter().find(|piece| text[start..].starts_with(*piece)));
            let end = start + whole.map_or(c.len_utf8(), String::len);
            let at = out.len();
            let next = if end == text.len() { NONE } else { at + 1 };
            out.push(Symbol { start, end, prev: at.wrapping_sub(1), next, frozen: whole.is_some() });
            start = end;
        }
        out
    }

    fn fall_back(&self, text: &str, start: usize, out: &mut Vec<Token>) {
        let span = (start, start + text.len());
        if text.bytes().any(|byte| self.bytes[byte as usize].is_none()) {
            let unknown_before =
                out.last().is_some_and(|last| last.id == self.unk && last.offsets.1 == start);
            if let (true, Some(last)) = (unknown_before, out.last_mut()) {
                last.offsets.1 = span.1;
                last.value.push_str(text);
            } else {
                out.push(Token::new(self.unk, text.to_owned(), span));
            }
            return;
        }
        for id in text.bytes().filter_map(|byte| self.bytes[byte as usize]) {
            out.push(Token::new(id, self.pieces[id as usize].text.clone(), span));
        }
    }
}

impl Model for Spm {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        let symbols = self.symbols(text);
        let mut merger = Merger { spm: self, text, symbols, heap: BinaryHeap::new(), seams: HashMap::new() };
        merger.run();
        let mut out = Vec::new();
        for symbol in merger.symbols.iter().filter(|symbol| symbol.start < symbol.end) {
            merger.emit(symbol.start, symbol.end, &mut out);
        }
        Ok(out)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).or_else(|| self.reserved.get(token)).copied()
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.pieces.get(id as usize).map(|piece| piece.text.clone())
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.ids.clone()
    }

    fn get_vocab_size(&self) -> usize {
        self.pieces.len()
    }

    fn save(&self, _folder: &Path, _prefix: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a loaded tokenizer is not saved".into())
    }

    fn get_trainer(&self) -> TrainerWrapper {
        TrainerWrapper::BpeTrainer(BpeTrainer::default())
    }
}
