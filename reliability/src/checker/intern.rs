//! Names and values as numbers: a history of millions of records must fit into memory.

use std::collections::HashMap;

/// `client:seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Value {
    pub(super) client: u32,
    pub(super) seq: u64,
}

/// The number that stands for a value which is not `client:seq`.
const NOT_A_VALUE: u64 = u64::MAX;

#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    pub(super) fn id(&mut self, name: &str) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        id
    }

    /// What was read as a value, whatever it is.
    pub(super) fn value(&mut self, text: &str) -> Value {
        match text.rsplit_once(':').and_then(|(client, seq)| Some((client, seq.parse().ok()?))) {
            Some((client, seq)) => Value { client: self.id(client), seq },
            None => Value { client: self.id(text), seq: NOT_A_VALUE },
        }
    }

    pub(super) fn name(&self, id: u32) -> &str {
        self.names.get(id as usize).map_or("?", String::as_str)
    }

    pub(super) fn show(&self, value: Value) -> String {
        match value.seq {
            NOT_A_VALUE => format!("{:?}", self.name(value.client)),
            seq => format!("{}:{seq}", self.name(value.client)),
        }
    }
}
