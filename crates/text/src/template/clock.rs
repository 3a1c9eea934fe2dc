//! The clock that a template reads, and `strftime_now`.

use minijinja::Value;

/// A moment, as a calendar and a clock on the wall show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Year.
    pub year: i64,
    /// Month, 1 to 12.
    pub month: u32,
    /// Day of the month, 1 to 31.
    pub day: u32,
    /// Hour, 0 to 23.
    pub hour: u32,
    /// Minute, 0 to 59.
    pub minute: u32,
    /// Second, 0 to 59.
    pub second: u32,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::now()
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Clock {
    /// Now, in UTC.
    pub fn now() -> Clock {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Clock::from_unix(since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0)))
    }

    /// The moment this many seconds after 1970 began, in UTC. (Days to a date by Hinnant's
    /// "chrono-compatible low-level date algorithms".)
    pub fn from_unix(seconds: i64) -> Clock {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u32);
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        Clock {
            year: yoe + era * 400 + i64::from(month <= 2),
            month: month as u32,
            day: (doy - (153 * mp + 2) / 5 + 1) as u32,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    /// Days since Sunday (Sakamoto's method).
    fn weekday(&self) -> usize {
        const SHIFT: [i64; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = if self.month < 3 { self.year - 1 } else { self.year };
        let shift = SHIFT[self.month.clamp(1, 12) as usize - 1];
        let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
        (year + leaps + shift + i64::from(self.day)).rem_euclid(7) as usize
    }

    fn day_of_year(&self) -> u32 {
        const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let leap = (self.year % 4 == 0 && self.year % 100 != 0) || self.year % 400 == 0;
        BEFORE[self.month.clamp(1, 12) as usize - 1] + self.day + u32::from(leap && self.month > 2)
    }

    /// As C's strftime writes it in the C locale. Directives that are not known stay as they are.
    pub fn format(&self, format: &str) -> String {
        let mut out = String::with_capacity(format.len() + 16);
        let mut chars = format.chars().peekable();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let bare = chars.next_if(|&c| c == '-').is_some();
            match chars.next() {
                Some(directive) => self.directive(directive, bare, &mut out),
                None => out.push('%'),
            }
        }
        out
    }

    fn directive(&self, directive: char, bare: bool, out: &mut String) {
        let month = MONTHS[self.month.clamp(1, 12) as usize - 1];
        let day = DAYS[self.weekday()];
        let twelve = (self.hour + 11) % 12 + 1;
        let (number, width) = match directive {
            'd' => (self.day, 2),
            'm' => (self.month, 2),
            'y' => (self.year.rem_euclid(100) as u32, 2),
            'H' => (self.hour, 2),
            'I' => (twelve, 2),
            'M' => (self.minute, 2),
            'S' => (self.second, 2),
            'j' => (self.day_of_year(), 3),
            'w' => (self.weekday() as u32, 1),
            'u' => ((self.weekday() as u32 + 6) % 7 + 1, 1),
            'f' => (0, 6),
            _ => {
                let text = match directive {
                    'Y' => self.year.to_string(),
                    'B' => month.to_owned(),
                    'b' | 'h' => month[..3].to_owned(),
                    'A' => day.to_owned(),
                    'a' => day[..3].to_owned(),
                    'p' => if self.hour < 12 { "AM" } else { "PM" }.to_owned(),
                    'e' => format!("{:2}", self.day),
                    'F' => self.format("%Y-%m-%d"),
                    'T' | 'X' => self.format("%H:%M:%S"),
                    'D' | 'x' => self.format("%m/%d/%y"),
                    'R' => self.format("%H:%M"),
                    'c' => self.format("%a %b %e %H:%M:%S %Y"),
                    'n' => "\n".to_owned(),
                    't' => "\t".to_owned(),
                    'z' | 'Z' => String::new(),
                    '%' => "%".to_owned(),
                    other => format!("%{other}"),
                };
                out.push_str(&text);
                return;
            }
        };
        let width = if bare { 1 } else { width };
        out.push_str(&format!("{number:0width$}"));
    }
}

/// `strftime_now(format)`.
pub(crate) fn function(now: Clock) -> Value {
    Value::from_function(move |format: &str| now.format(format))
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn a_known_moment() {
        let clock = Clock::from_unix(1_768_469_405);
        let text = clock.format("%Y-%m-%d %H:%M:%S %a %A %b %B %-d %e %j %I %p %y %%");
        assert_eq!(text, "2026-01-15 09:30:05 Thu Thursday Jan January 15 15 015 09 AM 26 %");
        assert_eq!(Clock::from_unix(951_782_400).format("%d %b %Y %A %j"), "29 Feb 2000 Tuesday 060");
    }
}
