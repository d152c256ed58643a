//! `/live`: one WebSocket per open console.
//!
//! Nothing is queued for a client. Each wake-up takes what is newer than what it has, so a slow
//! client gets fewer, later states and never an old one, and costs the server one frame. A browser
//! answers each positions frame once it is drawn; with [`UNDRAWN_MAX`] on their way the next one
//! waits, so that nothing piles up in socket buffers either.

use std::time::Duration;

use tokio::time::Instant;

use axum::extract::ws::{Message, WebSocket};

use super::hub::{ConsoleHub, Cursor, Seat};

/// A console only says "drawn"; beyond this a message cuts the line.
pub(super) const INCOMING_BYTES_MAX: usize = 1_024;

/// A small fleet is shown as it happens, a large one ten times a second: the pause after a frame
/// grows with its size, which holds a client under 2.4 MB/s (10,000 devices at 10 Hz).
const PAUSE_MIN: Duration = Duration::from_millis(8);
const PAUSE_MAX: Duration = Duration::from_millis(100);
const BYTES_PER_MS: usize = 2_400;

/// A frame not taken within this time means nobody is there.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Positions frames sent and not yet drawn.
const UNDRAWN_MAX: u32 = 2;
/// A client that does not answer, a program or a page in the background, gets a frame this often.
const UNDRAWN_WAIT: Duration = Duration::from_secs(1);

/// Positions on their way to one client.
#[derive(Debug)]
struct Flight {
    undrawn: u32,
    sent: Instant,
}

impl Flight {
    fn has_room(&self, now: Instant) -> bool {
        self.undrawn < UNDRAWN_MAX || now.duration_since(self.sent) >= UNDRAWN_WAIT
    }

    fn sent(&mut self, now: Instant) {
        self.undrawn = (self.undrawn + 1).min(UNDRAWN_MAX);
        self.sent = now;
    }

    fn drawn(&mut self) {
        self.undrawn = self.undrawn.saturating_sub(1);
    }
}

/// Serves one console until it leaves.
pub(super) async fn serve(mut socket: WebSocket, hub: ConsoleHub, _seat: Seat) {
    let mut cursor = Cursor::default();
    let mut flight = Flight { undrawn: 0, sent: Instant::now() };
    loop {
        let mut sent_bytes = 0;
        for message in hub.news(&mut cursor, flight.has_room(Instant::now())) {
            sent_bytes += bytes_of(&message);
            if matches!(message, Message::Binary(_)) {
                flight.sent(Instant::now());
            }
            match tokio::time::timeout(SEND_TIMEOUT, socket.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
        let wait = wait_for_news(&hub, &cursor, pause_after(sent_bytes));
        tokio::pin!(wait);
        loop {
            tokio::select! {
                incoming = socket.recv() => match incoming {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(Message::Binary(_) | Message::Text(_))) => flight.drawn(),
                    Some(Ok(_)) => {}
                },
                () = &mut wait => break,
            }
        }
    }
}

async fn wait_for_news(hub: &ConsoleHub, cursor: &Cursor, pause: Duration) {
    tokio::time::sleep(pause).await;
    hub.changed(cursor).await;
}

fn pause_after(sent_bytes: usize) -> Duration {
    Duration::from_millis((sent_bytes / BYTES_PER_MS) as u64).clamp(PAUSE_MIN, PAUSE_MAX)
}

fn bytes_of(message: &Message) -> usize {
    match message {
        Message::Binary(bytes) => bytes.len(),
        Message::Text(text) => text.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_frames_travel_at_once_and_a_silent_client_gets_one_a_second() {
        let start = Instant::now();
        let mut flight = Flight { undrawn: 0, sent: start };
        flight.sent(start);
        assert!(flight.has_room(start));
        flight.sent(start);
        assert!(!flight.has_room(start));
        assert!(flight.has_room(start + UNDRAWN_WAIT));
        flight.drawn();
        assert!(flight.has_room(start));
    }

    #[test]
    fn a_large_frame_earns_a_long_pause() {
        assert_eq!(pause_after(0), PAUSE_MIN);
        assert_eq!(pause_after(120_000), Duration::from_millis(50));
        assert_eq!(pause_after(10_000_000), PAUSE_MAX);
    }
}
