//! A list of what there may be too many of.

/// Of any number of items at most so many, one of so many each: where there are too many, each other one is let go.
#[derive(Debug)]
pub struct Thinned<T> {
    list: Vec<T>,
    most: usize,
    /// One of so many is taken.
    every: usize,
    seen: usize,
}

impl<T> Thinned<T> {
    /// A list of at most so many, at least two.
    pub fn new(most: usize) -> Thinned<T> {
        Thinned { list: Vec::new(), most, every: 1, seen: 0 }
    }

    /// One more, which is made only where it is taken.
    pub fn push(&mut self, item: impl FnOnce() -> T) {
        if self.seen.is_multiple_of(self.every) {
            if self.list.len() >= self.most {
                let mut place = 0;
                self.list.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
                self.every *= 2;
            }
            self.list.push(item());
        }
        self.seen += 1;
    }

    /// Takes what has been kept.
    pub fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.list)
    }
}
