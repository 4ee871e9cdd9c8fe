//! Keys that are fixed while the agent runs: a reload cannot put them in force.

use super::{Config, GatewayConfig, StoreConfig};

/// The fixed keys in which two configurations differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FixedKeys {
    /// Those of the identity, each with the value in force and the one wanted: series, topics and client id carry it, so
    /// nothing of a configuration with another one may be put in force.
    pub identity: Vec<(&'static str, String, String)>,
    /// The others: the rest of the configuration can be in force without them.
    pub others: Vec<&'static str>,
}

/// The fixed keys in which `wanted` differs from what is `in_force`.
pub fn fixed_keys(in_force: &Config, wanted: &Config) -> FixedKeys {
    let GatewayConfig { site, id, socket } = &in_force.gateway;
    let own = &wanted.gateway;
    let identity = [("gateway.site", site, &own.site), ("gateway.id", id, &own.id)];
    let identity = identity.into_iter().filter(|(_, now, then)| now != then);
    let identity = identity.map(|(key, now, then)| (key, now.to_string(), then.to_string())).collect();
    let mut others = vec![("gateway.socket", *socket != own.socket), ("clock.trust", in_force.clock != wanted.clock)];
    let StoreConfig {
        path,
        limit_bytes,
        // The same limit is the same, whether it is stated or not.
        limit_is_stated: _,
        commit_interval,
        commit_interval_max,
        card_endurance_bytes,
        engine,
        when_full,
        open_commit,
    } = &in_force.store;
    let store = &wanted.store;
    others.extend([
        ("store.path", *path != store.path),
        ("store.limit", *limit_bytes != store.limit_bytes),
        ("store.commit_interval", *commit_interval != store.commit_interval),
        ("store.commit_interval_max", *commit_interval_max != store.commit_interval_max),
        ("store.card_endurance", *card_endurance_bytes != store.card_endurance_bytes),
        ("store.engine", *engine != store.engine),
        ("store.when_full", *when_full != store.when_full),
        ("store.open_commit", *open_commit != store.open_commit),
    ]);
    let others = others.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
    FixedKeys { identity, others }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TEXT: &str = "gateway = { site = \"lyon\", id = \"gw-01\", socket = \"socket\" }\n\
                        store = { path = \"store\", limit = \"64MiB\" }\n\
                        clock = { trust = \"kernel\" }\n\
                        mqtt = { url = \"mqtt://127.0.0.1:1\" }\n\
                        link = [{ name = \"hall\", tcp = \"127.0.0.1:1\" }]\n\
                        device = [{ name = \"meter\", link = \"hall\", unit_id = 1, profile = \"abb-b23\" }]\n";

    fn config(text: &str) -> Config {
        super::super::parse(text, "lineside.toml", Path::new("/")).unwrap()
    }

    #[test]
    fn every_fixed_key_is_named_and_no_other() {
        let with = |from: &str, to: &str| fixed_keys(&config(TEXT), &config(&TEXT.replace(from, to)));

        assert_eq!(with("meter", "pump"), FixedKeys::default());
        assert_eq!(with("\"gw-01\"", "\"gw-02\"").identity, [("gateway.id", "gw-01".into(), "gw-02".into())]);
        assert_eq!(with("\"lyon\"", "\"nice\"").identity, [("gateway.site", "lyon".into(), "nice".into())]);
        for (from, to, key) in [
            ("socket = \"socket\"", "socket = \"other\"", "gateway.socket"),
            ("\"kernel\"", "\"local\"", "clock.trust"),
            ("path = \"store\"", "path = \"other\"", "store.path"),
            ("64MiB", "65MiB", "store.limit"),
            ("\"64MiB\"", "\"64MiB\", commit_interval_max = \"5s\"", "store.commit_interval_max"),
            ("\"64MiB\"", "\"64MiB\", card_endurance = \"30TB\"", "store.card_endurance"),
            ("\"64MiB\"", "\"64MiB\", engine = \"sled\"", "store.engine"),
            ("\"64MiB\"", "\"64MiB\", open_commit = \"off\"", "store.open_commit"),
            ("\"64MiB\"", "\"64MiB\", when_full = \"drop-oldest\"", "store.when_full"),
        ] {
            assert_eq!(with(from, to), FixedKeys { identity: Vec::new(), others: vec![key] }, "{key}");
        }
    }
}
