//! Changes of watched values of which not every one is to be stopped at. Which ones are depends on all changes before, and
//! a condition can be asked only where the change is seen: a window's search has to begin with what the one before it left.
//! That is found out once, window by window from the first.

use retrace_replay::debug_protocol::{Cause, Stopped, Stops, Window, shown};

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
        if let Some(frame) = &mut watch.frame {
            frame.here = None;
        }
    }
    watching
}

/// A watched value that changed between a window's end and the first tick of a later one where it has a meaning.
pub(super) fn changed_between(
    stops: &Stops,
    later: &[Option<(usize, Stopped, String)>],
    earlier: &Window,
) -> Option<(usize, Stopped, Cause)> {
    stops.watches.iter().zip(later).zip(&earlier.last_watched).find_map(|((watch, later), before)| {
        let ((window, at, after), before) = (later.as_ref()?, before.as_ref()?);
        let change = Cause::Change { id: watch.id, before: shown(before).to_owned(), after: shown(after).to_owned() };
        (before != after).then(|| (*window, at.clone(), change))
    })
}

impl Timeline {
    /// How a watched value has changed just before the present.
    pub fn change_at_present(&mut self, mut stops: Stops) -> Result<Option<Cause>> {
        self.complete()?;
        let here = self.present()?.position();
        let watched = self.watched_at_windows(here.window, &stops)?;
        stops.before = Some(here.tick + 1);
        let mut first_here = Vec::new();
        for window in (0..=here.window).rev() {
            if let Some(watched) = watched.get(window) {
                watched.put_into(&mut stops);
            }
            let found = self.run_to_end_of(window, stops.clone())?;
            stops.before = None;
            if window == here.window {
                if let Some(last) = found.last.filter(|last| last.tick == here.tick) {
                    return Ok(Some(last.cause));
                }
                // What has a value here for the first time in this window may have had another one in those before.
                let first = found.first_watched.into_iter().zip(found.begun_watched);
                let first = first.map(|(first, begun)| first.filter(|(at, _)| at.tick == here.tick && !begun));
                first_here = first.map(|first| first.map(|(at, text)| (window, at, text))).collect();
            } else if let Some((.., cause)) = changed_between(&stops, &first_here, &found) {
                return Ok(Some(cause));
            } else {
                for (first, last) in first_here.iter_mut().zip(&found.last_watched) {
                    *first = first.take().filter(|_| last.is_none());
                }
            }
            if !watched.is_empty() || first_here.iter().all(Option::is_none) {
                break;
            }
        }
        Ok(None)
    }

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
