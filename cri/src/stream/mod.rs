//! Exec, attach and port-forward over HTTP. It does not start processes itself.
