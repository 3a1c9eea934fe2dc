//! The rows that `influence bench` prints, as Markdown, JSON or CSV.

use std::io::{self, Write};

use engine::bench::Probe;
use serde_json::{Value, json};

use super::Output;

/// What was measured in one test.
#[derive(Debug, Default)]
pub struct Row {
    pub model: String,
    pub bytes: u64,
    pub parameters: u64,
    pub threads: usize,
    pub load_seconds: f64,
    /// `pp512`, `tg128`, `tg128x8@d4096`.
    pub test: String,
    /// Tokens per second of each run.
    pub rates: Vec<f64>,
    /// The resource that bounds the test: how much of it the median run used ...
    pub rate: f64,
    /// ... counted in what ...
    pub unit: &'static str,
    /// ... and how much the machine has.
    pub peak: f64,
}

impl Row {
    pub fn median(&self) -> f64 {
        let mut sorted = self.rates.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => 0.0,
            n if n % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        }
    }

    pub fn mean(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len().max(1) as f64
    }

    /// Standard deviation of the sample.
    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.rates.iter().map(|r| (r - mean).powi(2)).sum();
        (squares / self.rates.len().saturating_sub(1).max(1) as f64).sqrt()
    }

    fn share(&self) -> f64 {
        if self.peak > 0.0 { self.rate / self.peak } else { 0.0 }
    }

    fn json(&self) -> Value {
        json!({
            "model": self.model, "bytes": self.bytes, "parameters": self.parameters,
            "threads": self.threads, "isa": Probe::isa(), "load_seconds": self.load_seconds,
            "test": self.test, "tokens_per_second": self.rates,
            "mean": self.mean(), "deviation": self.deviation(), "median": self.median(),
            "rate": self.rate, "unit": self.unit, "peak": self.peak, "share": self.share(),
        })
    }

    fn markdown(&self) -> String {
        format!(
            "| {} | {:.0} MB | {:.2} M | {} | {} | {:.1} ± {:.1} | {:.1} | {:.1} {} | {:.0} % of {:.0} |",
            self.model,
            self.bytes as f64 / 1e6,
            self.parameters as f64 / 1e6,
            self.threads,
            self.test,
            self.mean(),
            self.deviation(),
            self.median(),
            self.rate,
            self.unit,
            100.0 * self.share(),
            self.peak
        )
    }

    fn csv(&self) -> String {
        let name = self.model.replace('"', "\"\"");
        format!(
            "\"{name}\",{},{},{},{},{},{},{},{},{},{},{},{}",
            self.bytes,
            self.parameters,
            self.threads,
            self.load_seconds,
            self.test,
            self.mean(),
            self.deviation(),
            self.median(),
            self.rate,
            self.unit,
            self.peak,
            self.share()
        )
    }
}

/// Rows on their way out: each appears when it is measured, only JSON waits for the last.
pub struct Rows<W: Write> {
    output: Output,
    to: W,
    begun: bool,
    list: Vec<Value>,
}

const MARKDOWN: &str = "| model | size | params | threads | test | tokens/s | median | uses | of the machine |\n\
                        |---|---:|---:|---:|---|---:|---:|---:|---:|";
const CSV: &str =
    "model,bytes,parameters,threads,load_seconds,test,mean,deviation,median,rate,unit,peak,share";

impl<W: Write> Rows<W> {
    pub fn new(output: Output, to: W) -> Rows<W> {
        Rows { output, to, begun: false, list: vec![] }
    }

    pub fn push(&mut self, row: Row) -> io::Result<()> {
        let (head, line) = match self.output {
            Output::Json => {
                self.list.push(row.json());
                return Ok(());
            }
            Output::Md => (MARKDOWN, row.markdown()),
            Output::Csv => (CSV, row.csv()),
        };
        if !std::mem::replace(&mut self.begun, true) {
            writeln!(self.to, "{head}")?;
        }
        writeln!(self.to, "{line}")?;
        self.to.flush()
    }

    pub fn finish(mut self) -> io::Result<()> {
        if matches!(self.output, Output::Json) {
            writeln!(self.to, "{:#}", Value::Array(self.list))?;
        }
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(rates: &[f64]) -> Row {
        let rates = rates.to_vec();
        Row {
            model: "a \"b\"".into(),
            test: "tg8".into(),
            rates,
            rate: 5.0,
            unit: "GB/s",
            peak: 20.0,
            ..Row::default()
        }
    }

    #[test]
    fn the_median_is_the_middle_one_and_the_deviation_that_of_a_sample() {
        assert_eq!(row(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(row(&[4.0, 1.0, 2.0, 3.0]).median(), 2.5);
        assert_eq!(row(&[1.0, 3.0]).mean(), 2.0);
        assert!((row(&[1.0, 3.0]).deviation() - 2f64.sqrt()).abs() < 1e-12);
        assert_eq!(row(&[7.0]).deviation(), 0.0);
    }

    #[test]
    fn each_way_of_writing_holds_the_same_numbers() {
        let written = |output| {
            let mut to = vec![];
            let mut rows = Rows::new(output, &mut to);
            rows.push(row(&[1.0, 2.0, 6.0])).unwrap();
            rows.finish().unwrap();
            String::from_utf8(to).unwrap()
        };
        let json: Value = serde_json::from_str(&written(Output::Json)).unwrap();
        assert_eq!((json[0]["median"].as_f64(), json[0]["share"].as_f64()), (Some(2.0), Some(0.25)));
        assert!(written(Output::Md).contains("| 3.0 ± 2.6 | 2.0 | 5.0 GB/s | 25 % of 20 |"));
        let csv = written(Output::Csv);
        assert!(csv.ends_with("tg8,3,2.6457513110645907,2,5,GB/s,20,0.25\n"), "{csv}");
        assert_eq!(csv.lines().next().map(|l| l.split(',').count()), Some(13));
    }
}
