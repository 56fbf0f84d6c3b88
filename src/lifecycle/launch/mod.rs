//! The launcher: `observe → decide → act` until etcd runs, then stay as its parent.
