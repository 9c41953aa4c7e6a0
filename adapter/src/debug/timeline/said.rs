//! What breakpoints say on the way. A log point in a loop may say more than anybody reads, and more than a client takes in: of
//! what a run says, and of what a movement does, the first and the last is kept, and that something lacks is said.

use std::collections::VecDeque;

/// Bytes of a run's messages, and of a movement's, that are kept: some 50,000 and 200,000 short ones.
const OF_RUN: usize = 4 << 20;
const OF_MOVEMENT: usize = 16 << 20;
/// What a message takes beside its text.
const MESSAGE: usize = 64;
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

/// Messages as they come: the first, up to half of a number of bytes, and the last.
pub(super) struct Kept {
    half: usize,
    first: Vec<Said>,
    last: VecDeque<Said>,
    /// Bytes of `first` and `last`.
    sizes: [usize; 2],
    left_out: Option<Said>,
}

impl Kept {
    fn new(bytes: usize) -> Self {
        Self { half: bytes / 2, first: Vec::new(), last: VecDeque::new(), sizes: [0; 2], left_out: None }
    }

    pub(super) fn of_run() -> Self {
        Self::new(OF_RUN)
    }

    pub(super) fn push(&mut self, said: Said) {
        let [first, last] = &mut self.sizes;
        let size = said.text.len() + MESSAGE;
        if self.last.is_empty() && self.left_out.is_none() && *first + size <= self.half {
            *first += size;
            self.first.push(said);
            return;
        }
        *last += size;
        self.last.push_back(said);
        while *last > self.half
            && let Some(said) = self.last.pop_front()
        {
            *last -= said.text.len() + MESSAGE;
            self.left_out = Some(Said::left_out(self.left_out.as_ref().unwrap_or(&said), &said));
        }
    }

    pub(super) fn all(self) -> impl Iterator<Item = Said> {
        self.first.into_iter().chain(self.left_out).chain(self.last)
    }
}

/// The messages of a movement, in the order in which they are shown.
pub(super) fn of_movement(said: Vec<Said>) -> Vec<Said> {
    let mut kept = Kept::new(OF_MOVEMENT);
    said.into_iter().for_each(|said| kept.push(said));
    kept.all().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(tick: u64) -> Said {
        Said { window: 0, tick, until: tick, id: 1, text: tick.to_string(), failure: false }
    }

    fn kept(bytes: usize, count: u64) -> Vec<Said> {
        let mut kept = Kept::new(bytes);
        (0..count).for_each(|tick| kept.push(said(tick)));
        kept.all().collect()
    }

    #[test]
    fn the_first_and_the_last_are_kept_and_what_lacks_is_said() {
        // One digit each.
        let bytes = 6 * (MESSAGE + 1);
        let texts = |count| kept(bytes, count).into_iter().map(|said| said.text).collect::<Vec<_>>();
        assert_eq!(texts(0), [""; 0]);
        assert_eq!(texts(6), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(texts(7), ["0", "1", "2", LEFT_OUT, "4", "5", "6"]);
        assert_eq!(texts(10), ["0", "1", "2", LEFT_OUT, "7", "8", "9"]);
        let left_out = &kept(bytes, 10)[3];
        assert_eq!((left_out.tick, left_out.until), (3, 6));
    }

    #[test]
    fn a_message_longer_than_all_is_left_out() {
        let mut kept = Kept::new(2 * (MESSAGE + 1));
        for (tick, text) in [(0, "a".to_owned()), (1, "b".repeat(1000)), (2, "c".to_owned())] {
            kept.push(Said { text, ..said(tick) });
        }
        let texts: Vec<String> = kept.all().map(|said| said.text).collect();
        assert_eq!(texts, ["a", LEFT_OUT, "c"]);
    }

    #[test]
    fn a_movement_keeps_what_is_not_too_much() {
        let all = of_movement((0..50_000).map(said).collect());
        assert_eq!(all.len(), 50_000);
        let all = of_movement((0..300_000).map(said).collect());
        assert!((200_000..300_000).contains(&all.len()) && all.iter().any(|said| said.text == LEFT_OUT));
    }
}
