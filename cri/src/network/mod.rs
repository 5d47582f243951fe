//! A pod's network: its namespace, CNI or the built-in bridge, host ports. It does not know containers.
