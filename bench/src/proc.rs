//! What the kernel says about a process: CPU time and resident memory.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// A process of ours, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pid(pub u32);

impl Pid {
    /// This process.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// User and system time that the process has used, in microseconds (in steps of 10 ms).
    pub fn cpu_us(self) -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))
            .with_context(|| format!("process {} is gone", self.0))?;
        cpu_ticks(&stat)
            .map(|ticks| ticks * US_PER_TICK)
            .context("/proc/<pid>/stat has no CPU times")
    }

    /// Resident memory in bytes.
    pub fn rss(self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory that it ever had, in bytes.
    pub fn peak_rss(self) -> Result<u64> {
        self.status("VmHWM:")
    }

    fn status(self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))
            .with_context(|| format!("process {} is gone", self.0))?;
        let kib = status_kib(&status, name);
        kib.map(|k| k * 1024).with_context(|| format!("/proc/<pid>/status has no {name}"))
    }
}

/// Linux gives these times in hundredths of a second on every architecture that we run on.
const US_PER_TICK: u64 = 10_000;

/// utime + stime: the fields 14 and 15. The second field is the name in parentheses, which may
/// hold blanks, so the count starts behind the last parenthesis.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn status_kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes of all files below a directory.
pub fn dir_bytes(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        total += if meta.is_dir() { dir_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}

/// The machine in one line: cores, processor, memory, kernel. Never its name.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split(": ").nth(1));
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let gib = status_kib(&meminfo, "MemTotal:").unwrap_or(0).div_ceil(1024 * 1024);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let series = kernel.split(['-', '+']).next().unwrap_or_default().trim().to_owned();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores ({}), {gib} GiB, Linux {series}", model.unwrap_or("unknown processor"))
}

/// Processes that ran or waited to run, on average over the last minute.
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// The file system that holds `path`, by its type (`ext4`, `tmpfs`, …).
pub fn file_system(path: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let fields = mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>());
    let covering = fields.filter(|f| f.len() > 2 && path.starts_with(f[1]));
    covering.max_by_key(|f| f[1].len()).map(|f| f[2].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_in_the_name_does_not_shift_the_fields() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("7 (x) S 1"), None);
    }

    #[test]
    fn our_own_process_can_be_read() {
        assert!(Pid::own().rss().unwrap() > 1024 * 1024);
        assert!(Pid::own().peak_rss().unwrap() >= Pid::own().rss().unwrap());
        assert!(Pid::own().cpu_us().is_ok() && load_average().is_some());
        assert!(file_system(Path::new("/proc/self")).is_some_and(|t| t == "proc"));
    }
}
