//! Ed25519 (RFC 8032) over the exact bytes of what is signed. The only file that names the library.
//!
//! What a signature is for stands in front of the bytes that are signed, so that one for a command can never pass for
//! one of a configuration.

use ring::digest::{SHA256, digest as ring_digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// Stands in front of the bytes of a command.
pub const FOR_COMMAND: &str = "lineside command 1\n";

/// Stands in front of the bytes of a configuration.
pub const FOR_CONFIGURATION: &str = "lineside configuration 1\n";

/// A private key.
pub struct SigningKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// A new key from the random numbers of the system; `None` when it has none.
    pub fn generate() -> Option<Self> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).ok()?;
        Self::from_seed(seed)
    }

    /// The key of a seed (RFC 8032, 5.1.5: the private key).
    pub fn from_seed(seed: [u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).ok()?;
        Some(Self { seed, pair })
    }

    /// The secret.
    pub fn seed(&self) -> [u8; 32] {
        self.seed
    }

    /// What the gateways are given, as hexadecimal digits.
    pub fn public(&self) -> String {
        hex(self.pair.public_key().as_ref())
    }

    /// The signature of `text`, as hexadecimal digits.
    pub fn sign(&self, purpose: &str, text: &str) -> String {
        hex(self.pair.sign(&[purpose.as_bytes(), text.as_bytes()].concat()).as_ref())
    }
}

/// Whether the holder of `public` has signed `text` for this purpose.
pub fn is_signed(public: &[u8; 32], purpose: &str, text: &str, signature: &[u8]) -> bool {
    let signed = [purpose.as_bytes(), text.as_bytes()].concat();
    UnparsedPublicKey::new(&ED25519, public).verify(&signed, signature).is_ok()
}

/// SHA-256, as hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    hex(ring_digest(&SHA256, bytes).as_ref())
}

/// Two hexadecimal digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads what [`hex`] writes.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len() / 2).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_its_key_its_text_and_its_purpose_alone() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let public = |key: &SigningKey| <[u8; 32]>::try_from(from_hex(&key.public()).unwrap()).unwrap();
        let signature = from_hex(&key.sign(FOR_COMMAND, "stop")).unwrap();

        assert!(is_signed(&public(&key), FOR_COMMAND, "stop", &signature));
        assert!(!is_signed(&public(&key), FOR_COMMAND, "stop ", &signature));
        assert!(!is_signed(&public(&key), FOR_CONFIGURATION, "stop", &signature));
        assert!(!is_signed(&public(&other), FOR_COMMAND, "stop", &signature));
        assert!(!is_signed(&public(&key), FOR_COMMAND, "stop", &signature[..63]));
        assert_eq!(SigningKey::from_seed(key.seed()).unwrap().public(), key.public());
    }

    #[test]
    fn keys_and_signatures_are_those_of_the_standard() {
        // RFC 8032, 7.1, test 1, for the key; the purpose in front makes the signature our own.
        let seed = from_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let key = SigningKey::from_seed(seed.try_into().unwrap()).unwrap();

        assert_eq!(key.public(), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(digest(b"abc")[..16], *"ba7816bf8f01cfea");
    }
}
