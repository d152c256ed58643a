//! What hostile frames cost: memory is measured with a counting allocator, not believed.
#![allow(unsafe_code)] // `GlobalAlloc` is an unsafe trait.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use weir_protocol::{Decoder, Request};

struct Counting;

thread_local! {
    /// Bytes this thread holds, and the most it held.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // The allocator outlives a thread's locals.
    let _ = HELD.try_with(|held| {
        let (now, peak) = held.get();
        held.set((now + bytes, peak.max(now + bytes)));
    });
}

// SAFETY: hands every call on to `System` and only counts beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `pointer` came from `System` with this `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that decoding `frame` as `R` takes beside the frame.
fn peak_bytes<R: Request>(frame: &Bytes, version: i16, heap_bytes_max: usize) -> (bool, usize) {
    let mut decoder = Decoder::with_heap_bytes_max(frame.clone(), heap_bytes_max);
    let (before, _) = HELD.get();
    HELD.set((before, before));
    let decoded = R::decode(&mut decoder, version);
    let (_, peak) = HELD.get();
    (decoded.is_ok(), (peak - before).unsigned_abs())
}

/// 1 MiB of one byte is arrays in arrays: in a flexible version each 1 is an empty array or string, so
/// that a struct takes a few bytes on the wire and a hundred in memory.
#[test]
fn decoding_takes_no_more_memory_than_its_budget() {
    const HEAP_BYTES_MAX: usize = 4 << 20;
    // What is not counted: the counter that a shared buffer gets with its first slice.
    const SLACK_BYTES: usize = 64;

    fn check<R: Request>(patterns: &[Bytes]) {
        for version in R::VERSIONS {
            for pattern in patterns {
                let (_, peak) = peak_bytes::<R>(pattern, version, HEAP_BYTES_MAX);
                assert!(
                    peak <= HEAP_BYTES_MAX + SLACK_BYTES,
                    "{} {version} took {peak} bytes",
                    R::API_KEY
                );
            }
        }
    }
    let counted = |prefix: &[u8], fill: u8| {
        let mut frame = prefix.to_vec();
        frame.resize(1 << 20, fill);
        Bytes::from(frame)
    };
    let patterns = [
        counted(&[], 0),
        counted(&[], 1),
        counted(&[], 2),
        counted(&[0x80, 0x80, 0x20], 1),
        counted(&[0, 8, 0, 0], 0),
        counted(&[0x7f, 0xff, 0xff, 0xff], 0xff),
    ];
    macro_rules! check_all {
        ($($module:ident::$request:ident;)+) => {
            $(check::<weir_protocol::api::$module::$request>(&patterns);)+
        };
    }
    weir_protocol::for_each_request!(check_all);
}

/// The test above must be able to fail: without a budget the same bytes do amplify.
#[test]
fn without_a_budget_one_mebibyte_becomes_sixteen() {
    use weir_protocol::api::delete_topics::DeleteTopicsRequest;

    // 2^19 − 1 empty topic names: a byte each on the wire, 32 in memory.
    let mut frame = vec![0x80, 0x80, 0x20];
    frame.resize(1 << 20, 1);
    let frame = Bytes::from(frame);
    let (_, peak) = peak_bytes::<DeleteTopicsRequest>(&frame, 4, usize::MAX);
    assert!(peak > 15 << 20, "{peak}");
    let (decoded, peak) = peak_bytes::<DeleteTopicsRequest>(&frame, 4, 1 << 20);
    assert!(!decoded && peak < 1 << 10, "{peak}");
}
