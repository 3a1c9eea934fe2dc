//! How much memory there is for a KV cache, and how much was used at most.

use std::path::Path;

/// Bytes that this process may still take, as far as the platform says: on Linux the least of what the
/// kernel calls available, what the control group leaves, and what is left of the address space that
/// `ulimit -v` grants. `None` elsewhere.
pub fn available_memory() -> Option<u64> {
    let system = status_field(Path::new("/proc/meminfo"), "MemAvailable:")?;
    Some([group_limit(), address_space()].into_iter().flatten().fold(system, u64::min))
}

/// Bytes of memory that this process held at most so far, mapped files included. Linux only.
pub fn peak_memory() -> Option<u64> {
    status_field(Path::new("/proc/self/status"), "VmHWM:")
}

/// A line `name   123 kB`, in bytes.
fn status_field(path: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = value.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// What the control group (version 2) of a container leaves. Page cache counts as used there though
/// it would be given back, so only what is not file-backed is subtracted.
fn group_limit() -> Option<u64> {
    let group = Path::new("/sys/fs/cgroup");
    let number = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let anonymous = std::fs::read_to_string(group.join("memory.stat")).ok()?;
    let used = anonymous.lines().find_map(|line| line.strip_prefix("anon "))?.trim().parse::<u64>().ok()?;
    Some(number("memory.max")?.saturating_sub(used))
}

/// What `ulimit -v` leaves, where it is set. An allocation beyond it ends the process.
fn address_space() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let used = status_field(Path::new("/proc/self/status"), "VmSize:")?;
    Some(address_limit(&limits)?.saturating_sub(used))
}

/// The soft limit in the text of `/proc/self/limits`; `None` if there is none.
fn address_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_says_how_much_memory_there_is() {
        if cfg!(target_os = "linux") {
            assert!(available_memory().is_some_and(|bytes| bytes > 1 << 20));
            assert!(peak_memory().is_some_and(|bytes| bytes > 1 << 16));
        }
    }

    #[test]
    fn the_soft_limit_of_the_address_space_is_read() {
        let head = "Limit                     Soft Limit           Hard Limit           Units\n";
        let limited = "Max address space         4096000000           unlimited            bytes\n";
        let free = "Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(address_limit(&format!("{head}{limited}")), Some(4_096_000_000));
        assert_eq!(address_limit(&format!("{head}{free}")), None);
        assert_eq!(address_limit(head), None);
    }

    #[test]
    fn fields_are_found_by_name_and_given_in_bytes() {
        let file = std::env::temp_dir().join(format!("influence-meminfo-{}", std::process::id()));
        std::fs::write(&file, "MemTotal:  9 kB\nMemAvailable:   123 kB\n").unwrap();
        assert_eq!(status_field(&file, "MemAvailable:"), Some(123 * 1024));
        assert_eq!(status_field(&file, "Missing:"), None);
        std::fs::remove_file(&file).unwrap();
    }
}
