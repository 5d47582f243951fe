//! From a CRI request, an image's config and what the host can do to an OCI spec. Pure: no system calls.
