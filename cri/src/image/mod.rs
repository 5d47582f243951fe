//! Images: pulled, unpacked, listed, removed. It does not run anything.
