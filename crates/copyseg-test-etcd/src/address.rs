//! Addresses that no two members share, also while one of them is down.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports below those that systems give to whoever asks for any.
const FIRST_PORT: u16 = 10_000;
const LAST_PORT: u16 = 32_000;

/// Where members that this process starts listen: on Linux a loopback address of its own, so that no other process that
/// runs tests, and no outgoing connection, takes a port from a member before it listens or until it is started again.
pub fn host() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, high, middle, low);
    if TcpListener::bind((own, 0)).is_ok() { own } else { Ipv4Addr::LOCALHOST }
}

/// An address at which nobody listens, given out once.
///
/// # Panics
/// If there is none.
pub fn free_address() -> SocketAddr {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let host = host();
    // Processes that share an address begin at different ports.
    let first = FIRST_PORT + (std::process::id() % 200) as u16 * 100;
    loop {
        let port = first + GIVEN.fetch_add(1, Ordering::Relaxed);
        assert!(port < LAST_PORT, "every port is taken");
        if TcpListener::bind((host, port)).is_ok() {
            return (host, port).into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_given_out_once_and_nobody_listens_there() {
        let [first, second] = [free_address(), free_address()];
        assert_ne!(first, second);
        let taken = TcpListener::bind((host(), second.port() + 1)).unwrap();
        let third = free_address();
        assert!(![first, second, taken.local_addr().unwrap()].contains(&third));
        assert!(TcpListener::bind(third).is_ok());
    }
}
