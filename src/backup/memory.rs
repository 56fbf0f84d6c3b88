//! What the allocator keeps.

/// From this size on, a block goes back to the system when it is freed, in bytes.
const LARGE: nix::libc::c_int = 256 << 10;

/// Makes large blocks go back to the system as soon as they are freed, and threads share what is kept of small ones. By
/// itself, glibc keeps blocks for reuse once it has seen one of their size freed, for each thread apart; parts of an
/// upload are 5 MiB, and under failures and repetitions a job that lives for months would grow by dozens of them.
#[expect(unsafe_code, reason = "mallopt is the only way to say it to glibc")]
pub fn give_back_at_once() {
    #[cfg(target_env = "gnu")]
    // SAFETY: called before there is a second thread; with these parameters it only sets numbers. One that is refused
    // changes nothing.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE);
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2);
    }
}
