//! The place where backups lie. Names are those of [`super::layout`], below the path of the URL.

use std::sync::Arc;

use object_store::ObjectStore;

/// A store that can be reached, or not: nothing is asked before the first call.
#[derive(Debug, Clone)]
pub struct Store {
    #[expect(dead_code, reason = "its calls are not written yet")]
    inner: Arc<dyn ObjectStore>,
}
