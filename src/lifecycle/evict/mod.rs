//! Members that no instance stands behind any more: a hard-stopped instance that is then deleted runs no
//! script, so one of the others clears its entry away after a deploy (docs/contract.md#evict).

pub mod act;
pub mod decide;
pub mod observe;
pub mod step;
