//! What keeps a member's database small.

use std::time::Duration;

use etcd_client::{AlarmAction, AlarmOptions, AlarmType};

use super::{EtcdClient, EtcdError};
use crate::etcd::id::MemberId;

impl EtcdClient {
    /// Gives the member's free pages back to the disk; it serves nothing meanwhile. After a timeout it goes on.
    pub async fn defragment(&mut self, limit: Duration) -> Result<(), EtcdError> {
        Self::bounded(limit, self.inner.defragment()).await.map(|_| ())
    }

    /// Who has raised the alarm for lack of space.
    pub async fn no_space(&mut self) -> Result<Vec<MemberId>, EtcdError> {
        let asked = self.inner.alarm(AlarmAction::Get, AlarmType::None, None);
        let answer = Self::bounded(self.limit, asked).await?;
        let raised = answer.alarms().iter().filter(|alarm| alarm.alarm() == AlarmType::Nospace);
        Ok(raised.map(|alarm| MemberId(alarm.member_id())).collect())
    }

    /// Ends a member's alarm for lack of space.
    pub async fn disarm_no_space(&mut self, member: MemberId) -> Result<(), EtcdError> {
        let mut options = AlarmOptions::new();
        options.with_member(member.0);
        let asked = self.inner.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options));
        Self::bounded(self.limit, asked).await.map(|_| ())
    }
}
