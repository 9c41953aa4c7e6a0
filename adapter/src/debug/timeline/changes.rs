//! Changes of watched values of which not every one is to be stopped at. Which ones are depends on all changes before, and
//! a condition can be asked only where the change is seen: a window's search has to begin with what the one before it left.
//! That is found out once, window by window from the first.

use retrace_replay::debug_protocol::Stops;

use super::Timeline;
use crate::debug::engine::Result;

/// Watched values where a window begins.
#[derive(Clone)]
pub struct Watched {
    /// What each was last.
    pub texts: Vec<Option<String>>,
    /// How often each has changed.
    pub hits: Vec<u64>,
}

impl Watched {
    pub fn put_into(&self, stops: &mut Stops) {
        stops.hits.resize(stops.places() - stops.watches.len(), 0);
        stops.hits.extend(&self.hits);
        for (watch, text) in stops.watches.iter_mut().zip(&self.texts) {
            watch.text.clone_from(text);
        }
    }
}

/// The watched values alone, of which all changes count where the condition is true.
pub fn watching(stops: &Stops) -> Stops {
    let mut watching = Stops { watches: stops.watches.clone(), ..Stops::default() };
    for watch in &mut watching.watches {
        (watch.hits, watch.text) = (None, None);
    }
    watching
}

impl Timeline {
    /// The watched values at the beginning of each window up to one; nothing where all their changes are alike.
    pub(super) fn watched_at_windows(&mut self, window: usize, stops: &Stops) -> Result<Vec<Watched>> {
        if stops.watches.iter().all(|watch| watch.condition.is_none() && watch.hits.is_none()) {
            return Ok(Vec::new());
        }
        let counting = watching(stops);
        let key = serde_json::to_string(&counting).unwrap_or_default();
        let known = self.tallies.watched.take().filter(|(other, _)| *other == key);
        let count = counting.watches.len();
        let (_, mut known) =
            known.unwrap_or_else(|| (String::new(), vec![Watched { texts: vec![None; count], hits: vec![0; count] }]));
        let mut result = Ok(());
        while known.len() <= window && result.is_ok() {
            let last = known.len() - 1;
            let mut counting = counting.clone();
            known[last].put_into(&mut counting);
            result = self.run_to_end_of(last, counting).map(|found| {
                known.push(Watched { texts: found.last_watched, hits: found.hits });
            });
            self.has_done(last + 1, window);
        }
        let up_to = known.iter().take(window + 1).cloned().collect();
        self.tallies.watched = Some((key, known));
        result.map(|()| up_to)
    }
}
