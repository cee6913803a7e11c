//! The session state that statements are planned with: DataFusion with our types, functions and settings.

use std::sync::{Arc, OnceLock};

use datafusion::execution::session_state::SessionState;
use parking_lot::Mutex;

use crate::sql::BindContext;
use crate::sql::semantics;

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
    let state = Arc::new(semantics::session_state(&context.time_zone).build());
    if states.len() == STATES_MAX {
        states.remove(0);
    }
    states.push((key, state.clone()));
    state
}
