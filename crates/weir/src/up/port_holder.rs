//! Who holds a port: read from `/proc`, so that "address in use" can name the process.

use std::fs;
use std::net::SocketAddr;

/// A process that listens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PortHolder {
    pub(crate) pid: u32,
    pub(crate) name: String,
}

/// The process listening on `address`'s port, if `/proc` tells (Linux, same user or root).
pub(crate) fn port_holder(address: SocketAddr) -> Option<PortHolder> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| listening_inodes(&table, address.port()))
        .collect();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let holds = fs::read_dir(entry.path().join("fd")).ok()?.flatten().any(|fd| {
            let target = fs::read_link(fd.path()).unwrap_or_default();
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            inode.is_some_and(|inode| inodes.iter().any(|known| known == inode))
        });
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        holds.then(|| PortHolder { pid, name: name.trim().to_owned() })
    })
}

/// Socket inodes in state LISTEN (0A) with this local port, from a table of proc(5).
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(3) == Some(&"0A") && fields.get(1)?.ends_with(&suffix);
            listens.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_listener_is_found_with_pid_and_name() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = port_holder(listener.local_addr().unwrap()).unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.name.is_empty());
    }

    #[test]
    fn free_port_has_no_holder() {
        let address = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        assert_eq!(port_holder(address), None);
    }
}
