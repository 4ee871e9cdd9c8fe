//! What happens in the demo, told when it happens.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cli::table::count;
use crate::diagnostics::Status;
use crate::poll::status::DeviceState;

/// What the story is told from, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scene {
    pub elapsed: Duration,
    pub broker_is_up: bool,
    /// Devices that have answered so far, and all.
    pub polled: usize,
    pub devices: usize,
    pub dead: BTreeSet<String>,
    /// Newest durable commit of telemetry, and the oldest one that is not delivered.
    pub durable_last: u64,
    pub oldest_undelivered: u64,
    /// Readings that wait for the broker.
    pub waiting: u64,
}

impl Scene {
    pub fn new(elapsed: Duration, broker_is_up: bool, status: &Status) -> Self {
        let devices = || status.links.iter().flat_map(|link| &link.devices);
        let dead = devices().filter(|device| device.state == DeviceState::BackedOff);
        let lane = &status.lanes.telemetry;
        Self {
            elapsed,
            broker_is_up,
            polled: devices().filter(|device| device.last_answer.is_some()).count(),
            devices: devices().count(),
            dead: dead.map(|device| device.name.to_string()).collect(),
            durable_last: lane.durable_last.0,
            oldest_undelivered: lane.oldest_undelivered.0,
            waiting: lane.pending_readings,
        }
    }
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Story {
    has_begun: bool,
    dead: BTreeSet<String>,
    /// Most readings that waited while the broker was away.
    outage: Option<u64>,
    /// The last commit made while the broker was away, and how many readings waited then.
    backlog: Option<(u64, u64)>,
}

impl Story {
    /// What is new, a sentence for each thing.
    pub fn tell(&mut self, scene: &Scene) -> Vec<String> {
        let mut news = Vec::new();
        if !self.has_begun && scene.devices > 0 && scene.polled == scene.devices {
            self.has_begun = true;
            news.push(format!("all {} devices answer", scene.devices));
        }
        for name in scene.dead.difference(&self.dead) {
            news.push(format!("{name} is dead: its readings are bad, those of the others go on"));
        }
        for name in self.dead.difference(&scene.dead) {
            news.push(format!("{name} answers again"));
        }
        self.dead.clone_from(&scene.dead);
        self.follow_broker(scene, &mut news);
        news.iter().map(|news| format!("{:>5.1} s  {news}", scene.elapsed.as_secs_f64())).collect()
    }

    fn follow_broker(&mut self, scene: &Scene, news: &mut Vec<String>) {
        if !scene.broker_is_up {
            if self.outage.is_none() {
                news.push("the broker is gone: polling goes on, readings wait in the store".to_owned());
            }
            self.outage = self.outage.max(Some(scene.waiting));
        } else if let Some(waiting) = self.outage.take() {
            news.push(format!("the broker is back: {} readings wait for it", count(waiting)));
            self.backlog = Some((scene.durable_last, waiting));
        }
        if let Some((last, waiting)) = self.backlog
            && scene.oldest_undelivered > last
        {
            news.push(format!("the backlog is delivered, all {} readings of it", count(waiting)));
            self.backlog = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(seconds: u64) -> Scene {
        Scene {
            elapsed: Duration::from_secs(seconds),
            broker_is_up: true,
            polled: 13,
            devices: 13,
            durable_last: 10 * seconds,
            oldest_undelivered: 10 * seconds - 5,
            waiting: 300,
            ..Scene::default()
        }
    }

    #[test]
    fn each_thing_is_told_once() {
        let mut story = Story::default();
        let mut told = Vec::new();
        let dead = || BTreeSet::from(["press-2".to_owned()]);
        let scenes = [
            Scene { polled: 12, ..scene(1) },
            scene(2),
            scene(3),
            Scene { dead: dead(), ..scene(6) },
            Scene { broker_is_up: false, dead: dead(), waiting: 500, ..scene(10) },
            Scene { broker_is_up: false, oldest_undelivered: 95, waiting: 1400, ..scene(14) },
            Scene { oldest_undelivered: 95, waiting: 1450, ..scene(15) },
            Scene { oldest_undelivered: 150, ..scene(16) },
            Scene { oldest_undelivered: 151, ..scene(17) },
            scene(18),
        ];

        for scene in scenes {
            told.extend(story.tell(&scene));
        }

        assert_eq!(
            told,
            [
                "  2.0 s  all 13 devices answer",
                "  6.0 s  press-2 is dead: its readings are bad, those of the others go on",
                " 10.0 s  the broker is gone: polling goes on, readings wait in the store",
                " 14.0 s  press-2 answers again",
                " 15.0 s  the broker is back: 1,400 readings wait for it",
                " 17.0 s  the backlog is delivered, all 1,400 readings of it",
            ]
        );
    }
}
