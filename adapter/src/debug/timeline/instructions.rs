//! Steps back by instructions.

use retrace_replay::debug_protocol::{Before, Find, Found, Goal, Report, Run};

use super::{Position, StepKind, Timeline};
use crate::debug::engine::{Result, message};

impl Timeline {
    /// Steps back to an instruction. False where there is nothing before.
    pub fn step_back_instruction(&mut self, kind: StepKind, thread: u32, mine_only: bool) -> Result<bool> {
        self.complete()?;
        let present = self.present()?;
        let (from, at) = (present.position(), present.at.clone());
        let change = kind.change();
        let mut depth = match () {
            _ if thread != at.thread => Some(u32::MAX),
            _ if at.raise > 0 || at.instruction > 0 => Some(at.depth.saturating_add_signed(change.min(0))),
            _ => None,
        };
        let mut to = Some((from.tick, from.raise, from.instruction));
        for window in (0..=from.window).rev() {
            // The last line of the thread, which may be of a call that has ended meanwhile; then the one in reach.
            let behind = to.map(|(tick, raise, instruction)| tick + u64::from(raise > 0 || instruction > 0));
            for (depth_of_line, change_of_line) in [(None, 1), (depth, change)] {
                let find = Find::Back {
                    thread: Some(thread),
                    before: behind,
                    depth: depth_of_line,
                    change: change_of_line,
                    mine_only: mine_only && change_of_line != 1,
                    generators: Vec::new(),
                    leaves: 0,
                };
                let base = self.find(window, find)?.tick.unwrap_or(0);
                let before = Before { from: base, to, thread, depth, change, mine_only };
                let found = self.find_before(window, before)?;
                if let Some(tick) = found.tick {
                    self.go_to(Position { window, tick, raise: 0, instruction: found.instruction })?;
                    return Ok(true);
                }
                if base == 0 {
                    (to, depth) = (None, found.depth);
                    break;
                }
            }
            if to.is_some() {
                (to, depth) = (
                    None,
                    self.find(
                        window,
                        Find::Back {
                            thread: Some(thread),
                            before: behind,
                            depth,
                            change,
                            mine_only,
                            generators: Vec::new(),
                            leaves: 0,
                        },
                    )?
                    .depth,
                );
            }
        }
        Ok(false)
    }

    fn find_before(&mut self, window: usize, before: Before) -> Result<Found> {
        let copies = &self.windows[window].copies;
        let near = copies.iter().filter(|copy| copy.tick <= before.from).max_by_key(|copy| copy.tick);
        let from = near.unwrap_or(&self.windows[window].checkpoint);
        let run = Run { until: self.until(window), goal: Goal::Before(before), leave: Vec::new(), record: false };
        let process = self.engine.run(from, run)?;
        match self.outcome(window, &process)? {
            Report::Found(found) => Ok(found),
            _ => message("the replay does not answer"),
        }
    }
}
