//! Whole clusters of the production code under a seed: network, disks, clocks and faults, with invariants. Pure.
