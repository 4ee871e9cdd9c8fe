//! Certificates for one test, made by openssl.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{directory, run};

/// A certificate authority, and a server and a client certificate that it signed.
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// The server certificate is for `localhost`, not for its address. The authority has a key of its own.
    pub fn from(authority: &str) -> Self {
        let certificates = Self { directory: directory() };
        certificates.authority(authority);
        certificates.signed("server", "subjectAltName=DNS:localhost");
        certificates.signed("client", "extendedKeyUsage=clientAuth");
        certificates
    }

    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    pub fn server(&self) -> (PathBuf, PathBuf) {
        (self.file("server.pem"), self.file("server.key"))
    }

    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.file("client.pem"), self.file("client.key"))
    }

    /// A client certificate with this common name, and its key.
    pub fn issue(&self, common_name: &str) -> (PathBuf, PathBuf) {
        let name = common_name.replace('/', "-");
        self.signed_as(&name, &format!("/CN={}", common_name.replace('/', "\\/")), "extendedKeyUsage=clientAuth");
        (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")))
    }

    /// A client certificate that is valid from `begin` to `end`, both as in `20250101000000Z`, and its key.
    pub fn issue_for(&self, name: &str, begin: &str, end: &str) -> (PathBuf, PathBuf) {
        let file = |ending: &str| self.file(&format!("{name}.{ending}"));
        let (key, request, certificate, settings) = (file("key"), file("csr"), file("pem"), file("cnf"));
        let directory = self.directory.path().display();
        std::fs::write(file("ext"), "extendedKeyUsage=clientAuth").unwrap();
        let lines = format!(
            "[ca]\ndefault_ca = own\n[own]\nserial = {directory}/{name}.serial\n\
             database = {directory}/{name}.index\nnew_certs_dir = {directory}\n\
             default_md = sha256\npolicy = any\n[any]\ncommonName = supplied\n"
        );
        std::fs::write(&settings, lines).unwrap();
        std::fs::write(file("index"), "").unwrap();
        let subject = format!("/CN={name}");
        run(
            "openssl",
            &[
                &["req", "-new", "-nodes", "-subj", &subject],
                &EC_KEY[..],
                &["-keyout", text(&key), "-out", text(&request)],
            ]
            .concat(),
        );
        let (authority, authority_key) = (self.ca(), self.file("ca.key"));
        run(
            "openssl",
            &[
                &["ca", "-batch", "-notext", "-rand_serial", "-config", text(&settings)][..],
                &["-cert", text(&authority), "-keyfile", text(&authority_key), "-startdate", begin, "-enddate", end],
                &["-extfile", text(&file("ext")), "-in", text(&request), "-out", text(&certificate)],
            ]
            .concat(),
        );
        (certificate, key)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn authority(&self, name: &str) {
        let subject = format!("/CN={name}");
        let (key, certificate) = (self.file("ca.key"), self.ca());
        run(
            "openssl",
            &[
                &["req", "-x509", "-nodes", "-days", "2", "-subj", &subject],
                &EC_KEY[..],
                &["-keyout", text(&key), "-out", text(&certificate)],
            ]
            .concat(),
        );
    }

    fn signed(&self, name: &str, extension: &str) {
        self.signed_as(name, &format!("/CN={name}"), extension);
    }

    fn signed_as(&self, name: &str, subject: &str, extension: &str) {
        let file = |ending: &str| self.file(&format!("{name}.{ending}"));
        let (key, request, certificate, extensions) = (file("key"), file("csr"), file("pem"), file("ext"));
        std::fs::write(&extensions, extension).unwrap();
        run(
            "openssl",
            &[
                &["req", "-new", "-nodes", "-subj", subject],
                &EC_KEY[..],
                &["-keyout", text(&key), "-out", text(&request)],
            ]
            .concat(),
        );
        let (authority, authority_key) = (self.ca(), self.file("ca.key"));
        run(
            "openssl",
            &[
                &["x509", "-req", "-days", "2", "-CAcreateserial", "-in", text(&request)][..],
                &["-CA", text(&authority), "-CAkey", text(&authority_key)],
                &["-extfile", text(&extensions), "-out", text(&certificate)],
            ]
            .concat(),
        );
    }
}

const EC_KEY: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
