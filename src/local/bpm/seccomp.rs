//! Which system calls a container may make: bpm's own list, which refuses what is not on it with EPERM.
//!
//! Told as the kernel's 64-bit calls by what they are for. bpm also lists those that only 32-bit programs make; here
//! such programs are killed. docs/local-director.md#bpm

use serde_json::{Value, json};

/// The number of the error for "there is no such system call".
const ENOSYS: u32 = 38;
/// Flags of `clone` that ask for namespaces: mount, UTS, IPC, user, pid and network.
const NEW_NAMESPACES: u64 = 0x7c02_0000;
/// What `personality` may be set to: Linux, 32-bit Linux, and the value that only asks.
const PERSONALITIES: [u64; 3] = [0, 8, 0xffff_ffff];

/// What is allowed with any arguments.
const ALLOWED: [(&str, &str); 9] = [
    (
        "files",
        "access chdir chmod chown chroot close copy_file_range creat dup dup2 dup3 faccessat fadvise64 fallocate \
         fanotify_mark fchdir fchmod fchmodat fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fremovexattr \
         fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr inotify_add_watch \
         inotify_init inotify_init1 inotify_rm_watch ioctl lchown lgetxattr link linkat listxattr llistxattr \
         lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open openat openat2 pread64 preadv \
         preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr rename renameat \
         renameat2 rmdir sendfile setxattr splice stat statfs statx symlink symlinkat sync sync_file_range syncfs tee \
         truncate umask unlink unlinkat utime utimensat utimes vmsplice write writev",
    ),
    ("asynchronous files", "io_cancel io_destroy io_getevents io_setup io_submit"),
    (
        "memory",
        "brk madvise memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap \
         remap_file_pages",
    ),
    (
        "processes and threads",
        "arch_prctl execve execveat exit exit_group fork futex get_robust_list get_thread_area getcpu getpgid getpgrp \
         getpid getppid getpriority getrlimit getrusage getsid gettid ioprio_get ioprio_set modify_ldt prctl prlimit64 \
         restart_syscall sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
         sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam sched_setscheduler \
         sched_yield seccomp set_robust_list set_thread_area set_tid_address setpgid setpriority setrlimit setsid \
         vfork wait4 waitid",
    ),
    (
        "identity",
        "capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid setgroups \
         setregid setresgid setresuid setreuid setuid",
    ),
    (
        "signals",
        "kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
         rt_sigtimedwait rt_tgsigqueueinfo sigaltstack signalfd signalfd4 tgkill tkill",
    ),
    (
        "time",
        "alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer time timer_create \
         timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times",
    ),
    (
        "network and waiting for it",
        "accept accept4 bind connect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_wait \
         epoll_wait_old eventfd eventfd2 getpeername getsockname getsockopt listen pipe pipe2 poll ppoll pselect6 \
         recvfrom recvmmsg recvmsg select sendmmsg sendmsg sendto setsockopt shutdown socket socketpair",
    ),
    (
        "messages, shared memory and what the machine is",
        "getrandom mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd \
         semctl semget semop semtimedop shmat shmctl shmdt shmget sysinfo syslog uname",
    ),
];

/// The profile as runc reads it; `None` for a processor whose calls are not listed here.
pub fn profile() -> Option<Value> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "SCMP_ARCH_X86_64",
        "aarch64" => "SCMP_ARCH_AARCH64",
        _ => return None,
    };
    let names: Vec<&str> = ALLOWED.iter().flat_map(|(_, names)| names.split_whitespace()).collect();
    let mut rules = vec![
        json!({"names": names, "action": "SCMP_ACT_ALLOW"}),
        json!({
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
        }),
        // Its flags are in memory, where no filter can look: programs fall back to clone.
        json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}),
    ];
    rules.extend(PERSONALITIES.map(|value| {
        json!({
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}],
        })
    }));
    Some(json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": [architecture], "syscalls": rules}))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_call_is_listed_once_and_none_that_leaves_the_container() {
        let all: Vec<&str> = ALLOWED.iter().flat_map(|(_, names)| names.split_whitespace()).collect();
        let different: BTreeSet<&str> = all.iter().copied().collect();

        assert_eq!(all.len(), different.len());
        for refused in [
            "ptrace",
            "mount",
            "umount2",
            "unshare",
            "setns",
            "pivot_root",
            "bpf",
            "perf_event_open",
            "keyctl",
            "add_key",
            "userfaultfd",
            "io_uring_setup",
            "process_vm_readv",
            "kcmp",
            "pidfd_open",
            "membarrier",
            "rseq",
            "reboot",
            "init_module",
            "clock_settime",
            "clone",
            "clone3",
            "personality",
        ] {
            assert!(!different.contains(refused), "{refused}");
        }
    }
}
