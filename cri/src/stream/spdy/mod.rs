//! SPDY/3.1 as kubelet, crictl and client-go speak it: the server's side of a connection whose streams the client opens.
//!
//! A subset on purpose. The peers (all of them Go's spdystream) have no flow control, so WINDOW_UPDATE is neither waited for nor sent:
//! back-pressure is the socket that isn't read. The server opens no streams. What streams carry is not known here.

mod connection;
pub mod frame;
pub mod headers;

pub use connection::serve;
