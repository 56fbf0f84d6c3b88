//! The etcdctl wrapper.
