//! How often breakpoints were hit, and where: found out window by window, and kept while the breakpoints stay the same.

use std::collections::VecDeque;

use retrace_replay::debug_protocol::{Goal, Report, Run, Stopped, Stops, Window};

use super::changes::{Watched, watching};
use super::{Position, Stretch, Timeline};
use crate::debug::engine::{Result, message};

/// What is known of some breakpoints in each window.
struct Tally {
    /// The breakpoints.
    key: String,
    windows: Vec<Option<(Vec<u64>, Vec<Stopped>)>>,
}

/// Hits counted, and hits listed.
#[derive(Default)]
pub struct Tallies {
    counted: Option<Tally>,
    listed: Option<Tally>,
    pub(super) watched: Option<(String, Vec<Watched>)>,
}

/// The breakpoints alone, without what they say.
fn bare(stops: &Stops, with_hits: bool, list: bool) -> Stops {
    let mut bare =
        Stops { breakpoints: stops.breakpoints.clone(), functions: stops.functions.clone(), list, ..Stops::default() };
    for breakpoint in &mut bare.breakpoints {
        (breakpoint.log, breakpoint.hits) = (None, breakpoint.hits.filter(|_| with_hits));
    }
    for function in &mut bare.functions {
        function.hits = function.hits.filter(|_| with_hits);
    }
    bare
}

fn wants_counts(stops: &Stops) -> bool {
    stops.breakpoints.iter().any(|b| b.hits.is_some()) || stops.functions.iter().any(|f| f.hits.is_some())
}

impl Timeline {
    /// How often each breakpoint has been hit before each window up to one; nothing where none of them wants to know.
    pub(super) fn hits_at_windows(&mut self, window: usize, stops: &Stops) -> Result<Vec<Vec<u64>>> {
        if !wants_counts(stops) {
            return Ok(Vec::new());
        }
        let counting = bare(stops, false, false);
        let tally = self.tallies.counted.take();
        let mut tally = self.tally(tally, &counting);
        let result = self.run_through(&mut tally, 0..window, |_| counting.clone(), &|| false);
        let mut sums = vec![vec![0; stops.breakpoints.len() + stops.functions.len()]];
        for known in tally.windows.iter().take(window).flatten() {
            let last = &sums[sums.len() - 1];
            sums.push(last.iter().zip(&known.0).map(|(sum, hits)| sum + hits).collect());
        }
        self.tallies.counted = Some(tally);
        result?;
        Ok(sums)
    }

    /// Has stops know how often each has been hit up to a position, and at it.
    pub(super) fn count_until(&mut self, position: Option<Position>, stops: &mut Stops) -> Result<()> {
        let Some(position) = position else { return Ok(()) };
        let inside = if position.raise > 0 { u32::MAX } else { position.instruction + 1 };
        let until = |counting| Stops { before: Some(position.tick), before_instruction: inside, ..counting };
        if wants_counts(stops) {
            let before = self.hits_at_windows(position.window, stops)?.pop().unwrap_or_default();
            let counting = Stops { hits: before, ..bare(stops, false, false) };
            stops.hits = self.run_to_end_of(position.window, until(counting))?.hits;
        }
        if let Some(begin) = self.watched_at_windows(position.window, stops)?.pop() {
            let mut counting = watching(stops);
            begin.put_into(&mut counting);
            let found = self.run_to_end_of(position.window, until(counting))?;
            Watched { texts: found.last_watched, hits: found.hits }.put_into(stops);
        }
        Ok(())
    }

    /// Where breakpoints are hit, as far as that is known: `is_busy` ends the search. Many are thinned evenly.
    pub fn list_hits(&mut self, stops: &Stops, is_busy: &dyn Fn() -> bool) -> Result<Vec<(usize, Stopped)>> {
        if stops.breakpoints.is_empty() && stops.functions.is_empty() {
            return Ok(Vec::new());
        }
        self.complete()?;
        let all = self.windows.len();
        let begins = self.hits_at_windows(all, stops)?;
        let listing = bare(stops, true, true);
        let tally = self.tallies.listed.take();
        let mut tally = self.tally(tally, &listing);
        let of_window =
            |window: usize| Stops { hits: begins.get(window).cloned().unwrap_or_default(), ..listing.clone() };
        let result = self.run_through(&mut tally, 0..all, of_window, is_busy);
        let known = tally.windows.iter().enumerate().filter_map(|(window, known)| Some((window, known.as_ref()?)));
        let hits = known.flat_map(|(window, (_, hits))| hits.iter().map(move |hit| (window, hit.clone()))).collect();
        self.tallies.listed = Some(tally);
        result?;
        Ok(hits)
    }

    /// Looks where exceptions were raised, for [`Timeline::raised`]: `is_busy` ends the search.
    pub fn look_for_raised(&mut self, is_busy: &dyn Fn() -> bool) -> Result<()> {
        self.complete()?;
        let known = |stretch: &Stretch| stretch.knows_raised.then(Default::default);
        let mut tally = Tally { key: String::new(), windows: self.windows.iter().map(known).collect() };
        self.run_through(&mut tally, 0..self.windows.len(), |_| Stops::default(), is_busy)
    }

    fn tally(&self, earlier: Option<Tally>, stops: &Stops) -> Tally {
        let key = serde_json::to_string(stops).unwrap_or_default();
        match earlier {
            Some(tally) if tally.key == key => tally,
            _ => Tally { key, windows: self.windows.iter().map(|_| None).collect() },
        }
    }

    /// Runs through the windows that are not known yet, several at a time.
    fn run_through(
        &mut self,
        tally: &mut Tally,
        range: std::ops::Range<usize>,
        stops: impl Fn(usize) -> Stops,
        is_busy: &dyn Fn() -> bool,
    ) -> Result<()> {
        let all = range.len();
        let mut wanted = range.filter(|window| tally.windows[*window].is_none()).collect::<VecDeque<_>>();
        let mut running = VecDeque::new();
        while !is_busy() {
            while let (true, Some(window)) = (running.len() < self.at_a_time, wanted.front()) {
                let window = *window;
                let run = Run {
                    until: self.until(window),
                    goal: Goal::Last(stops(window)),
                    leave: Vec::new(),
                    record: false,
                };
                running.push_back((window, self.engine.run(&self.windows[window].checkpoint, run)?));
                wanted.pop_front();
            }
            let Some((window, process)) = running.pop_front() else { return Ok(()) };
            let said = self.said.len();
            let Report::Window(found) = self.outcome(window, &process)? else {
                return message("the replay does not answer");
            };
            // Conditions that fail say so when one goes there.
            self.said.truncate(said);
            self.warn(window, &found);
            self.note_raised(window, &found);
            self.has_done(all - wanted.len() - running.len(), all);
            tally.windows[window] = Some((found.hits, found.stops));
        }
        Ok(())
    }

    pub(super) fn run_to_end_of(&mut self, window: usize, mut stops: Stops) -> Result<Window> {
        self.place_generators(window, &mut stops)?;
        let run = Run { until: self.until(window), goal: Goal::Last(stops), leave: Vec::new(), record: false };
        let process = self.engine.run(&self.windows[window].checkpoint, run)?;
        let said = self.said.len();
        let Report::Window(found) = self.outcome(window, &process)? else {
            return message("the replay does not answer");
        };
        self.said.truncate(said);
        self.warn(window, &found);
        Ok(*found)
    }
}
