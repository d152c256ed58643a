//! The task handler: how far each task is, what it is doing, when it will be done.
//!
//! An estimated completion that the task reports stands until it is older than the last progress
//! without one; then, and without any, it is drawn on as a line from the first progress to the last.

use std::collections::HashMap;

use weir_protocol::types::TimestampMs;

use crate::events::{Checked, Id};

/// Tasks kept unless set otherwise; beyond, the one that ended or moved longest ago goes.
pub const TASKS_MAX: usize = 10_000;

/// Bytes kept of a task's name, step and result: an event may bring a megabyte of each.
const TEXT_BYTES_MAX: usize = 512;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Made, nothing done yet.
    Created,
    /// Under way.
    Running,
    /// Over.
    Completed,
}

impl TaskState {
    /// For JSON and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Completed => "completed",
        }
    }
}

/// One task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRecord {
    /// Its id, as written.
    pub task_id: Id<'static>,
    /// Who does it.
    pub drone_id: Option<Id<'static>>,
    /// What people call it.
    pub name: Option<String>,
    /// Where it stands.
    pub state: TaskState,
    /// Percent done.
    pub progress: f64,
    /// What is being done.
    pub current_step: Option<String>,
    /// How it ended.
    pub result: Option<String>,
    /// Event time of the first event about it.
    pub created: TimestampMs,
    /// Event time of the last.
    pub updated: TimestampMs,
    /// When it will be done, or was.
    pub completion: Option<TimestampMs>,
    /// Whether the task said so itself, or it is drawn on here.
    pub completion_is_reported: bool,
    /// First progress of the line.
    started: Option<(TimestampMs, f64)>,
}

/// A task that an event changed.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskChange {
    /// The task as it is now.
    pub task: TaskRecord,
    /// Where it stood before; `None`: it is new.
    pub before: Option<TaskState>,
}

/// All tasks.
#[derive(Debug)]
pub struct TaskBook {
    tasks: HashMap<String, TaskRecord>,
    tasks_max: usize,
}

impl Default for TaskBook {
    fn default() -> Self {
        Self::with_tasks_max(TASKS_MAX)
    }
}

impl TaskBook {
    /// Without tasks, and [`TASKS_MAX`] of them at most.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without tasks, and so many of them at most.
    ///
    /// # Panics
    /// If `tasks_max` is 0.
    pub fn with_tasks_max(tasks_max: usize) -> Self {
        assert!(tasks_max > 0, "a task book needs room for a task");
        Self { tasks: HashMap::new(), tasks_max }
    }

    /// Takes one event of `task-events`. An event older than the task's last, or of a task that is
    /// over, changes nothing; so does every other type.
    pub fn handle(&mut self, event: &Checked<'_>, at: TimestampMs) -> Option<TaskChange> {
        let (task_id, drone_id) = match event {
            Checked::TaskCreated(e) => (&e.task_id, e.drone_id.as_ref()),
            Checked::TaskProgress(e) => (&e.task_id, Some(&e.drone_id)),
            Checked::TaskCompleted(e) => (&e.task_id, e.drone_id.as_ref()),
            _ => return None,
        };
        let key = task_id.to_string();
        let before = self.tasks.get(&key).map(|task| task.state);
        if before.is_none() {
            self.make_room();
        }
        let task = self.tasks.entry(key).or_insert_with(|| TaskRecord::new(task_id, at));
        if at < task.updated || task.state == TaskState::Completed {
            return None;
        }
        task.updated = at;
        if let Some(drone) = drone_id {
            task.drone_id = Some(drone.clone().into_owned());
        }
        task.apply(event, at);
        Some(TaskChange { task: task.clone(), before })
    }

    /// One task.
    pub fn get(&self, task_id: &str) -> Option<&TaskRecord> {
        self.tasks.get(task_id)
    }

    /// Every task, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &TaskRecord> {
        self.tasks.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    fn make_room(&mut self) {
        if self.tasks.len() < self.tasks_max {
            return;
        }
        let oldest = self
            .tasks
            .iter()
            .min_by_key(|(_, task)| (task.state != TaskState::Completed, task.updated))
            .map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.tasks.remove(&key);
        }
    }
}

impl TaskRecord {
    fn new(task_id: &Id<'_>, at: TimestampMs) -> Self {
        Self {
            task_id: task_id.clone().into_owned(),
            drone_id: None,
            name: None,
            state: TaskState::Created,
            progress: 0.0,
            current_step: None,
            result: None,
            created: at,
            updated: at,
            completion: None,
            completion_is_reported: false,
            started: None,
        }
    }

