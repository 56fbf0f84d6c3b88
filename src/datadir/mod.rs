//! The data directory seen from the disk; reads only.
