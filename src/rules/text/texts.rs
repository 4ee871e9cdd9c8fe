//! Functions from texts to texts.

/// Every word with a capital.
pub(super) fn title(text: &str) -> String {
    let mut is_first = true;
    let letter = |letter: char| {
        let shown = if is_first { letter.to_uppercase().to_string() } else { letter.to_string() };
        is_first = !(letter.is_alphanumeric() || letter == '_');
        shown
    };
    text.chars().map(letter).collect()
}

/// Host and port of an address; it has none where the port is empty.
pub(super) fn without_port(address: &str) -> (&str, &str) {
    match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host.trim_start_matches('[').trim_end_matches(']'), port)
        }
        _ => (address, ""),
    }
}

/// The first part of the name of a host, with its port.
pub(super) fn without_domain(address: &str) -> String {
    let (host, port) = without_port(address);
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let short = if is_address { host } else { host.split('.').next().unwrap_or(host) };
    if port.is_empty() { short.to_owned() } else { format!("{short}:{port}") }
}

/// The path of an address.
pub(super) fn path_of(url: &str) -> String {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    after.find('/').map_or_else(String::new, |at| after[at..].to_owned())
}

/// As a part of a query.
pub(super) fn url_encoded(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// As `html` of Go's templates.
pub(super) fn html(text: &str) -> String {
    let escaped = text.chars().map(|letter| match letter {
        '"' => "&#34;".to_owned(),
        '\'' => "&#39;".to_owned(),
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '\0' => "\u{FFFD}".to_owned(),
        other => other.to_string(),
    });
    escaped.collect()
}

/// As `js` of Go's templates.
pub(super) fn js(text: &str) -> String {
    let escaped = text.chars().map(|letter| match letter {
        '\\' | '\'' | '"' => format!("\\{letter}"),
        '<' | '>' | '&' | '=' => format!("\\u{:04X}", u32::from(letter)),
        control if control.is_control() => format!("\\u{:04X}", u32::from(control)),
        other => other.to_string(),
    });
    escaped.collect()
}
