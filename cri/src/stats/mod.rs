//! What pods and containers use. It changes nothing.
