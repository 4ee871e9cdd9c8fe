//! Problems of the configuration: a reload that was refused, keys that wait for a restart, a remote revision in force.

use super::{Area, Problem, Severity, joined};
use crate::diagnostics::Status;

/// The owner's file, where nothing else names it.
const FILE: &str = "the configuration file";

pub(super) fn problems(status: &Status) -> Vec<Problem> {
    let configuration = &status.configuration;
    let file = Some(configuration.file.as_str()).filter(|file| !file.is_empty()).unwrap_or(FILE);
    let mut problems = Vec::new();
    if let Some(refused) = &configuration.refused {
        let text = format!("{file} was not reloaded, all is as before: {}", joined(&refused.reasons));
        problems.push(
            Problem::new(Area::Machine, Severity::Major, "reload-refused", text)
                .since(Some(refused.time))
                .remedy("mend the file, try it with `lineside check`, and reload again"),
        );
    }
    if !configuration.overlay_refused.is_empty() {
        let text =
            format!("the remote configuration is not in force, {file} is: {}", joined(&configuration.overlay_refused));
        problems.push(
            Problem::new(Area::Remote, Severity::Major, "overlay-refused", text)
                .remedy("push a higher revision that fits the file"),
        );
    }
    if let Some(waiting) = &configuration.restart {
        let text = format!("{file} was reloaded, but these keys need a restart: {}", waiting.keys.join(", "));
        problems.push(
            Problem::new(Area::Machine, Severity::Minor, "restart-needed", text)
                .since(Some(waiting.since))
                .remedy("restart the service when it suits"),
        );
    }
    let revision = status.remote.as_ref().map_or(0, |remote| remote.config_revision);
    if revision > 0 && configuration.overlay_refused.is_empty() {
        let text = format!("revision {revision} from afar is in force; {file} is only its base");
        problems.push(
            Problem::new(Area::Remote, Severity::Notice, "revision-in-force", text)
                .remedy("`lineside config history` shows it, `lineside config rollback 0` returns to the file"),
        );
    }
    problems
}
