//! The agent's process is killed (SIGKILL) at every step of its journal: the next one finishes the job, the data are the
//! primary's, and nothing of the old folder is left over.
//!
//! Nobody stops the agent at a step for the test: its journal is watched, and it is killed as soon as that names the step,
//! or a moment later. Which step it really died at is read from the disk afterwards. Its tools live on, as they would.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use sentinel_tests::postgres_server::{Options, PostgresServer, PostgresVersion};
use sentinel_tests::wait;

use crate::minded::JOB;
use crate::node::AgentNode;
use crate::rejoining::{diverge, equal, fill};

/// A deposed primary with rows that nobody else has, killed; as often as it is wanted.
struct Scene {
    old: PostgresServer,
    new: PostgresServer,
    _third: PostgresServer,
    kept: PathBuf,
    /// What is beside its data folder.
    beside: BTreeSet<String>,
}

impl Scene {
    fn with(options: Options) -> Self {
        let mut old = PostgresServer::primary_with(&PostgresVersion::any(), options);
        let new = PostgresServer::standby_of(&old);
        fill(&old);
        old.wait_for_standby(&new);
        diverge(&old, &new, 20_000);
        old.kill_everything();
        // Somebody who acknowledges what the new primary writes.
        let third = PostgresServer::standby_of(&new);
        new.wait_for_standby(&third);
        let kept = old.folder().join("as-it-was");
        copy(&old.data_dir(), &kept);
        Self {
            beside: beside(&old),
            old,
            new,
            _third: third,
            kept,
        }
    }

    /// It is as it was when it was killed, and a node that knows nothing yet is its agent.
    fn begin(&mut self) -> AgentNode {
        self.old.kill_everything();
        self.old.remove_data();
        copy(&self.kept, &self.old.data_dir());
        let others = [self.new.instance(), self._third.instance()];
        AgentNode::of(&self.old, &others, "")
    }
}

fn beside(server: &PostgresServer) -> BTreeSet<String> {
    let entries = fs::read_dir(server.folder()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

fn copy(from: &PathBuf, to: &PathBuf) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

/// A number below this one; which one is of no importance, only that it is another one each time.
fn chance(below: u32) -> u32 {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    now.subsec_nanos() / 64 % below
}

/// Watches the journal without a pause: some steps take a millisecond.
fn await_step(node: &AgentNode, wanted: &str) {
    let begun = Instant::now();
    loop {
        match node.step().as_deref() {
            Some(step) if step == wanted || step == "Finished" => return,
            Some(_) | None => std::thread::yield_now(),
        }
        assert!(
            begun.elapsed() < JOB,
            "{wanted}: {:?}\n{}",
            node.journal(),
            node.log()
        );
    }
}

fn finished(scene: &Scene, node: &AgentNode) {
    let streaming = format!(
        "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND application_name = '{}'",
        scene.old.instance()
    );
    let done = wait::within(JOB, || {
        (node.step()? == "Finished" && scene.new.value(&streaming) == "1").then_some(())
    });
    assert!(done.is_some(), "{:?}\n{}", node.journal(), node.log());
    equal(&scene.new, &scene.old);
    let left = beside(&scene.old);
    assert_eq!(left, scene.beside, "nothing of the job is left");
    let kept = node.diverged();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].join("diverged.json").exists(), "{kept:?}");
}

/// Kills the agent when its journal names the step, and `later` after that; then lets another finish. Returns the step at
/// which it died.
fn case(scene: &mut Scene, step: &str, later: Duration) -> String {
    let mut node = scene.begin();
    node.spawn();
    await_step(&node, step);
    let seen = Instant::now();
    while seen.elapsed() < later {
        std::thread::yield_now();
    }
    node.kill9();
    let died_at = node.step().expect("there is a journal");
    scene.new.execute("INSERT INTO t SELECT max(n) + 1 FROM t");
    node.start();
    finished(scene, &node);
    died_at
}

#[expect(clippy::print_stdout, reason = "at which step it died is of interest")]
fn at_each(scene: &mut Scene, steps: &[&str]) {
    const TRIES: usize = 5;
    for step in steps {
        let died_there = (0..TRIES).any(|_| {
            let died_at = case(scene, step, Duration::ZERO);
            println!("killed as soon as {step} was seen: died at {died_at}");
            died_at == *step
        });
        assert!(died_there, "in {TRIES} tries it never died at {step}");
        let later = Duration::from_millis(chance(200).into());
        let died_at = case(scene, step, later);
        println!("killed {later:?} after {step} was seen: died at {died_at}");
    }
}

#[test]
fn a_rewind_is_finished_whichever_step_its_agent_was_killed_at() {
    let mut scene = Scene::with(Options::default());
    at_each(&mut scene, &["Begun", "Rewinding", "Rewound", "Ready"]);
}

/// Without hints in its log a folder cannot be rewound: a copy takes its place.
#[test]
fn a_copy_is_finished_whichever_step_its_agent_was_killed_at() {
    let mut scene = Scene::with(Options::default().line("wal_log_hints = off"));
    at_each(&mut scene, &["Copying", "Swapping", "Ready"]);
}
