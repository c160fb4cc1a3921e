//! The loop under a machine that says what the test wants: order, deadlines, broken adapters, stopping.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::action::{Action, ActionKind, Outcome};
use crate::config::{NodeRole, NodeSettings, Timing};
use crate::discovery::{Announced, View};
use crate::event::{Event, EventKind};
use crate::id::{ActionId, EngineName, InstanceId, ProbeId, Term, Token};
use crate::observation::{Observation, ProbeFailure, ProbeRequest};
use crate::peer::{HardState, LogEntry, Persist};
use crate::planted::Bugs;
use crate::runtime::board::Board;
use crate::runtime::driver::{Driver, Machine};
use crate::runtime::hands::Hands;
use crate::runtime::log_file::{DataFolder, RaftFile};
use crate::runtime::questions::Questions;
use crate::runtime::start::run;
use crate::runtime::storage::Storage;
use crate::runtime::transport::{Local, Peers};
use crate::runtime::{Adapter, Clock, RunError, Running};
use crate::sentinel::{Input, Output, Sentinel};
use crate::time::Instant;

const BOUND: Duration = Duration::from_secs(20);

/// Puts out a script once, and tells the test every input but time. It stops when it is told to.
struct Script {
    outputs: VecDeque<Output>,
    heard: mpsc::UnboundedSender<Input>,
}

impl Machine for Script {
    fn handle(&mut self, _now: Instant, input: Input) {
        match input {
            Input::Tick => {}
            Input::Stop => self.outputs.push_back(Output::Stopped),
            Input::Received { .. }
            | Input::PeerConnected { .. }
            | Input::Probed { .. }
            | Input::Disconnected { .. }
            | Input::Noted { .. }
            | Input::Ask { .. }
            | Input::Acted { .. } => drop(self.heard.send(input)),
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Instant {
        Clock::new().now() + Duration::from_millis(10)
    }
}

/// Answers by the port of the instance: 1 at once, 2 never, 3 by a panic, 4 by a panic before there is a future.
struct Moody {}

impl Adapter for Moody {
    fn engine(&self) -> EngineName {
        "moody".into()
    }

    fn probe(&self, request: ProbeRequest) -> BoxFuture<'static, Observation> {
        answer(
            request.instance.port(),
            Observation::Failure(ProbeFailure::Refused),
        )
    }

    fn act(&self, action: Action) -> BoxFuture<'static, Outcome> {
        answer(action.instance.port(), Outcome::Refused("moody".into()))
    }
}

fn answer<T: Send + 'static>(mood: u16, answer: T) -> BoxFuture<'static, T> {
    match mood {
        1 => Box::pin(async { answer }),
        2 => Box::pin(std::future::pending()),
        3 => Box::pin(async { panic!("in the future") }),
        _ => panic!("before the future"),
    }
}

fn settings() -> NodeSettings {
    NodeSettings {
        cluster: "main".into(),
        agent_of: Default::default(),
        name: "s1".into(),
        role: NodeRole::Voter,
        voters: ["s1".into()].into(),
        seed: 1,
        timing: Timing::default(),
        bugs: Bugs::default(),
    }
}

fn empty_view() -> View {
    let machine = Sentinel::new(settings(), vec![], Default::default(), Instant::ORIGIN).unwrap();
    View::clone(&machine.view())
}

/// The hints of adapters come in at the second sender.
type Started = (
    Running,
    mpsc::UnboundedReceiver<Input>,
    mpsc::Sender<(crate::id::ServiceName, InstanceId)>,
);

fn start(folder: &Path, outputs: Vec<Output>) -> Started {
    let clock = Clock::new();
    let data = DataFolder::open(folder).unwrap();
    let (file, _) = RaftFile::open(&data, &"main".into(), &"s1".into()).unwrap();
    let (heard, hears) = mpsc::unbounded_channel();
    let (inputs_in, inputs) = mpsc::channel(16);
    let (hints, disconnects) = mpsc::channel(16);
    let (_, notes) = mpsc::channel(1);
    let local = Local::new(&settings(), Announced::default(), None);
    let board = Arc::new(Board::new(Arc::new(empty_view())));
    let adapter: Arc<dyn Adapter> = Arc::new(Moody {});
    let hands = Hands {
        clock,
        adapters: [("moody".into(), adapter)].into(),
        seeds: [
            ("db".into(), "moody".into()),
            ("other".into(), "unknown".into()),
        ]
        .into(),
        board: Arc::clone(&board),
        tasks: JoinSet::new(),
    };
    let driver = Driver {
        machine: Script {
            outputs: outputs.into(),
            heard,
        },
        clock,
        inputs,
        disconnects,
        notes,
        questions: Questions::new(),
        stop: CancellationToken::new(),
        storage: Storage::new(Some(file)),
        peers: Peers::start(local, Default::default(), None, inputs_in).unwrap(),
        hands,
        board,
    };
    (run(driver, data), hears, hints)
}

