//! Lines of any input, in bounded memory.

use std::io::{self, BufRead};

/// What stands between two line ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The line without its end.
    Whole(Vec<u8>),
    /// It has more bytes than allowed; they are gone. How many there were.
    TooLong(u64),
}

/// Reads one line of at most `bytes_max` bytes; `None` at the end of the input. Memory stays below
/// `bytes_max`, whatever comes: the rest of a longer line is read and dropped.
pub(super) fn read(input: &mut dyn BufRead, bytes_max: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut bytes: u64 = 0;
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let (empty, used) = (chunk.is_empty(), part.len() + usize::from(end.is_some()));
        if empty && bytes == 0 {
            return Ok(None);
        }
        bytes += part.len() as u64;
        if bytes <= bytes_max as u64 {
            line.extend_from_slice(part);
        } else {
            line = Vec::new();
        }
        input.consume(used);
        if empty || end.is_some() {
            break;
        }
    }
    Ok(Some(match bytes <= bytes_max as u64 {
        true => Line::Whole(line),
        false => Line::TooLong(bytes),
    }))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn all(text: &[u8], buffer_bytes: usize) -> Vec<Line> {
        let mut input = BufReader::with_capacity(buffer_bytes, text);
        std::iter::from_fn(|| read(&mut input, 5).unwrap()).collect()
    }

    #[test]
    fn lines_come_whole_or_counted_whatever_the_buffer() {
        let whole = |text: &[u8]| Line::Whole(text.to_vec());
        for buffer_bytes in 1..12 {
            assert_eq!(
                all(b"ab\n\n12345\n123456\n\xff\nlast", buffer_bytes),
                [
                    whole(b"ab"),
                    whole(b""),
                    whole(b"12345"),
                    Line::TooLong(6),
                    whole(b"\xff"),
                    whole(b"last")
                ],
                "{buffer_bytes}"
            );
            assert_eq!(all(b"", buffer_bytes), []);
            assert_eq!(all(b"1234567890", buffer_bytes), [Line::TooLong(10)]);
        }
    }
}
