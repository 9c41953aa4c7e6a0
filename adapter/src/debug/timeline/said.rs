//! What breakpoints say on the way. A log point in a loop says more than anybody reads, and more than a client takes in: of
//! what a run says, and of what a movement does, the first and the last is kept, and that something lacks is said.

use std::collections::VecDeque;

/// Messages of a run, and of a movement, that are kept.
const OF_RUN: usize = 4_000;
const OF_MOVEMENT: usize = 10_000;
const LEFT_OUT: &str = "retrace: what breakpoints say is too much: some of it is left out here";

/// A message, and at which line. One that stands for what is left out stands for lines up to `until`.
#[derive(Clone)]
pub struct Said {
    pub(super) window: usize,
    pub(super) tick: u64,
    pub(super) until: u64,
    pub id: i64,
    pub text: String,
    pub failure: bool,
}

impl Said {
    fn left_out(first: &Said, last: &Said) -> Said {
        Said { until: last.until, id: 0, text: LEFT_OUT.to_owned(), failure: false, ..first.clone() }
    }
}

/// The messages of a run, as they come.
#[derive(Default)]
pub(super) struct OfRun {
    first: Vec<Said>,
    last: VecDeque<Said>,
    left_out: Option<Said>,
}

impl OfRun {
    pub(super) fn push(&mut self, said: Said) {
        if self.first.len() < OF_RUN / 2 {
            self.first.push(said);
            return;
        }
        self.last.push_back(said);
        if self.last.len() > OF_RUN / 2
            && let Some(said) = self.last.pop_front()
        {
            self.left_out = Some(Said::left_out(self.left_out.as_ref().unwrap_or(&said), &said));
        }
    }

    pub(super) fn all(self) -> impl Iterator<Item = Said> {
        self.first.into_iter().chain(self.left_out).chain(self.last)
    }
}

/// The messages of a movement, in the order in which they are shown.
pub(super) fn of_movement(mut said: Vec<Said>) -> Vec<Said> {
    if said.len() > OF_MOVEMENT {
        let end = said.split_off(said.len() - OF_MOVEMENT / 2);
        let left_out = said.drain(OF_MOVEMENT / 2..).collect::<Vec<_>>();
        if let [first, .., last] = &*left_out {
            said.push(Said::left_out(first, last));
        }
        said.extend(end);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(tick: u64) -> Said {
        Said { window: 0, tick, until: tick, id: 1, text: tick.to_string(), failure: false }
    }

    #[test]
    fn the_first_and_the_last_are_kept_and_what_lacks_is_said() {
        for count in [0, 1, OF_RUN as u64, OF_RUN as u64 + 1, 5 * OF_RUN as u64] {
            let mut run = OfRun::default();
            (0..count).for_each(|tick| run.push(said(tick)));
            let all: Vec<Said> = run.all().collect();
            let texts: Vec<&str> = all.iter().map(|said| &*said.text).collect();
            let half = OF_RUN as u64 / 2;
            let mut wanted: Vec<String> = (0..count.min(half)).map(|tick| tick.to_string()).collect();
            if count > OF_RUN as u64 {
                wanted.push(LEFT_OUT.to_owned());
                assert_eq!((all[half as usize].tick, all[half as usize].until), (half, count - half - 1));
            }
            wanted.extend((half.max(count.saturating_sub(half))..count).map(|tick| tick.to_string()));
            assert_eq!(texts, wanted);
        }
        let all = of_movement((0..3 * OF_MOVEMENT as u64).map(said).collect());
        assert_eq!(all.len(), OF_MOVEMENT + 1);
        assert_eq!((&*all[OF_MOVEMENT / 2].text, all[OF_MOVEMENT].tick), (LEFT_OUT, 3 * OF_MOVEMENT as u64 - 1));
        assert_eq!(of_movement(all[..5].to_vec()).len(), 5);
    }
}
