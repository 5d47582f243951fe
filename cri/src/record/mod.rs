//! What survives on disk: immutable metadata and a versioned status for each sandbox and container. No effects elsewhere.
