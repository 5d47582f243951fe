//! Every event in every state, and random interleavings against a simple model.

use super::*;

const STATES: [State; 10] = [
    State::Absent,
    State::Creating,
    State::Created,
    State::Starting,
    State::Brief,
    State::Running,
    State::Paused,
    State::Stopped,
    State::Felling,
    State::Deleting,
];

const EVENTS: [Event; 19] = [
    Event::Create,
    Event::Start,
    Event::Signal,
    Event::Exec,
    Event::Attach,
    Event::Reopen,
    Event::Update,
    Event::Pause,
    Event::Resume,
    Event::Remove,
    Event::Made,
    Event::NotMade,
    Event::Executed,
    Event::NotExecuted,
    Event::Exit,
    Event::Frozen,
    Event::Thawed,
    Event::Deleted,
    Event::NotDeleted,
];

const REQUESTS: usize = 10;

#[test]
fn the_diagram_is_the_table() {
    let mut moves = Vec::new();
    for state in STATES {
        for event in EVENTS {
            if let Ok((next, _)) = step(state, event)
                && next != state
            {
                moves.push(format!("{state:?} {event:?} {next:?}"));
            }
        }
    }
    let drawn = [
        "Absent Create Creating",
        "Creating Made Created",
        "Creating NotMade Absent",
        "Created Start Starting",
        "Created Remove Felling",
        "Created Exit Stopped",
        "Starting Executed Running",
        "Starting NotExecuted Created",
        "Starting Exit Brief",
        "Brief Executed Stopped",
        "Brief NotExecuted Stopped",
        "Running Exit Stopped",
        "Running Frozen Paused",
        "Paused Exit Stopped",
        "Paused Thawed Running",
        "Stopped Remove Deleting",
        "Felling Exit Deleting",
        "Felling Deleted Absent",
        "Felling NotDeleted Created",
        "Deleting Deleted Absent",
        "Deleting NotDeleted Stopped",
    ];
    assert_eq!(moves, drawn);
}

#[test]
fn a_request_is_performed_joined_or_refused_with_a_reason() {
    for state in STATES {
        for event in &EVENTS[..REQUESTS] {
            match step(state, *event) {
                Ok((_, effects)) => assert!(
                    matches!(effects, [Effect::Perform] | [Effect::Join]),
                    "{state:?} {event:?} {effects:?}"
                ),
                Err(why) => assert!(!why.is_empty()),
            }
        }
    }
}

#[test]
fn nothing_is_asked_of_what_has_ended_but_its_removal() {
    for state in [State::Stopped, State::Brief, State::Deleting] {
        for event in [Event::Signal, Event::Exec, Event::Attach, Event::Reopen, Event::Update, Event::Start] {
            assert!(step(state, event).is_err(), "{state:?} {event:?}");
        }
    }
}

/// What the world could be like: knows processes and running `rt`s, not the table.
#[derive(Debug, Default)]
struct World {
    /// `rt` that is under way: what it will say if it succeeds, and if it fails.
    under_way: Vec<(Event, Event)>,
    alive: bool,
    ended: bool,
    told: Vec<News>,
}

impl World {
    /// What can be seen next.
    fn possible(&self) -> Vec<Event> {
        let mut events: Vec<_> = self.under_way.iter().flat_map(|(yes, no)| [*yes, *no]).collect();
        if self.alive {
            events.push(Event::Exit);
        }
        events
    }

    fn apply(&mut self, event: Event, effects: &[Effect]) {
        self.under_way.retain(|(yes, no)| *yes != event && *no != event);
        match event {
            Event::Made => self.alive = true,
            Event::Exit => (self.alive, self.ended) = (false, true),
            Event::Deleted => self.alive = false,
            _ => {}
        }
        for effect in effects {
            match effect {
                Effect::Perform => self.under_way.extend(match event {
                    Event::Create => Some((Event::Made, Event::NotMade)),
                    Event::Start => Some((Event::Executed, Event::NotExecuted)),
                    Event::Remove => Some((Event::Deleted, Event::NotDeleted)),
                    // rt says these only if they came true.
                    Event::Pause => Some((Event::Frozen, Event::Frozen)),
                    Event::Resume => Some((Event::Thawed, Event::Thawed)),
                    _ => None,
                }),
                Effect::Tell(news) => self.told.push(*news),
                Effect::Forget => *self = Self::default(),
                Effect::Join => {}
            }
        }
    }

    fn check(&self, state: State) {
        let states: &[State] = match (self.alive, self.ended) {
            (true, _) => &[State::Created, State::Starting, State::Running, State::Paused, State::Felling],
            (false, true) => &[State::Brief, State::Stopped, State::Deleting],
            (false, false) => &[State::Absent, State::Creating],
        };
        assert!(states.contains(&state), "{state:?} {self:?}");
        let count = |news| self.told.iter().filter(|told| **told == news).count();
        assert!(count(News::Created) <= 1 && count(News::Started) <= 1 && count(News::Exited) <= 1);
        let at = |news| self.told.iter().position(|told| *told == news);
        assert!(at(News::Exited).is_none_or(|end| at(News::Started).is_none_or(|start| start < end)));
        let reported = self.told.contains(&News::Exited);
        assert_eq!(reported, self.ended && state != State::Brief, "{state:?} {self:?}");
    }
}

/// xorshift64*
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

#[test]
fn any_order_of_requests_and_happenings_keeps_the_truth() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20_000 {
        let (mut state, mut world) = (State::Absent, World::default());
        for _ in 0..30 {
            let mut events = world.possible();
            events.extend(&EVENTS[..REQUESTS]);
            let event = events[dice.below(events.len())];
            let possible = world.possible().contains(&event);
            match step(state, event) {
                Ok((next, effects)) => {
                    seen.insert((state, event));
                    world.apply(event, effects);
                    state = next;
                }
                // A pause asked for twice, or before a resume was through: what comes second changes nothing.
                Err(_) if matches!(event, Event::Frozen | Event::Thawed) => world.apply(event, &[]),
                Err(why) => assert!(!possible, "{state:?} can't take {event:?}: {why}; {world:?}"),
            }
            world.check(state);
        }
    }
    let all = STATES.iter().flat_map(|state| EVENTS.map(|event| (*state, event)));
    let missed: Vec<_> = all.filter(|(s, e)| step(*s, *e).is_ok() && !seen.contains(&(*s, *e))).collect();
    assert!(missed.iter().all(|(_, event)| matches!(event, Event::Frozen | Event::Thawed)), "{missed:?}");
}