fn probe(id: u64, service: &str, mood: u16) -> Output {
    Output::Probe(ProbeRequest {
        id: ProbeId(id),
        service: service.into(),
        instance: InstanceId::new("db", mood),
        deadline: Clock::new().now() + Duration::from_millis(50),
    })
}

fn act(sequence: u64, mood: u16) -> Output {
    Output::Act(Box::new(Action {
        id: ActionId {
            term: Term(1),
            sequence,
        },
        service: "db".into(),
        instance: InstanceId::new("db", mood),
        token: Token::default(),
        deadline: Clock::new().now() + Duration::from_millis(50),
        kind: ActionKind::Freeze,
    }))
}

async fn next(hears: &mut mpsc::UnboundedReceiver<Input>) -> Input {
    tokio::time::timeout(BOUND, hears.recv())
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn every_probe_and_action_is_answered_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut script: Vec<_> = (1..=4)
        .map(|mood| probe(u64::from(mood), "db", mood))
        .collect();
    script.push(probe(5, "other", 1));
    script.push(probe(6, "nobody's", 1));
    script.extend((1..=4).map(|mood| act(u64::from(mood), mood)));
    let (running, mut hears, _hints) = start(folder.path(), script);
    let (mut observed, mut done) = (vec![None; 7], vec![None; 5]);
    for _ in 0..10 {
        match next(&mut hears).await {
            Input::Probed { id, observation } => {
                assert_eq!(observed[id.0 as usize].replace(observation), None);
            }
            Input::Acted { id, outcome } => {
                assert_eq!(done[id.sequence as usize].replace(outcome), None);
            }
            input @ (Input::Tick
            | Input::Received { .. }
            | Input::PeerConnected { .. }
            | Input::Disconnected { .. }
            | Input::Noted { .. }
            | Input::Ask { .. }
            | Input::Stop) => panic!("{input:?}"),
        }
    }
    let failure = |failure| Some(Observation::Failure(failure));
    let rejected = |text: &str| failure(ProbeFailure::Rejected(text.into()));
    let panicked = "the adapter panicked, which is a fault of this program: please report it";
    assert_eq!(
        observed[1..],
        [
            failure(ProbeFailure::Refused),
            failure(ProbeFailure::TimedOut),
            rejected(panicked),
            rejected(panicked),
            rejected(
                "this node has no adapter for engine `unknown`: run a build that has it on every node"
            ),
            rejected("the engine of service `nobody's` is not known yet"),
        ]
    );
    let unknown = |text: &str| Some(Outcome::Unknown(text.into()));
    assert_eq!(
        done[1..],
        [
            Some(Outcome::Refused("moody".into())),
            unknown("no answer by the deadline"),
            unknown(panicked),
            unknown(panicked),
        ]
    );
    running.handle.stop().await;
    running.ended().await.unwrap();
}