    fn apply(&mut self, event: &Checked<'_>, at: TimestampMs) {
        match event {
            Checked::TaskCreated(e) => {
                self.name = e.name.as_deref().map(start_of);
                self.report(e.estimated_completion.map(|time| time.0));
            }
            Checked::TaskProgress(e) => {
                self.state = TaskState::Running;
                self.progress = e.progress.get();
                if let Some(step) = &e.current_step {
                    self.current_step = Some(start_of(step));
                }
                match e.estimated_completion {
                    Some(time) => self.report(Some(time.0)),
                    None => self.estimate(at),
                }
            }
            Checked::TaskCompleted(e) => {
                self.state = TaskState::Completed;
                self.result = e.result.as_deref().map(start_of);
                // A task that was broken off keeps the progress it had.
                if self.result.as_deref().is_none_or(|result| result == "done") {
                    self.progress = 100.0;
                }
                self.completion = Some(at);
                self.completion_is_reported = true;
            }
            _ => {}
        }
    }

    fn report(&mut self, completion: Option<TimestampMs>) {
        if completion.is_some() {
            self.completion = completion;
            self.completion_is_reported = true;
        }
    }

    /// A line through the first progress and this one.
    fn estimate(&mut self, at: TimestampMs) {
        let (from, progress) = *self.started.get_or_insert((at, self.progress));
        let gained = self.progress - progress;
        let elapsed_ms = at.since(from);
        if gained > 0.0 && elapsed_ms > 0 {
            let left_ms = (100.0 - self.progress) / gained * elapsed_ms as f64;
            self.completion = Some(at.plus_ms(left_ms.round() as i64));
            self.completion_is_reported = false;
        }
    }
}

fn start_of(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::validate;

    fn give(book: &mut TaskBook, at: i64, event_type: &str, data: &str) -> Option<TaskChange> {
        book.handle(&validate(event_type, data).unwrap(), TimestampMs(at))
    }

    #[test]
    fn a_task_goes_from_created_to_completed() {
        let mut book = TaskBook::new();
        let change =
            give(&mut book, 0, "task.created", r#"{"task_id":123,"name":"巡检"}"#).unwrap();
        assert_eq!((change.before, change.task.state), (None, TaskState::Created));
        let change = give(
            &mut book,
            10,
            "task.progress",
            r#"{"task_id":123,"drone_id":1,"progress":75,"current_step":"巡检点位3",
                "estimated_completion":"2025-08-03T11:00:00Z"}"#,
        )
        .unwrap();
        assert_eq!(change.before, Some(TaskState::Created));
        assert_eq!(change.task.current_step.as_deref(), Some("巡检点位3"));
        assert_eq!(change.task.completion, Some(TimestampMs(1_754_218_800_000)));
        assert!(change.task.completion_is_reported);
        let change =
            give(&mut book, 20, "task.completed", r#"{"task_id":123,"result":"done"}"#).unwrap();
        assert_eq!((change.task.state, change.task.progress), (TaskState::Completed, 100.0));
        let late = r#"{"task_id":123,"drone_id":1,"progress":80}"#;
        assert_eq!(give(&mut book, 30, "task.progress", late), None, "it is over");
    }

    #[test]
    fn long_texts_of_a_task_are_kept_in_part_only() {
        let mut book = TaskBook::new();
        let long = "\u{5de1}".repeat(1_000);
        give(&mut book, 0, "task.created", &format!(r#"{{"task_id":1,"name":"{long}"}}"#));
        let data = format!(r#"{{"task_id":1,"drone_id":1,"progress":5,"current_step":"{long}"}}"#);
        let task = give(&mut book, 1, "task.progress", &data).unwrap().task;
        for text in [task.name.unwrap(), task.current_step.unwrap()] {
            assert!(long.starts_with(&text) && text.len() == 510, "{}", text.len());
        }
    }

    #[test]
    fn completion_is_estimated_along_a_line_when_nobody_reports_it() {
        let mut book = TaskBook::new();
        for (at, progress, expect) in
            [(1_000, 10, None), (3_000, 30, Some(10_000)), (5_000, 60, Some(8_200))]
        {
            let data = format!(r#"{{"task_id":"t","drone_id":1,"progress":{progress}}}"#);
            let task = give(&mut book, at, "task.progress", &data).unwrap().task;
            assert_eq!(task.completion, expect.map(TimestampMs), "at {progress} %");
            assert!(!task.completion_is_reported);
        }
        let late = r#"{"task_id":"t","drone_id":1,"progress":20}"#;
        assert_eq!(give(&mut book, 2_000, "task.progress", late), None);
    }

    #[test]
    fn the_book_is_bounded_and_forgets_completed_tasks_first() {
        let mut book = TaskBook::with_tasks_max(2);
        give(&mut book, 0, "task.created", r#"{"task_id":1}"#);
        give(&mut book, 1, "task.created", r#"{"task_id":2}"#);
        give(&mut book, 2, "task.completed", r#"{"task_id":2,"result":"aborted"}"#);
        assert_eq!(book.get("2").map(|task| task.progress), Some(0.0));
        give(&mut book, 3, "task.created", r#"{"task_id":3}"#);
        assert!(book.get("1").is_some() && book.get("2").is_none() && book.get("3").is_some());
    }
}
