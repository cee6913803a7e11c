//! The session state that statements are planned with: DataFusion with our types, functions and settings.

use std::sync::{Arc, OnceLock};

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;

use crate::functions;
use crate::sql::BindContext;

/// How many states are kept. A state is expensive to make and depends on little.
const STATES_MAX: usize = 16;

/// The states made so far, by time zone and user.
type States = Mutex<Vec<((String, String), Arc<SessionState>)>>;

/// The state for a session's time zone and user.
pub fn session_state(context: &BindContext) -> Arc<SessionState> {
    static STATES: OnceLock<States> = OnceLock::new();
    let mut states = STATES.get_or_init(Default::default).lock();
    let key = (context.time_zone.clone(), context.user.clone());
    if let Some((_, state)) = states.iter().find(|(k, _)| *k == key) {
        return state.clone();
    }
    let mut state = builder(&context.time_zone, &context.user).build();
    functions::assign::register(&mut state).expect("functions can be registered");
    functions::window::register(&mut state).expect("functions can be registered");
    let state = Arc::new(state);
    if states.len() == STATES_MAX {
        states.remove(0);
    }
    states.push((key, state.clone()));
    state
}

fn builder(_time_zone: &str, _user: &str) -> SessionStateBuilder {
    let mut config = SessionConfig::new();
    let options = config.options_mut();
    options.execution.time_zone = Some("UTC".into());
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    SessionStateBuilder::new().with_default_features().with_config(config)
}
