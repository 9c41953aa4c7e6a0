//! Which generator or coroutine is which, from window to window: what a number or an address means in one run means nothing in
//! another window's. The checkpoint between two windows has the same generators as the end of the earlier one's run, and the
//! collector has them in the same order.

use std::collections::BTreeMap;

use retrace_replay::debug_protocol::{Command, Find, Generator, InWindow, Report, Stops};

use super::{Timeline, all_generators};
use crate::debug::engine::{Cancel, Result, message};

/// What a generator is in some windows in a row.
pub type Lineage = BTreeMap<usize, Generator>;

impl Timeline {
    /// The generator whose frame one of a thread's is at the present; none where it is a function's.
    pub fn generator_of(&mut self, thread: u32, depth: u32) -> Result<Option<InWindow>> {
        let present = self.present()?;
        present.process.send(&Command::Find(Find::GeneratorOf { thread, depth }))?;
        match present.process.receive(&Cancel::default())? {
            Report::Found(found) => Ok(found.generator.map(|is| InWindow { window: present.window, is })),
            _ => message("the replay does not answer"),
        }
    }

    /// Has what is watched know its generators, in a run through a window.
    pub(super) fn place_generators(&mut self, window: usize, stops: &mut Stops) -> Result<()> {
        for frame in stops.watches.iter_mut().filter_map(|watch| watch.frame.as_mut()) {
            frame.here = match frame.generator {
                Some(known) => Some(self.generator_in(window, known)?),
                None => None,
            };
        }
        Ok(())
    }

    fn generator_in(&mut self, window: usize, known: InWindow) -> Result<Generator> {
        let is_its = |lineage: &Lineage| lineage.get(&known.window) == Some(&known.is);
        let place = self.lineages.iter().position(is_its).unwrap_or_else(|| {
            self.lineages.push(Lineage::from([(known.window, known.is)]));
            self.lineages.len() - 1
        });
        loop {
            let lineage = &self.lineages[place];
            if let Some(is) = lineage.get(&window) {
                return Ok(*is);
            }
            let ends = lineage.first_key_value().zip(lineage.last_key_value());
            let Some(((first, at_first), (last, at_last))) = ends else { return Ok(Generator::Gone) };
            let (next, is) = match window < *first {
                true => (first - 1, self.generator_before(*first, *at_first)?),
                false => (last + 1, self.generator_behind(*last, *at_last)?),
            };
            self.lineages[place].insert(next, is);
        }
    }

    /// What a generator was in the window before.
    fn generator_before(&mut self, window: usize, is: Generator) -> Result<Generator> {
        let Generator::There(frame) = is else { return Ok(Generator::Gone) };
        let all = all_generators(&self.windows[window].checkpoint)?;
        let Some(place) = all.iter().position(|other| *other == frame) else { return Ok(Generator::Gone) };
        let found = self.find(window - 1, Find::GeneratorAt { place, of: all.len() })?;
        Ok(found.generator.unwrap_or(Generator::Gone))
    }

    /// What it is in the window that follows.
    fn generator_behind(&mut self, window: usize, is: Generator) -> Result<Generator> {
        if is == Generator::Gone {
            return Ok(is);
        }
        let Some((place, of)) = self.find(window, Find::PlaceOf(is))?.place else { return Ok(Generator::Gone) };
        let all = all_generators(&self.windows[window + 1].checkpoint)?;
        let frame = all.get(place).filter(|_| all.len() == of);
        Ok(frame.map_or(Generator::Gone, |frame| Generator::There(*frame)))
    }
}
