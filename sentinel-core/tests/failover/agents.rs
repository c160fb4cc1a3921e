//! Orders that an agent gets from a leader: how old one may be when it comes.
//!
//! Found by a simulated node that stood still for seconds with an order before it. A leader counts on an order being dead
//! after its deadline, and so does the next leader; the agent's clock is the only one that can say so at the agent.

use std::time::Duration;

use sentinel_core::action::{ActionKind, Outcome};
use sentinel_core::config::{NodeRole, NodeSettings, ServiceSettings, Timing};
use sentinel_core::discovery::Announced;
use sentinel_core::id::{ActionId, InstanceId, NodeName, ServiceName, Term, Token};
use sentinel_core::peer::{OrderMessage, PeerMessage, Restored};
use sentinel_core::planted::Bugs;
use sentinel_core::sentinel::{Input, Output, Sentinel};
use sentinel_core::time::Instant;

use crate::world::{SERVICE, instance, name};

const WITHIN: Duration = Duration::from_millis(300);

struct Agent {
    machine: Sentinel,
    now: Instant,
}

impl Agent {
    fn new() -> Self {
        let service = ServiceName::from(SERVICE);
        let settings = NodeSettings {
            cluster: "test".into(),
            agent_of: [(service.clone(), instance(1))].into(),
            name: name(1),
            role: NodeRole::Voter,
            voters: (1..=3).map(name).collect(),
            seed: 7,
            timing: Timing::default(),
            bugs: Bugs::none(),
        };
        let service = ServiceSettings::new(service, "test".into(), [instance(0)].into());
        let now = Instant::ORIGIN + Duration::from_secs(100);
        let restored = Restored::default();
        let machine = Sentinel::new(settings, vec![service], restored, now).unwrap();
        Self { machine, now }
    }

    fn handle(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle(self.now, input);
        std::iter::from_fn(|| self.machine.poll_output()).collect()
    }

    /// Lets time pass; the beat of its last report.
    fn report_after(&mut self, time: Duration) -> u64 {
        let end = self.now + time;
        let mut beat = None;
        while self.now < end {
            self.now = self.now + Duration::from_millis(50);
            for output in self.handle(Input::Tick) {
                if let Output::Send { message, .. } = output
                    && let PeerMessage::Agent(report) = *message
                {
                    beat = Some(report.beat);
                }
            }
        }
        beat.unwrap()
    }

    /// What it makes of an order that is counted from this report: the deadline to act by, or why not.
    fn order(&mut self, beat: u64) -> Result<Instant, String> {
        let order = OrderMessage {
            id: ActionId {
                term: Term(1),
                sequence: beat,
            },
            beat,
            within: WITHIN,
            service: ServiceName::from(SERVICE),
            instance: instance(1),
            token: Token::default(),
            kind: ActionKind::Repoint {
                primary: InstanceId::new("10.0.0.21", 1),
            },
        };
        let message = Box::new(PeerMessage::Order(Box::new(order)));
        let from = NodeName::new("s2");
        let input = Input::PeerConnected {
            peer: from.clone(),
            announced: Announced::default(),
        };
        self.handle(input);
        for output in self.handle(Input::Received { from, message }) {
            match output {
                Output::Act(action) => return Ok(action.deadline),
                Output::Send { message, .. } => {
                    if let PeerMessage::OrderDone { outcome, .. } = *message {
                        let Outcome::Refused(text) = outcome else {
                            panic!("{outcome:?}");
                        };
                        return Err(text);
                    }
                }
                Output::Persist(_)
                | Output::Probe(_)
                | Output::Publish(_)
                | Output::View(_)
                | Output::Answered { .. }
                | Output::Stopped => {}
            }
        }
        panic!("the order came to nothing");
    }
}

#[test]
fn an_order_expires_by_the_agents_own_clock() {
    let mut agent = Agent::new();
    let beat = agent.report_after(Duration::from_secs(1));
    let deadline = Instant::from_nanos(beat) + WITHIN;
    assert_eq!(agent.order(beat), Ok(deadline));
    // The node stands still, and finds the order when it goes on: its deadline has passed.
    agent.now = agent.now + Duration::from_secs(2);
    assert_eq!(agent.order(beat), Ok(deadline));
    assert!(deadline < agent.now);
}

#[test]
fn an_order_of_another_life_or_from_long_ago_is_refused() {
    let mut agent = Agent::new();
    let beat = agent.report_after(Duration::from_secs(1));
    agent.report_after(Duration::from_secs(10));
    assert!(agent.order(beat).unwrap_err().contains("too old"));
    let other_life = beat + 1;
    assert!(agent.order(other_life).is_err());
}
