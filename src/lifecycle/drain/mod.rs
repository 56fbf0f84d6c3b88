//! Stopping and leaving: what pre-stop intends and what drain does about it.
