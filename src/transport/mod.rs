//! QUIC between members: endpoints, mutual TLS, streams per class, bounded queues.
