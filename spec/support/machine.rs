//! What a test does to machines behind everyone's back: cutting them off from each other, pulling the plug.

use std::fs;
use std::process::Command;

use etcd_release::local::instance;
use etcd_release::local::layout::InstanceDir;

/// A machine with a network namespace of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    namespace: String,
    address: String,
}

impl Machine {
    /// The machine of an instance at `address`; `None` if it has no namespace, or does not exist now.
    pub fn of(instance: &InstanceDir, address: &str) -> Option<Self> {
        let target = fs::read_link(instance.namespace()).ok()?;
        let namespace = target.file_name()?.to_str()?.to_owned();
        Some(Self { namespace, address: address.to_owned() })
    }

    /// Cuts two machines off from each other, for connections that are open too. Nothing is refused, what they
    /// send is lost: each sends it to a network card that nobody has. What this machine sends arrives.
    pub fn cut(&self, other: &Self) {
        self.mute(other);
        other.mute(self);
    }

    /// Loses what this machine sends to another. What that one sends arrives.
    pub fn mute(&self, other: &Self) {
        self.ip(&[
            "neighbour",
            "replace",
            &other.address,
            "lladdr",
            NOBODY,
            "nud",
            "permanent",
            "dev",
            "eth0",
        ]);
    }

    /// Ends all cuts of this machine, on its side.
    pub fn heal(&self) {
        self.ip(&["neighbour", "flush", "dev", "eth0", "nud", "permanent"]);
    }

    fn ip(&self, arguments: &[&str]) {
        let output =
            Command::new("ip").args(["-netns", &self.namespace]).args(arguments).output().expect("run ip");
        assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A hardware address that no machine has.
const NOBODY: &str = "02:65:00:00:00:00";

/// Pulls the plug. The next command finds the machine booted anew: nothing runs, `sys/run` is empty.
pub fn reboot(instance: &InstanceDir) {
    instance::switch_off(instance).expect("end all processes of the instance");
    fs::write(instance.boot(), "an earlier boot").expect("note another boot");
}
