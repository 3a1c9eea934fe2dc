//! How many threads this process may use well: physical cores, within affinity and cgroup quota.
//!
//! Two threads of one core share its vector units, so siblings count once. A container with half the
//! machine's quota that starts a thread per core is stopped for half of every period, so quota counts too.

/// Threads for a pool: physical cores allowed by the affinity mask, no more than the cgroup's quota allows.
pub fn default_threads() -> usize {
    let cores = physical_cores().unwrap_or_else(logical).max(1);
    match quota() {
        // 1.8 cores are two threads, 1.5 are one and no throttling.
        Some(q) => cores.min(((q + 0.25).floor() as usize).max(1)),
        None => cores,
    }
}

fn logical() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Distinct cores among the processors of the affinity mask.
#[cfg(target_os = "linux")]
fn physical_cores() -> Option<usize> {
    // SAFETY: the set is plain bits, zero is a value, and its true size is passed.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) == 0).then_some(set)?
    };
    let mut cores = std::collections::BTreeSet::new();
    for cpu in 0..libc::CPU_SETSIZE as usize {
        // SAFETY: `cpu` is below the size of the set.
        if unsafe { libc::CPU_ISSET(cpu, &set) } {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            let siblings = std::fs::read_to_string(path).unwrap_or_else(|_| cpu.to_string());
            cores.insert(siblings.trim().to_owned());
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// The performance cores, else all physical ones.
#[cfg(target_os = "macos")]
fn physical_cores() -> Option<usize> {
    [c"hw.perflevel0.physicalcpu", c"hw.physicalcpu"].into_iter().find_map(|name| {
        let (mut n, mut len) = (0i32, size_of::<i32>());
        // SAFETY: the name ends in zero; the result and its true size are passed.
        let rc = unsafe {
            let out = (&raw mut n).cast();
            libc::sysctlbyname(name.as_ptr(), out, &mut len, std::ptr::null_mut(), 0)
        };
        (rc == 0 && n > 0).then_some(n as usize)
    })
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn physical_cores() -> Option<usize> {
    None
}

/// Processors' worth of time that the cgroup allows, if it limits it.
#[cfg(target_os = "linux")]
fn quota() -> Option<f64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    quota_of(&groups, std::path::Path::new("/sys/fs/cgroup"))
}

#[cfg(not(target_os = "linux"))]
fn quota() -> Option<f64> {
    None
}

/// The tightest quota on the way from each cpu group of `/proc/self/cgroup` up to the root.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn quota_of(groups: &str, root: &std::path::Path) -> Option<f64> {
    let mut least: Option<f64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next(), parts.next()?, parts.next()?);
        let bases: &[&str] = match controllers {
            "" => &["", "unified"],
            c if c.split(',').any(|c| c == "cpu") => &["cpu", "cpu,cpuacct"],
            _ => continue,
        };
        for base in bases {
            let base = root.join(base);
            let full = base.join(path.trim_start_matches('/'));
            // In a container the path may not exist below the mount: then only the root is read.
            for dir in full.ancestors().take_while(|d| d.starts_with(&base)) {
                let found = quota_v2(dir).or_else(|| quota_v1(dir));
                least = match (least, found) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
    }
    least
}

fn quota_v2(dir: &std::path::Path) -> Option<f64> {
    let text = std::fs::read_to_string(dir.join("cpu.max")).ok()?;
    let mut words = text.split_whitespace();
    ratio(words.next()?, words.next().unwrap_or("100000"))
}

fn quota_v1(dir: &std::path::Path) -> Option<f64> {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
    ratio(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?)
}

/// quota / period; `max` and -1 mean no limit.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (q, p): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (q > 0.0 && p > 0.0).then_some(q / p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let root = std::env::temp_dir().join(format!("influence-cgroup-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(root.join("cpu/c")).unwrap();
        fs::write(root.join("a/cpu.max"), "150000 100000\n").unwrap();
        fs::write(root.join("a/b/cpu.max"), "max 100000\n").unwrap();
        fs::write(root.join("cpu/c/cpu.cfs_quota_us"), "50000\n").unwrap();
        fs::write(root.join("cpu/c/cpu.cfs_period_us"), "100000\n").unwrap();
        fs::write(root.join("cpu/cpu.cfs_quota_us"), "-1\n").unwrap();
        fs::write(root.join("cpu/cpu.cfs_period_us"), "100000\n").unwrap();
        assert_eq!(quota_of("0::/a/b\n", &root), Some(1.5));
        assert_eq!(quota_of("4:cpu,cpuacct:/c\n", &root), Some(0.5));
        assert_eq!(quota_of("4:memory:/c\n", &root), None);
        assert_eq!(quota_of("nonsense", &root), None);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn there_is_always_a_thread() {
        assert!(default_threads() >= 1 && default_threads() <= logical().max(1) * 2);
    }
}
