//! From a point to what has to be read for it, asking the store.

use super::catalog::{self, LoadError};
use super::chain::{self, Chain, NoChain, Point};
use super::layout::SetId;
use super::store::{Store, StoreError};
use crate::report::Complaint;

/// Why it could not be found out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The store, or a manifest in it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no way to the point.
    #[error(transparent)]
    NoChain(#[from] NoChain),
}

impl From<StoreError> for ResolveError {
    fn from(error: StoreError) -> Self {
        Self::Load(error.into())
    }
}

impl ResolveError {
    /// The same for an operator.
    pub fn complaint(&self) -> Complaint {
        match self {
            Self::Load(error) => error.complaint(),
            Self::NoChain(error) => error.complaint(),
        }
    }
}

/// What has to be read for a point, of a certain set or of the one that fits best.
pub async fn resolve(store: &Store, set: Option<&SetId>, point: Point) -> Result<Chain, ResolveError> {
    let catalog = catalog::catalog(store).await?;
    let entry = chain::choose(&catalog.sets, set, point)?;
    Ok(chain::chain(&catalog::load(store, entry).await?, point))
}
