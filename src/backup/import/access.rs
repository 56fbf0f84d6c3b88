//! Roles and users: compared before anything is touched, made when the keys are there, and read again.

use super::conflict::{self, Change, Rule};
use crate::backup::export::record::{Role, User};
use crate::etcd::client::access::Grant;
use crate::etcd::client::{EtcdClient, EtcdError};

/// What has to be done for roles and users.
#[derive(Debug, Default)]
pub(super) struct Plan {
    roles: Vec<(String, Change<Grant>)>,
    users: Vec<(String, Change<String>)>,
    /// What differs, where nobody said what to do.
    pub(super) conflicts: Vec<String>,
}

impl Plan {
    /// Compares.
    pub(super) async fn of(
        client: &mut EtcdClient,
        roles: &[Role],
        users: &[User],
        rule: Rule,
    ) -> Result<Self, EtcdError> {
        let mut plan = Self::default();
        if roles.is_empty() && users.is_empty() {
            return Ok(plan);
        }
        let (has_roles, has_users) = (client.roles().await?, client.users().await?);
        for role in roles {
            let there =
                if has_roles.contains(&role.name) { Some(client.role(&role.name).await?) } else { None };
            let wanted: Vec<Grant> = role.permissions.iter().cloned().map(Into::into).collect();
            match conflict::role(&role.name, &wanted, there.as_deref(), rule) {
                Some(change) => plan.roles.push((role.name.clone(), change)),
                None => plan.conflicts.push(format!("role {}", role.name)),
            }
        }
        for user in users {
            let there =
                if has_users.contains(&user.name) { Some(client.user(&user.name).await?) } else { None };
            match conflict::user(&user.roles, there.as_deref(), rule) {
                Some(change) => plan.users.push((user.name.clone(), change)),
                None => plan.conflicts.push(format!("user {}", user.name)),
            }
        }
        Ok(plan)
    }

    /// The roles and users that are not as they should be.
    pub(super) fn undone(&self) -> Vec<String> {
        let roles = self.roles.iter().filter(|(_, change)| !change.is_empty());
        let users = self.users.iter().filter(|(_, change)| !change.is_empty());
        let roles = roles.map(|(name, _)| format!("role {name}"));
        roles.chain(users.map(|(name, _)| format!("user {name}"))).collect()
    }

    /// Users that do not exist yet.
    pub(super) fn new_users(&self) -> Vec<String> {
        self.users.iter().filter(|(_, change)| change.new).map(|(name, _)| name.clone()).collect()
    }

    /// Does it; an error with what it was at.
    pub(super) async fn carry_out(&self, client: &mut EtcdClient) -> Result<(), (String, EtcdError)> {
        for (name, change) in &self.roles {
            role(client, name, change).await.map_err(|error| (format!("role {name}"), error))?;
        }
        for (name, change) in &self.users {
            user(client, name, change).await.map_err(|error| (format!("user {name}"), error))?;
        }
        Ok(())
    }
}

async fn role(client: &mut EtcdClient, name: &str, change: &Change<Grant>) -> Result<(), EtcdError> {
    if change.new {
        client.add_role(name).await?;
    }
    for grant in &change.give {
        client.grant_permission(name, grant).await?;
    }
    for grant in &change.take {
        client.revoke_permission(name, grant).await?;
    }
    Ok(())
}

async fn user(client: &mut EtcdClient, name: &str, change: &Change<String>) -> Result<(), EtcdError> {
    if change.new {
        client.add_user(name).await?;
    }
    for role in &change.give {
        client.give_role(name, role).await?;
    }
    for role in &change.take {
        client.take_role(name, role).await?;
    }
    Ok(())
}
