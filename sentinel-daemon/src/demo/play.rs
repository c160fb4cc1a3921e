//! The order of a demonstration: start, write, break, wait, repair, read back.
//!
//! Decides what comes when, for all services at once, and nothing of how.

use std::time::Duration;

use futures_util::future::join_all;

use super::engines::Fleet;
use super::error::DemoError;
use super::options::{DemoOptions, Fault};
use super::patience;
use super::report::Report;
use super::scene::{Aftermath, Scene, WHOLE_MAX};
use super::site::Site;
use super::voters::Voters;
use crate::output;

/// Writes before the fault.
const LEAD: Duration = Duration::from_secs(2);

/// Everything that runs. Dropping it ends all processes and removes the folder.
pub(super) struct Play {
    options: DemoOptions,
    // Dropped in this order: whoever looks after servers, the servers, the folder.
    voters: Voters,
    scenes: Vec<Scene>,
    _site: Site,
}

impl Play {
    /// Starts everything, and waits until the voters guard each service with all its replicas.
    pub(super) async fn prepare(options: DemoOptions) -> Result<Self, DemoError> {
        if options.with_leader && options.chosen_fault() == Fault::Switchover {
            return Err(DemoError::WithoutFault);
        }
        let plans = options.services();
        plans.iter().try_for_each(Fleet::require)?;
        output::note("starting a primary, two replicas and three voters");
        let mut site = Site::new()?;
        let mut fleets = Vec::new();
        for plan in &plans {
            fleets.push(Fleet::start(plan, &mut site).await?);
        }
        let mut voters = Voters::start(&mut site, &fleets, options.planted())?;
        let scenes = plans
            .into_iter()
            .zip(fleets)
            .map(|(plan, fleet)| Scene::prepare(plan, fleet, &voters, site.path()));
        let scenes: Result<Vec<Scene>, _> = join_all(scenes).await.into_iter().collect();
        if scenes.is_err() {
            // A voter that ended is the better reason.
            voters.check()?;
        }
        Ok(Self {
            options,
            voters,
            scenes: scenes?,
            _site: site,
        })
    }

    /// Everything from the first write to the last one read back.
    pub(super) async fn perform(&mut self) -> Result<Vec<Report>, DemoError> {
        let openings = self.scenes.iter().map(|scene| scene.open(&self.voters));
        let openings = join_all(openings).await;
        tokio::time::sleep(LEAD).await;

        let leader = self.leader().await?;
        let mut afters = Vec::new();
        for (scene, opening) in self.scenes.iter().zip(openings) {
            afters.push(scene.strike(opening?)?);
        }
        let killed = leader.filter(|_| self.options.with_leader);
        if let Some(leader) = killed {
            self.voters.kill(leader)?;
        }
        let watched = self.scenes.iter().zip(&mut afters);
        join_all(watched.map(|(scene, after)| scene.watch(after, &self.voters, leader))).await;

        let repaired = self.scenes.iter_mut().zip(&mut afters);
        join_all(repaired.map(|(scene, after)| scene.repair(after))).await;
        if let Some(killed) = killed {
            self.voters.start_one(killed)?;
        }
        output::note("everything is started again; waiting until all replicas count");
        let closed = self.scenes.iter().zip(&mut afters);
        join_all(closed.map(|(scene, after)| scene.close(after, &self.voters))).await;
        Ok(self.reports(afters))
    }

    /// The number of the leader, if it is to be killed or asked.
    async fn leader(&self) -> Result<Option<usize>, DemoError> {
        match self.options.chosen_fault() {
            Fault::Switchover => {}
            Fault::Kill | Fault::Hang | Fault::Isolate if self.options.with_leader => {}
            Fault::Kill | Fault::Hang | Fault::Isolate => return Ok(None),
        }
        patience::until("the voters agree on a leader", WHOLE_MAX, async || {
            let leader = self.voters.leader().await;
            leader.ok_or_else(String::new)
        })
        .await
        .map(Some)
    }

    fn reports(&mut self, mut afters: Vec<Aftermath>) -> Vec<Report> {
        if afters.iter().any(Aftermath::is_failed)
            && let Err(ended) = self.voters.check()
        {
            // A voter that ended is the better reason.
            if let Some(first) = afters.iter_mut().find(|after| after.is_failed()) {
                first.note_failure(Err(ended));
            }
        }
        let reported = self.scenes.iter().zip(afters);
        reported
            .map(|(scene, after)| scene.report(after, &self.options, &self.voters))
            .collect()
    }
}
