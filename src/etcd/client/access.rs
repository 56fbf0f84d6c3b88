//! Users, their roles, and what a role may do. Passwords are never told, not even as hashes.

use etcd_client::{Permission, PermissionType, RoleRevokePermissionOptions, UserAddOptions};
use serde::{Deserialize, Serialize};

use super::{EtcdClient, EtcdError};

/// What a permission lets do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Both.
    ReadWrite,
}

/// Something a role may do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// From this key on.
    pub key: Vec<u8>,
    /// Up to, and without, this one; empty = only the key, `\0` = to the end.
    pub range_end: Vec<u8>,
    /// What.
    pub kind: Kind,
}

impl EtcdClient {
    /// Whether authentication is on. The question is one for a token of nobody: with authentication off all releases
    /// answer so before they look at the name, and only newer ones have a question for it.
    pub async fn authentication(&mut self) -> Result<bool, EtcdError> {
        let mut client = self.inner.auth_client();
        let asked = client.authenticate(String::new(), String::new());
        match Self::bounded(self.limit, asked).await {
            Err(EtcdError::AuthNotEnabled) => Ok(false),
            Ok(_) | Err(EtcdError::Auth(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The names of all roles.
    pub async fn roles(&mut self) -> Result<Vec<String>, EtcdError> {
        Ok(Self::bounded(self.limit, self.inner.role_list()).await?.roles().to_vec())
    }

    /// What a role may do.
    pub async fn role(&mut self, name: &str) -> Result<Vec<Grant>, EtcdError> {
        let answer = Self::bounded(self.limit, self.inner.role_get(name)).await?;
        let grant = |permission: &Permission| {
            let kind = match permission.get_type() {
                kind if kind == PermissionType::Read as i32 => Kind::Read,
                kind if kind == PermissionType::Write as i32 => Kind::Write,
                kind if kind == PermissionType::Readwrite as i32 => Kind::ReadWrite,
                other => {
                    return Err(EtcdError::Other(format!("role {name} has a permission of type {other}")));
                }
            };
            Ok(Grant { key: permission.key().to_vec(), range_end: permission.range_end().to_vec(), kind })
        };
        answer.permissions().iter().map(grant).collect()
    }

    /// Makes a role that may do nothing.
    pub async fn add_role(&mut self, name: &str) -> Result<(), EtcdError> {
        Self::bounded(self.limit, self.inner.role_add(name)).await.map(|_| ())
    }

    /// Lets a role do more; what it could do with the same keys is replaced.
    pub async fn grant_permission(&mut self, role: &str, grant: &Grant) -> Result<(), EtcdError> {
        let kind = match grant.kind {
            Kind::Read => PermissionType::Read,
            Kind::Write => PermissionType::Write,
            Kind::ReadWrite => PermissionType::Readwrite,
        };
        let permission = Permission::new(kind, &*grant.key).with_range_end(&*grant.range_end);
        Self::bounded(self.limit, self.inner.role_grant_permission(role, permission)).await.map(|_| ())
    }

    /// Takes that from a role.
    pub async fn revoke_permission(&mut self, role: &str, grant: &Grant) -> Result<(), EtcdError> {
        let options = RoleRevokePermissionOptions::new().with_range_end(&*grant.range_end);
        let asked = self.inner.role_revoke_permission(role, &*grant.key, Some(options));
        Self::bounded(self.limit, asked).await.map(|_| ())
    }

    /// The names of all users.
    pub async fn users(&mut self) -> Result<Vec<String>, EtcdError> {
        Ok(Self::bounded(self.limit, self.inner.user_list()).await?.users().to_vec())
    }

    /// The roles of a user.
    pub async fn user(&mut self, name: &str) -> Result<Vec<String>, EtcdError> {
        Ok(Self::bounded(self.limit, self.inner.user_get(name)).await?.roles().to_vec())
    }

    /// Makes a user who has no password, and so is known by certificate only until one is set.
    pub async fn add_user(&mut self, name: &str) -> Result<(), EtcdError> {
        let options = UserAddOptions::new().with_no_pwd();
        Self::bounded(self.limit, self.inner.user_add(name, "", Some(options))).await.map(|_| ())
    }

    /// Gives a user a role, which must exist.
    pub async fn give_role(&mut self, user: &str, role: &str) -> Result<(), EtcdError> {
        Self::bounded(self.limit, self.inner.user_grant_role(user, role)).await.map(|_| ())
    }

    /// Takes a role from a user.
    pub async fn take_role(&mut self, user: &str, role: &str) -> Result<(), EtcdError> {
        Self::bounded(self.limit, self.inner.user_revoke_role(user, role)).await.map(|_| ())
    }
}
