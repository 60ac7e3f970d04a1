//! The native client: sessions, deadlines, retries, leader discovery.
