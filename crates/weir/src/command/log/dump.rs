//! `weir log dump`: what stands in the files, as it streams by.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{json, Map, Value};
use weir_log::inspect::{
    self, BadRegion, Found, OffsetIndexReader, PartitionFiles, SegmentFiles, TimeIndexReader,
    WalkRules,
};
use weir_log::{LogError, ReadOnlyDisk};
use weir_protocol::batch::{BatchView, HEADER_BYTES};
use weir_protocol::Offset;

use super::{failed, holder, render};
use crate::cli::{DumpArgs, FileFilter};
use crate::error::{Outcome, UserError};
use crate::output::is_terminal;

/// What the records of one batch may inflate to.
const INFLATE_BYTES_MAX: usize = 128 << 20;
const DISK: ReadOnlyDisk = ReadOnlyDisk;
const CHECKPOINTS: [&str; 4] = [
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "replication-offset-checkpoint",
    "cleaner-offset-checkpoint",
];

pub(super) fn run(args: &DumpArgs) -> Outcome {
    let mut dump = Dump { args, out: BufWriter::new(io::stdout().lock()), dim: is_terminal() };
    let dumped = match &args.file {
        Some(file) => dump.file(file)?,
        None => {
            let dir = super::log_dir(&super::data_dir(&args.dir)?)?;
            if let Some(pid) = holder(&dir) {
                eprintln!("process {pid} uses {}: the tails may move", dir.display());
            }
            dump.directory(&dir)
        }
    };
    let dumped = dumped.and_then(|()| dump.out.flush().map_err(written));
    match dumped {
        // A reader that went away is the end of the output.
        Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| failed("cannot dump the log", &error)),
    }
}

fn written(source: io::Error) -> LogError {
    LogError::Io { action: "write", path: PathBuf::from("standard output"), source }
}

struct Dump<'a, W: Write> {
    args: &'a DumpArgs,
    out: W,
    dim: bool,
}

/// Whose file it is.
#[derive(Clone, Copy)]
struct Place<'a> {
    topic: &'a str,
    partition: i32,
    file: &'a Path,
}

impl<'a> Place<'a> {
    fn of(files: &'a PartitionFiles, file: &'a Path) -> Self {
        Self { topic: &files.topic, partition: files.partition, file }
    }

    fn fields(&self, kind: &str) -> Map<String, Value> {
        Map::from_iter([
            ("kind".to_owned(), json!(kind)),
            ("topic".to_owned(), json!(self.topic)),
            ("partition".to_owned(), json!(self.partition)),
            ("file".to_owned(), json!(self.file.display().to_string())),
        ])
    }
}

