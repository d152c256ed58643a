//! Which of many places was touched the longest ago: a list through an array, constant time.

/// Places from 0 on, in the order in which they were last touched.
#[derive(Debug, Default)]
pub(super) struct Recency {
    links: Vec<Link>,
    /// First and last of the list: touched the longest ago, and just now.
    ends: Option<(u32, u32)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Link {
    older: Option<u32>,
    newer: Option<u32>,
}

impl Recency {
    /// The place touched the longest ago.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.ends.map(|(oldest, _)| oldest)
    }

    /// Makes this place the newest. A place that is not in the list yet must be the next number.
    pub(super) fn touch(&mut self, place: u32) {
        let known = (place as usize) < self.links.len();
        debug_assert!(known || place as usize == self.links.len(), "places have no gaps");
        match self.ends {
            Some((_, newest)) if newest == place => return,
            _ if known => self.take_out(place),
            _ => self.links.push(Link::default()),
        }
        let newest = self.ends.map(|(_, newest)| newest);
        self.links[place as usize] = Link { older: newest, newer: None };
        if let Some(newest) = newest {
            self.links[newest as usize].newer = Some(place);
        }
        self.ends = Some((self.ends.map_or(place, |(oldest, _)| oldest), place));
    }

    fn take_out(&mut self, place: u32) {
        let Link { older, newer } = self.links[place as usize];
        if let Some(older) = older {
            self.links[older as usize].newer = newer;
        }
        if let Some(newer) = newer {
            self.links[newer as usize].older = older;
        }
        self.ends = self.ends.and_then(|(oldest, newest)| {
            let oldest = if oldest == place { newer? } else { oldest };
            let newest = if newest == place { older? } else { newest };
            Some((oldest, newest))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_oldest_is_that_of_a_plain_list(touches in proptest::collection::vec(0_u32..8, 1..200)) {
            let (mut recency, mut model) = (Recency::default(), Vec::<u32>::new());
            let mut known = 0;
            for touched in touches {
                let place = touched.min(known);
                known = known.max(place + 1);
                recency.touch(place);
                model.retain(|other| *other != place);
                model.push(place);
                prop_assert_eq!(recency.oldest(), model.first().copied());
            }
        }
    }
}
