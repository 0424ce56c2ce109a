//! The CPU time, user and system, that the kernel has counted for a process.

use std::fs;
use std::process::Command;

/// What something took, in seconds.
pub(crate) struct Cost {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
}

/// Seconds of CPU time of a process of one thread, which all of the server's are. The same time as in
/// `/proc/PID/stat`, but in nanoseconds where that has clock ticks.
pub(crate) fn of_process(pid: u32) -> Result<f64, String> {
    let (path, text) = read(pid, "schedstat")?;
    text.split_whitespace()
        .next()
        .and_then(|nanoseconds| nanoseconds.parse::<f64>().ok())
        .map(|nanoseconds| nanoseconds / 1e9)
        .ok_or_else(|| format!("{path} is not as expected: {text}"))
}

/// Seconds of CPU time of those children of a process that have ended and been waited for.
pub(crate) fn of_ended_children(pid: u32) -> Result<f64, String> {
    let (path, stat) = read(pid, "stat")?;
    let ticks = ticks_of_ended_children(&stat)
        .ok_or_else(|| format!("{path} is not as expected: {stat}"))?;
    Ok(ticks / ticks_per_second()?)
}

pub(crate) fn has_ended(pid: u32) -> bool {
    !fs::exists(format!("/proc/{pid}")).unwrap_or(true)
}

fn read(pid: u32, file: &str) -> Result<(String, String), String> {
    let path = format!("/proc/{pid}/{file}");
    match fs::read_to_string(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

/// `cutime` and `cstime`, fields 16 and 17 of proc(5). Field 2, the command's name, may hold spaces and brackets.
fn ticks_of_ended_children(stat: &str) -> Option<f64> {
    let (_, from_field_3) = stat.rsplit_once(')')?;
    let mut fields = from_field_3.split_whitespace().skip(16 - 3);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn ticks_per_second() -> Result<f64, String> {
    let output = Command::new("getconf")
        .arg("CLK_TCK")
        .output()
        .map_err(|error| format!("could not run getconf: {error}"))?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .map_err(|_| format!("getconf CLK_TCK: {}", output.status))
}

#[cfg(test)]
mod tests {
    use super::ticks_of_ended_children;

    #[test]
    fn fields_are_counted_behind_the_command() {
        let stat = "1 (a b) c) S 4 5 6 7 8 9 10 11 12 13 140 15 1600 17 18";
        assert_eq!(ticks_of_ended_children(stat), Some(1617.0));
        assert_eq!(ticks_of_ended_children("1 (a) S 4"), None);
    }
}