impl<W: Write> Dump<'_, W> {
    fn wants(&self, kind: FileFilter) -> bool {
        self.args.only.is_empty() || self.args.only.contains(&kind)
    }

    fn line(&mut self, text: &str) -> Result<(), LogError> {
        writeln!(self.out, "{text}").map_err(written)
    }

    fn object(&mut self, fields: Map<String, Value>) -> Result<(), LogError> {
        self.line(&Value::Object(fields).to_string())
    }

    /// A heading, and the head of a table below it; nothing in JSON.
    fn heading(&mut self, file: &Path, head: &str) -> Result<(), LogError> {
        if self.args.json {
            return Ok(());
        }
        self.line(&format!("\n{}", file.display()))?;
        match self.dim {
            _ if head.is_empty() => Ok(()),
            true => self.line(&format!("\x1b[2m{head}\x1b[0m")),
            false => self.line(head),
        }
    }

    fn directory(&mut self, dir: &Path) -> Result<(), LogError> {
        let whole = self.args.topic.is_none() && self.args.partition.is_none();
        if whole && self.wants(FileFilter::Checkpoint) {
            for name in CHECKPOINTS {
                self.checkpoint(&dir.join(name))?;
            }
        }
        for partition in inspect::partitions(&DISK, dir)? {
            let wanted = self.args.topic.as_ref().is_none_or(|topic| *topic == partition.topic)
                && self.args.partition.is_none_or(|number| number == partition.partition);
            if wanted {
                self.partition(&partition)?;
            }
        }
        Ok(())
    }

    fn partition(&mut self, files: &PartitionFiles) -> Result<(), LogError> {
        if self.wants(FileFilter::Checkpoint) {
            self.metadata(Place::of(files, &files.dir.join("partition.metadata")), &files.dir)?;
            self.epochs(Place::of(files, &files.dir.join("leader-epoch-checkpoint")))?;
        }
        for segment in &files.segments {
            if self.wants(FileFilter::Log) {
                self.segment(
                    Place::of(files, &segment.path(&files.dir, "log")),
                    &files.dir,
                    segment,
                )?;
            }
            if self.wants(FileFilter::Index) && segment.offset_index_bytes.is_some() {
                let path = segment.path(&files.dir, "index");
                self.offset_index(Place::of(files, &path), &files.dir, segment.base)?;
            }
            if self.wants(FileFilter::Timeindex) && segment.time_index_bytes.is_some() {
                let path = segment.path(&files.dir, "timeindex");
                self.time_index(Place::of(files, &path), &files.dir, segment.base)?;
            }
            if self.wants(FileFilter::Txnindex) && segment.txn_index_bytes.is_some() {
                self.txn_index(Place::of(files, &segment.path(&files.dir, "txnindex")))?;
            }
        }
        if self.wants(FileFilter::Snapshot) {
            for offset in &files.snapshots {
                let path = files.dir.join(format!("{:020}.snapshot", offset.get()));
                self.snapshot(Place::of(files, &path))?;
            }
        }
        Ok(())
    }

    /// One file by its name.
    fn file(&mut self, path: &Path) -> Outcome<Result<(), LogError>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let dir = path.parent().unwrap_or(Path::new("."));
        let unknown = || {
            UserError::new("WEIR-0222", format!("{} is no file of a log", path.display())).help(
                "name a .log, .index, .timeindex, .txnindex or .snapshot file, or a checkpoint",
            )
        };
        if CHECKPOINTS.contains(&&*name) {
            return Ok(self.checkpoint(&path));
        }
        let files = PartitionFiles::read(&DISK, dir)
            .map_err(|error| failed("cannot dump the file", &error))?
            .ok_or_else(unknown)?;
        let place = Place { topic: &files.topic, partition: files.partition, file: &path };
        match &*name {
            "leader-epoch-checkpoint" => return Ok(self.epochs(place)),
            "partition.metadata" => return Ok(self.metadata(place, dir)),
            _ => {}
        }
        let (stem, suffix) = name.split_once('.').ok_or_else(unknown)?;
        let base = Offset(stem.parse().map_err(|_| unknown())?);
        let segment = || files.segments.iter().find(|segment| segment.base == base);
        Ok(match suffix {
            "log" => self.segment(place, dir, segment().ok_or_else(unknown)?),
            "index" => self.offset_index(place, dir, base),
            "timeindex" => self.time_index(place, dir, base),
            "txnindex" => self.txn_index(place),
            "snapshot" => self.snapshot(place),
            _ => return Err(unknown()),
        })
    }

    fn segment(
        &mut self,
        place: Place<'_>,
        dir: &Path,
        segment: &SegmentFiles,
    ) -> Result<(), LogError> {
        let head = format!(
            "{:>12} {:>12} {:>8} {:>11} {:>9} {:>5} {:<6} {:>14} {:>10} {:>5} {:>10} {:<5} {}",
            "OFFSET",
            "LAST",
            "RECORDS",
            "POSITION",
            "BYTES",
            "EPOCH",
            "CODEC",
            "TIME MS",
            "PRODUCER",
            "PEPOC",
            "SEQUENCE",
            "CRC",
            "FLAGS"
        );
        self.heading(place.file, &head)?;
        let rules = WalkRules::any(segment.base);
        inspect::walk_segment(&DISK, dir, segment, &rules, &mut |found| match found {
            Found::Batch { position, batch } => self.batch(place, position, &batch),
            Found::Bad(bad) => self.bad(place, &bad),
            Found::Hole { .. } => Ok(()),
        })?;
        Ok(())
    }

    fn batch(
        &mut self,
        place: Place<'_>,
        position: u64,
        batch: &BatchView<'_>,
    ) -> Result<(), LogError> {
        let size_bytes = batch.size_bytes() as u64;
        if self.args.json {
            let mut fields = place.fields("batch");
            fields.extend(render::batch_json(position, size_bytes, batch));
            fields.insert("crc_ok".to_owned(), json!(true));
            self.object(fields)?;
        } else {
            self.line(&batch_row(position, size_bytes, batch, "ok"))?;
        }
        if !self.args.records {
            return Ok(());
        }
        let is_control = batch.is_control();
        let records = match batch.records(INFLATE_BYTES_MAX) {
            Ok(records) => records,
            Err(error) => return self.problem(place, position, &error.to_string()),
        };
        for record in records {
            match record {
                Ok(record) if self.args.json => {
                    let mut fields = place.fields("record");
                    fields.extend(render::record_json(place.topic, is_control, &record));
                    self.object(fields)?;
                }
                Ok(record) => {
                    let text = render::record_text(place.topic, is_control, &record);
                    self.line(&format!("    {text}"))?;
                }
                Err(error) => self.problem(place, position, &error.to_string())?,
            }
        }
        Ok(())
    }

    fn problem(&mut self, place: Place<'_>, position: u64, what: &str) -> Result<(), LogError> {
        if !self.args.json {
            return self.line(&format!("    ■ byte {position}: {what}"));
        }
        let mut fields = place.fields("problem");
        fields.extend([("position".to_owned(), json!(position)), ("what".to_owned(), json!(what))]);
        self.object(fields)
    }

    /// Bytes that are no batch; if they begin with a header, what it says.
    fn bad(&mut self, place: Place<'_>, bad: &BadRegion) -> Result<(), LogError> {
        let size_bytes = bad.to - bad.from;
        let mut head = bad.head.clone();
        if let Some(length) = head.get_mut(8..12) {
            length.copy_from_slice(&(HEADER_BYTES as u32 - 12).to_be_bytes());
        }
        if let Ok(batch) = BatchView::parse(&head) {
            if self.args.json {
                let mut fields = place.fields("batch");
                fields.extend(render::batch_json(bad.from, size_bytes, &batch));
                fields.insert("crc_ok".to_owned(), json!(false));
                self.object(fields)?;
            } else {
                self.line(&batch_row(bad.from, size_bytes, &batch, "BAD"))?;
            }
        }
        self.problem(place, bad.from, &format!("{size_bytes} bytes are no batch: {}", bad.what))
    }

    fn offset_index(&mut self, place: Place<'_>, dir: &Path, base: Offset) -> Result<(), LogError> {
        self.heading(place.file, &format!("{:>12} {:>11}", "LAST", "POSITION"))?;
        let mut entries = OffsetIndexReader::open(&DISK, dir, base)?;
        let mut is_first = true;
        while let Some((offset, position)) = entries.next_entry().map_err(|e| read(place, e))? {
            if (offset, position) == (base, 0) && !is_first {
                return self.unused(place);
            }
            is_first = false;
            if self.args.json {
                let mut fields = place.fields("offset_index");
                fields.extend([
                    ("offset".to_owned(), json!(offset.get())),
                    ("position".to_owned(), json!(position)),
                ]);
                self.object(fields)?;
            } else {
                self.line(&format!("{offset:>12} {position:>11}"))?;
            }
        }
        Ok(())
    }

    fn time_index(&mut self, place: Place<'_>, dir: &Path, base: Offset) -> Result<(), LogError> {
        self.heading(place.file, &format!("{:>14} {:>12}", "TIME MS", "OFFSET"))?;
        let mut entries = TimeIndexReader::open(&DISK, dir, base)?;
        let mut is_first = true;
        while let Some((time, offset)) = entries.next_entry().map_err(|e| read(place, e))? {
            if (time.get(), offset) == (0, base) && !is_first {
                return self.unused(place);
            }
            is_first = false;
            if self.args.json {
                let mut fields = place.fields("time_index");
                fields.extend([
                    ("timestamp_ms".to_owned(), json!(time.get())),
                    ("offset".to_owned(), json!(offset.get())),
                ]);
                self.object(fields)?;
            } else {
                self.line(&format!("{time:>14} {offset:>12}"))?;
            }
        }
        Ok(())
    }

    /// An index that Kafka has open is as large as it may become, with zeros at its end.
    fn unused(&mut self, place: Place<'_>) -> Result<(), LogError> {
        match self.args.json {
            true => self.object(place.fields("unused_room")),
            false => self.line("    the rest is room that is not used yet"),
        }
    }

    fn txn_index(&mut self, place: Place<'_>) -> Result<(), LogError> {
        self.heading(
            place.file,
            &format!("{:>10} {:>12} {:>12} {:>12}", "PRODUCER", "FIRST", "LAST", "STABLE"),
        )?;
        let aborted = match inspect::aborted_txns(&DISK, place.file) {
            Err(LogError::BadFile { what, .. }) => return self.problem(place, 0, &what),
            outcome => outcome?,
        };
        for txn in aborted {
            if self.args.json {
                let mut fields = place.fields("aborted_transaction");
                fields.extend([
                    ("producer_id".to_owned(), json!(txn.producer_id.get())),
                    ("first_offset".to_owned(), json!(txn.first_offset.get())),
                    ("last_offset".to_owned(), json!(txn.last_offset.get())),
                    ("last_stable_offset".to_owned(), json!(txn.last_stable_offset.get())),
                ]);
                self.object(fields)?;
            } else {
                self.line(&format!(
                    "{:>10} {:>12} {:>12} {:>12}",
                    txn.producer_id, txn.first_offset, txn.last_offset, txn.last_stable_offset
                ))?;
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, place: Place<'_>) -> Result<(), LogError> {
        let head = format!(
            "{:>10} {:>5} {:>10} {:>12} {:>6} {:>14} {:>6} {:>12}",
            "PRODUCER", "EPOCH", "SEQUENCE", "OFFSET", "DELTA", "TIME MS", "CEPOCH", "TXN FROM"
        );
        self.heading(place.file, &head)?;
        let entries = match inspect::producer_snapshot(&DISK, place.file) {
            Err(LogError::BadFile { what, .. }) => return self.problem(place, 0, &what),
            outcome => outcome?,
        };
        for entry in entries {
            let txn_from = entry.txn_first_offset.map(Offset::get);
            if self.args.json {
                let mut fields = place.fields("producer");
                fields.extend([
                    ("producer_id".to_owned(), json!(entry.producer_id.get())),
                    ("producer_epoch".to_owned(), json!(entry.producer_epoch.get())),
                    ("last_sequence".to_owned(), json!(entry.last_sequence.get())),
                    ("last_offset".to_owned(), json!(entry.last_offset.get())),
                    ("offset_delta".to_owned(), json!(entry.offset_delta)),
                    ("timestamp_ms".to_owned(), json!(entry.timestamp.get())),
                    ("coordinator_epoch".to_owned(), json!(entry.coordinator_epoch)),
                    ("txn_first_offset".to_owned(), json!(txn_from)),
                ]);
                self.object(fields)?;
            } else {
                self.line(&format!(
                    "{:>10} {:>5} {:>10} {:>12} {:>6} {:>14} {:>6} {:>12}",
                    entry.producer_id,
                    entry.producer_epoch,
                    entry.last_sequence,
                    entry.last_offset,
                    entry.offset_delta,
                    entry.timestamp,
                    entry.coordinator_epoch,
                    txn_from.map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
                ))?;
            }
        }
        Ok(())
    }

    fn epochs(&mut self, place: Place<'_>) -> Result<(), LogError> {
        let epochs = match inspect::leader_epochs(&DISK, place.file) {
            Err(LogError::BadFile { what, .. }) => {
                self.heading(place.file, "")?;
                return self.problem(place, 0, &what);
            }
            outcome => outcome?,
        };
        let Some(epochs) = epochs else { return Ok(()) };
        self.heading(place.file, &format!("{:>5} {:>12}", "EPOCH", "FROM"))?;
        for (epoch, start) in epochs {
            if self.args.json {
                let mut fields = place.fields("leader_epoch");
                fields.extend([
                    ("leader_epoch".to_owned(), json!(epoch.get())),
                    ("start_offset".to_owned(), json!(start.get())),
                ]);
                self.object(fields)?;
            } else {
                self.line(&format!("{epoch:>5} {start:>12}"))?;
            }
        }
        Ok(())
    }

    fn metadata(&mut self, place: Place<'_>, dir: &Path) -> Result<(), LogError> {
        let id = match inspect::topic_id(&DISK, dir) {
            Err(LogError::BadFile { what, .. }) => {
                self.heading(place.file, "")?;
                return self.problem(place, 0, &what);
            }
            outcome => outcome?,
        };
        let Some(id) = id else { return Ok(()) };
        self.heading(place.file, "")?;
        if self.args.json {
            let mut fields = place.fields("partition_metadata");
            fields.insert("topic_id".to_owned(), json!(id.to_string()));
            return self.object(fields);
        }
        self.line(&format!("topic id {id}"))
    }

    fn checkpoint(&mut self, path: &Path) -> Result<(), LogError> {
        if !path.exists() {
            return Ok(());
        }
        let lines = match inspect::offset_checkpoint(&DISK, path) {
            Err(LogError::BadFile { what, .. }) => {
                self.heading(path, "")?;
                return self.problem(Place { topic: "", partition: -1, file: path }, 0, &what);
            }
            outcome => outcome?,
        };
        self.heading(path, &format!("{:>12}  {}", "OFFSET", "PARTITION"))?;
        for ((topic, partition), offset) in lines {
            if self.args.json {
                let place = Place { topic: &topic, partition, file: path };
                let mut fields = place.fields("checkpoint");
                fields.insert("offset".to_owned(), json!(offset.get()));
                self.object(fields)?;
            } else {
                self.line(&format!("{offset:>12}  {topic}-{partition}"))?;
            }
        }
        Ok(())
    }
}

fn read(place: Place<'_>, source: io::Error) -> LogError {
    LogError::Io { action: "read", path: place.file.to_owned(), source }
}

fn batch_row(position: u64, size_bytes: u64, batch: &BatchView<'_>, crc: &str) -> String {
    let mut flags = Vec::new();
    if batch.is_transactional() {
        flags.push("transactional");
    }
    if batch.is_control() {
        flags.push("control");
    }
    if render::timestamp_type(batch) == "LogAppendTime" {
        flags.push("append-time");
    }
    let line = format!(
        "{:>12} {:>12} {:>8} {:>11} {:>9} {:>5} {:<6} {:>14} {:>10} {:>5} {:>10} {:<5} {}",
        batch.base_offset(),
        batch.last_offset(),
        batch.record_count(),
        position,
        size_bytes,
        batch.partition_leader_epoch(),
        render::codec(batch),
        batch.max_timestamp(),
        batch.producer_id(),
        batch.producer_epoch(),
        batch.base_sequence(),
        crc,
        flags.join(",")
    );
    line.trim_end().to_owned()
}
