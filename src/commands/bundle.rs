//! What the makers need to find a fault, without secrets: one JSON document, compressed.

use serde_json::{Value, json};

use super::answer::Outcome;
use super::execute::{Services, shown_value};
use super::signature::hex;

/// Bytes of one part as hexadecimal digits: with the answer around it below every broker's limit.
const PART: usize = 48 << 10;

/// A configuration longer than this is cut.
const FILE_MAX: usize = 1 << 20;

/// The bundle as parts of an answer: hexadecimal digits of a zstd frame around JSON.
pub(super) async fn outcome(services: &Services) -> Outcome {
    let document = document(services);
    let packed = tokio::task::spawn_blocking(move || {
        let json = serde_json::to_vec(&document)?;
        Ok::<_, std::io::Error>((json.len(), zstd::bulk::compress(&json, 3)?))
    });
    let (length, packed) = match packed.await {
        Ok(Ok(packed)) => packed,
        Ok(Err(error)) => return Outcome::failed(error.to_string()),
        Err(error) => return Outcome::failed(error.to_string()),
    };
    let digits = hex(&packed);
    let parts = digits.as_bytes().chunks(PART).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    let result =
        json!({ "format": "hexadecimal digits of zstd of JSON", "bytes": length, "packed_bytes": packed.len() });
    Outcome { parts, ..Outcome::done(result) }
}

/// Everything in the bundle.
pub(super) fn document(services: &Services) -> Value {
    let file = services.config_file.as_deref();
    let configuration = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let log = shown_value(&services.log.latest(usize::MAX));
    of(&shown_value(&services.board.snapshot()), &log, &configuration)
}

/// A bundle of these parts; what somebody wrote into the configuration and nobody should see is taken out.
pub fn of(status: &Value, log: &Value, configuration: &str) -> Value {
    json!({
        "lineside": env!("CARGO_PKG_VERSION"),
        "status": status,
        "log": log,
        "configuration": without_secrets(configuration),
        "system": {
            "kernel": std::fs::read_to_string("/proc/version").unwrap_or_default().trim_end(),
            "load": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim_end(),
            "memory": std::fs::read_to_string("/proc/meminfo").unwrap_or_default().lines().take(5).collect::<Vec<_>>(),
        },
    })
}

/// The text of a configuration, values of keys that may hold a secret replaced. Nothing secret belongs there, but people
/// put it there, in comments too.
pub(super) fn without_secrets(text: &str) -> String {
    const SECRET: [&str; 6] = ["pass", "secret", "token", "username", "private", "seed"];
    let redacted = |line: &str| {
        let lower = line.to_lowercase();
        let is_secret = SECRET.iter().any(|word| lower.contains(word)) || lower.contains("://") && lower.contains('@');
        match line.split_once('=') {
            Some((key, _)) if is_secret => format!("{key}= \"***\""),
            None if is_secret => "# ***".to_owned(),
            Some(_) | None => line.to_owned(),
        }
    };
    let cut: String = text.chars().take(FILE_MAX).collect();
    cut.lines().map(redacted).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_leave_the_gateway() {
        let text = "url = \"mqtts://a\"\nusername = \"gw\"\n# Password: hunter2\npassword_file = \"/etc/x\"\n\
                    will = { url = \"mqtt://gw:hunter2@broker\" }\nsite = \"lyon\"";

        let shown = without_secrets(text);

        assert!(!shown.contains("hunter2") && !shown.contains("\"gw\""), "{shown}");
        assert!(shown.contains("site = \"lyon\"") && shown.contains("url = \"mqtts://a\""), "{shown}");
    }
}
