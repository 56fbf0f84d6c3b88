//! Where things lie on the disk of this machine. The directories are the truth: everything a command
//! needs to know about a deployment is found below one state directory, whoever wrote it and however
//! that process ended.
//!
//! ```text
//! STATE/lock                                   one command at a time
//! STATE/packages/PACKAGE/FINGERPRINT/          packages, kept once, hard-linked into instances
//! STATE/deployments/NAME/deployment.json       what is deployed and how far the last command came
//! STATE/deployments/NAME/{manifest,vars}.yml   as deployed; both carry secrets (0600)
//! STATE/deployments/NAME/instances/ID/root/    the instance's /var/vcap
//! STATE/deployments/NAME/instances/ID/{hosts,profile.d/}   its /etc/hosts and /etc/profile.d
//! STATE/deployments/NAME/instances/ID/disk     symlink to the attached persistent disk
//! STATE/deployments/NAME/instances/ID/netns    symlink to its network namespace, if it has one of its own
//! STATE/deployments/NAME/instances/ID/boot     the boot of this machine in which it was switched on last
//! STATE/deployments/NAME/disks/ID/             persistent disks
//! STATE/orphaned-disks/NAME/GROUP-ID-DISK/     disks of instances that are gone; never deleted here
//! ```

use std::path::{Path, PathBuf};

/// Where every process of an instance sees its files.
pub const VCAP: &str = "/var/vcap";

/// The state directory (`--state-dir`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The state directory at this absolute path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Held by the one command that changes something.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The number of the last task.
    pub fn last_task(&self) -> PathBuf {
        self.0.join("last-task")
    }

    /// Packages as instances get them.
    pub fn packages(&self) -> PathBuf {
        self.0.join("packages")
    }

    /// All deployments.
    pub fn deployments(&self) -> PathBuf {
        self.0.join("deployments")
    }

    /// One deployment.
    pub fn deployment(&self, name: &str) -> DeploymentDir {
        DeploymentDir(self.deployments().join(name))
    }

    /// Where disks of deleted instances of a deployment are kept.
    pub fn orphaned_disks(&self, deployment: &str) -> PathBuf {
        self.0.join("orphaned-disks").join(deployment)
    }
}

/// The directory of one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentDir(PathBuf);

impl DeploymentDir {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The deployment in this directory.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Whether the deployment in the directory at `path` still has a record.
    pub fn is_deployed(path: &Path) -> bool {
        Self::at(path).record().exists()
    }

    /// The record of what is deployed.
    pub fn record(&self) -> PathBuf {
        self.0.join("deployment.json")
    }

    /// The manifest of the last successful deploy, without variables left to fill in.
    pub fn manifest(&self) -> PathBuf {
        self.0.join("manifest.yml")
    }

    /// Generated passwords and certificates, unless `--vars-store` names another file.
    pub fn vars_store(&self) -> PathBuf {
        self.0.join("vars.yml")
    }

    /// One instance.
    pub fn instance(&self, id: &str) -> InstanceDir {
        InstanceDir(self.0.join("instances").join(id))
    }

    /// One persistent disk.
    pub fn disk(&self, id: &str) -> PathBuf {
        self.0.join("disks").join(id)
    }
}

/// The directory of one instance: what a virtual machine is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceDir(PathBuf);

impl InstanceDir {
    /// The instance in this directory.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its id, which names the directory.
    pub fn id(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// What its processes see as `/var/vcap`.
    pub fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    /// What its processes see as `/etc/hosts`.
    pub fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }

    /// What its processes see as `/etc/profile.d`, so that a job may write there.
    pub fn profile_d(&self) -> PathBuf {
        self.0.join("profile.d")
    }

    /// Symlink to the attached persistent disk; absent without one.
    pub fn attached_disk(&self) -> PathBuf {
        self.0.join("disk")
    }

    /// Symlink to its network namespace; absent when it shares the machine's.
    pub fn namespace(&self) -> PathBuf {
        self.0.join("netns")
    }

    /// Names the boot of this machine in which it was switched on last.
    pub fn boot(&self) -> PathBuf {
        self.0.join("boot")
    }

    /// The deployment it belongs to.
    pub fn deployment(&self) -> DeploymentDir {
        DeploymentDir::at(self.0.ancestors().nth(2).unwrap_or(&self.0))
    }

    /// What it was given last.
    pub fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    /// Process groups of lifecycle scripts that run now.
    pub fn running_scripts(&self) -> PathBuf {
        self.0.join("running-scripts")
    }

    /// A path as the instance's processes name it, on this machine. `inside` starts with `/var/vcap`.
    pub fn on_this_machine(&self, inside: &str) -> PathBuf {
        let below = inside.strip_prefix(VCAP).unwrap_or(inside).trim_start_matches('/');
        self.root().join(below)
    }

    /// The directory of a job.
    pub fn job(&self, job: &str) -> PathBuf {
        self.root().join("jobs").join(job)
    }

    /// The log directory of a job.
    pub fn logs(&self, job: &str) -> PathBuf {
        self.root().join("data/sys/log").join(job)
    }

    /// What its monit reads and writes.
    pub fn monit(&self) -> PathBuf {
        self.root().join("monit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_inside_an_instance_lies_below_its_root() {
        let instance = InstanceDir::at("/s/i");

        assert_eq!(
            instance.on_this_machine("/var/vcap/sys/log/etcd"),
            PathBuf::from("/s/i/root/sys/log/etcd")
        );
        assert_eq!(instance.on_this_machine("/var/vcap"), PathBuf::from("/s/i/root/"));
    }
}
