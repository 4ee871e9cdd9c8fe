//! What the owner should know of certificates before they stop a connection: that they have expired, or soon will.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::validity::Validity;
use crate::model::Timestamp;

/// So long before its end a certificate is worth a warning: what a visit to a site takes to arrange.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// A warning for each certificate in `file`, the value of `key`, that does not count at `now` or soon will not.
/// Certificates that are not understood are passed over: TLS says what is wrong with them.
pub fn expiry_warnings(key: &str, file: &Path, now: Timestamp) -> Vec<String> {
    let Ok(certificates) = CertificateDer::pem_file_iter(file) else { return Vec::new() };
    let validities = certificates.flatten().filter_map(|certificate| Validity::of(&certificate));
    validities.filter_map(|validity| warning(validity, now)).map(|why| format!("{key} = {file:?}: {why}")).collect()
}

fn warning(validity: Validity, now: Timestamp) -> Option<String> {
    let Validity { not_before, not_after } = validity;
    if now > not_after {
        return Some(format!("a certificate in it expired on {not_after}: renew it, or set the clock here"));
    }
    if now < not_before {
        return Some(format!("a certificate in it is not valid before {not_before}: set the clock here"));
    }
    let days = not_after.since(now).as_secs() / 86_400;
    (now.after(SOON) > not_after)
        .then(|| format!("a certificate in it expires on {not_after}, in {days} days: renew it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_before_at_and_after_its_time() {
        let day = 86_400_000;
        let validity = Validity { not_before: Timestamp(100 * day), not_after: Timestamp(200 * day) };
        let said = |time: i64| warning(validity, Timestamp(time)).unwrap_or_default();

        assert!(said(99 * day).contains("not valid before 1970-04-11"), "{}", said(99 * day));
        assert_eq!(said(100 * day), "");
        assert_eq!(said(169 * day), "");
        assert!(said(190 * day).contains("expires on 1970-07-20") && said(190 * day).contains("in 10 days"));
        assert!(said(201 * day).contains("expired on 1970-07-20"), "{}", said(201 * day));
    }
}
