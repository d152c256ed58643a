//! As much of the Kafka protocol as the probe needs: two requests in old, fixed layouts.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PRODUCE: i16 = 0;
const INIT_PRODUCER_ID: i16 = 22;
/// Oldest layouts that Kafka 4 takes.
const PRODUCE_VERSION: i16 = 7;
const INIT_PRODUCER_ID_VERSION: i16 = 0;
/// The `acks` of a produce request.
pub(crate) const ACKS_ALL: i16 = -1;
const TIMEOUT_MS: i32 = 30_000;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const LOADING_WAIT: Duration = Duration::from_millis(50);
const LOADING_TRIES_MAX: u32 = 200;

/// One socket.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    acks: i16,
    correlation_id: i32,
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: &str, acks: i16) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, acks, correlation_id: 0, answer: Vec::new() })
    }

    /// The same socket, for a thread that only receives.
    pub(crate) fn receiver(&self) -> io::Result<Self> {
        let stream = self.stream.try_clone()?;
        Ok(Self { stream, acks: self.acks, correlation_id: 0, answer: Vec::new() })
    }

    /// Asks for a producer id until there is one; returns it with its epoch. A fresh Kafka has to fetch
    /// a block of them first.
    pub(crate) fn init_producer_id(&mut self) -> Result<(i64, i16), Box<dyn Error>> {
        for _ in 0..LOADING_TRIES_MAX {
            match self.try_init_producer_id()? {
                (0, id, epoch) => return Ok((id, epoch)),
                (COORDINATOR_LOAD_IN_PROGRESS, ..) => std::thread::sleep(LOADING_WAIT),
                (code, ..) => return Err(format!("InitProducerId: error {code}").into()),
            }
        }
        Err("InitProducerId: the broker is still loading".into())
    }

    /// Error code, id, epoch.
    fn try_init_producer_id(&mut self) -> Result<(i16, i64, i16), Box<dyn Error>> {
        let mut request = self.begin(INIT_PRODUCER_ID, INIT_PRODUCER_ID_VERSION);
        request.extend_from_slice(&(-1_i16).to_be_bytes()); // no transactional id
        request.extend_from_slice(&TIMEOUT_MS.to_be_bytes());
        self.send(&mut request)?;
        let body = self.receive()?;
        // Behind the throttle time.
        match (field(body, 4), field(body, 6), field(body, 14)) {
            (Some(code), Some(id), Some(epoch)) => {
                Ok((i16::from_be_bytes(code), i64::from_be_bytes(id), i16::from_be_bytes(epoch)))
            }
            _ => Err("an InitProducerId answer is too short".into()),
        }
    }

    /// The start of a produce request for one partition; the batch follows, then [`Self::send_produce`].
    pub(crate) fn begin_produce(
        &mut self,
        request: &mut Vec<u8>,
        topic: &str,
        partition: i32,
    ) -> usize {
        *request = self.begin_into(std::mem::take(request), PRODUCE, PRODUCE_VERSION);
        request.extend_from_slice(&(-1_i16).to_be_bytes()); // no transactional id
        request.extend_from_slice(&self.acks.to_be_bytes());
        request.extend_from_slice(&TIMEOUT_MS.to_be_bytes());
        request.extend_from_slice(&1_i32.to_be_bytes());
        push_text(request, topic);
        request.extend_from_slice(&1_i32.to_be_bytes());
        request.extend_from_slice(&partition.to_be_bytes());
        request.extend_from_slice(&0_i32.to_be_bytes()); // size of the records: see send_produce
        request.len()
    }

    /// Sends what [`Self::begin_produce`] began; `records_at` is what it returned.
    pub(crate) fn send_produce(&mut self, request: &mut [u8], records_at: usize) -> io::Result<()> {
        let size = (request.len() - records_at) as i32;
        request[records_at - 4..records_at].copy_from_slice(&size.to_be_bytes());
        self.send(request)
    }

    /// The error code in the next produce answer.
    pub(crate) fn receive_produced(&mut self) -> Result<i16, Box<dyn Error>> {
        let body = self.receive()?;
        // Topics (4), name, partitions (4), partition (4), error.
        let name_len = field(body, 4).map_or(0, |length| usize::from(u16::from_be_bytes(length)));
        let code = field(body, 4 + 2 + name_len + 8).map(i16::from_be_bytes);
        Ok(code.ok_or("a produce answer is too short")?)
    }

    fn begin(&mut self, key: i16, version: i16) -> Vec<u8> {
        self.begin_into(Vec::new(), key, version)
    }

    fn begin_into(&mut self, mut request: Vec<u8>, key: i16, version: i16) -> Vec<u8> {
        request.clear();
        request.extend_from_slice(&0_i32.to_be_bytes()); // frame length: see send
        request.extend_from_slice(&key.to_be_bytes());
        request.extend_from_slice(&version.to_be_bytes());
        request.extend_from_slice(&self.correlation_id.to_be_bytes());
        self.correlation_id = self.correlation_id.wrapping_add(1);
        push_text(&mut request, "probe");
        request
    }

    fn send(&mut self, request: &mut [u8]) -> io::Result<()> {
        let length = (request.len() - 4) as i32;
        request[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(request)
    }

    /// The body of the next answer: what follows the correlation id.
    fn receive(&mut self) -> io::Result<&[u8]> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        self.answer.resize(u32::from_be_bytes(length) as usize, 0);
        self.stream.read_exact(&mut self.answer)?;
        Ok(self.answer.get(4..).unwrap_or_default())
    }
}

fn push_text(request: &mut Vec<u8>, text: &str) {
    request.extend_from_slice(&(text.len() as i16).to_be_bytes());
    request.extend_from_slice(text.as_bytes());
}

fn field<const N: usize>(body: &[u8], at: usize) -> Option<[u8; N]> {
    body.get(at..at + N)?.try_into().ok()
}
