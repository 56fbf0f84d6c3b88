//! The user that processes under bpm run as.

use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::User;

/// User id and group id of `vcap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vcap {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
}

impl Vcap {
    /// Looks the user up.
    pub fn find() -> Result<Self> {
        Self::look_up()?.ok_or_else(|| anyhow!("there is no user vcap on this machine"))
    }

    /// Looks the user up, or adds it as a system user without home and login.
    ///
    /// The second value tells whether it was added, since that changes the machine.
    pub fn find_or_add() -> Result<(Self, bool)> {
        if let Some(vcap) = Self::look_up()? {
            return Ok((vcap, false));
        }
        let added = Command::new("useradd")
            .args(["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"])
            .args(["--shell", "/usr/sbin/nologin", "vcap"])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .context("run useradd")?;
        if !added.status.success() {
            bail!("useradd vcap: {}", String::from_utf8_lossy(&added.stderr).trim());
        }
        Ok((Self::find()?, true))
    }

    fn look_up() -> Result<Option<Self>> {
        let user = User::from_name("vcap").context("look up user vcap")?;
        Ok(user.map(|user| Self { user: user.uid.as_raw(), group: user.gid.as_raw() }))
    }
}