#[tokio::test]
async fn what_is_shown_after_a_persist_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let entry = LogEntry {
        index: 1,
        term: 1,
        kind: 0,
        data: vec![1, 2, 3],
        context: vec![],
    };
    let hard_state = HardState {
        term: 1,
        vote: 1,
        commit: 1,
    };
    let persist = Persist {
        snapshot: None,
        entries: vec![entry.clone()],
        hard_state: Some(hard_state),
    };
    let mut shown = empty_view();
    shown.term = Term(7);
    let script = vec![Output::Persist(persist), Output::View(Arc::new(shown))];
    let (running, _hears, _hints) = start(folder.path(), script);
    let mut views = running.handle.views();
    tokio::time::timeout(BOUND, views.wait_for(|view| view.term == Term(7)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(running.handle.view().term, Term(7));
    // The disk as a crash at this instant would leave it.
    let crashed = tempfile::tempdir().unwrap();
    std::fs::create_dir(crashed.path().join("raft")).unwrap();
    for file in std::fs::read_dir(folder.path().join("raft")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(
            file.path(),
            crashed.path().join("raft").join(file.file_name()),
        )
        .unwrap();
    }
    let data = DataFolder::open(crashed.path()).unwrap();
    let (_, restored) = RaftFile::open(&data, &"main".into(), &"s1".into()).unwrap();
    assert_eq!(
        (restored.entries, restored.hard_state),
        (vec![entry], hard_state)
    );
    running.handle.stop().await;
}

#[tokio::test]
async fn hints_reach_the_machine_and_events_the_reader() {
    let folder = tempfile::tempdir().unwrap();
    let event = Event {
        service: "db".into(),
        token: Token::default(),
        primary: None,
        kind: EventKind::ServiceAdded,
    };
    let (running, mut hears, hints) = start(folder.path(), vec![]);
    hints
        .send(("db".into(), InstanceId::new("db", 9)))
        .await
        .unwrap();
    let hint = Input::Disconnected {
        service: "db".into(),
        instance: InstanceId::new("db", 9),
    };
    assert_eq!(next(&mut hears).await, hint);
    let mut events = running.handle.events();
    running.handle.board.publish(event.clone());
    assert_eq!(events.recv().await.unwrap(), event);
    for _ in 0..2000 {
        running.handle.board.publish(event.clone());
    }
    assert!(matches!(
        events.recv().await,
        Err(tokio::sync::broadcast::error::RecvError::Lagged(_))
    ));
    running.handle.stop().await;
}

#[tokio::test]
async fn a_log_that_fails_ends_the_node_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let data = vec![0; crate::codec::ENCODED_BYTES_MAX];
    let entry = LogEntry {
        index: 1,
        term: 1,
        kind: 0,
        data,
        context: vec![],
    };
    let persist = Persist {
        snapshot: None,
        entries: vec![entry],
        hard_state: None,
    };
    let (running, _hears, _hints) = start(folder.path(), vec![Output::Persist(persist)]);
    let handle = running.handle.clone();
    let error = tokio::time::timeout(BOUND, running.ended())
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, RunError::Log(_)));
    assert!(error.to_string().starts_with("a value of 16777"), "{error}");
    assert!(
        handle
            .wait_primary(&"db".into(), Default::default())
            .await
            .is_err()
    );
    // The folder is free again, and the log as it was.
    let data = DataFolder::open(folder.path()).unwrap();
    RaftFile::open(&data, &"main".into(), &"s1".into()).unwrap();
}

#[tokio::test]
async fn a_machine_that_panics_frees_everything() {
    struct Broken {
        panics: Mutex<bool>,
    }
    impl Machine for Broken {
        fn handle(&mut self, _now: Instant, _input: Input) {
            assert!(!*self.panics.lock().unwrap(), "broken");
        }
        fn poll_output(&mut self) -> Option<Output> {
            None
        }
        fn poll_timeout(&self) -> Instant {
            Instant::ORIGIN
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (inputs_in, inputs) = mpsc::channel(16);
    let (_hints, disconnects) = mpsc::channel(16);
    let (_, notes) = mpsc::channel(1);
    let clock = Clock::new();
    let board = Arc::new(Board::new(Arc::new(empty_view())));
    let local = Local::new(&settings(), Announced::default(), None);
    let driver = Driver {
        machine: Broken {
            panics: Mutex::new(true),
        },
        clock,
        inputs,
        disconnects,
        notes,
        questions: Questions::new(),
        stop: CancellationToken::new(),
        storage: Storage::new(None),
        peers: Peers::start(local, Default::default(), None, inputs_in).unwrap(),
        hands: Hands {
            clock,
            adapters: Default::default(),
            seeds: Default::default(),
            board: Arc::clone(&board),
            tasks: JoinSet::new(),
        },
        board,
    };
    let running = run(driver, DataFolder::open(folder.path()).unwrap());
    let handle = running.handle.clone();
    let error = tokio::time::timeout(BOUND, running.ended())
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("broken"), "{error}");
    tokio::time::timeout(BOUND, handle.stop()).await.unwrap();
    DataFolder::open(folder.path()).unwrap();
}
