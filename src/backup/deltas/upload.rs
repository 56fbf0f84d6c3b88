//! A cut delta on its way into the store: the object, then its manifest.

use tokio::sync::mpsc;

use super::{Base, Batch};
use crate::backup::codec::{CodecError, Packing, pack};
use crate::backup::full::written_by;
use crate::backup::layout;
use crate::backup::manifest::{Delta, VERSION};
use crate::backup::seal::sealed;
use crate::backup::step::Step;
use crate::backup::store::{Piece, Store};

/// Uploads it once. Each attempt has a name of its own: what an earlier one has left is in nobody's way.
pub(super) async fn upload(
    store: &Store,
    packing: &Packing,
    base: &Base,
    batch: &Batch,
    random: [u8; 4],
) -> Result<Delta, CodecError> {
    Step::DeltaCut.reach();
    let stem = layout::delta_stem(&base.set, batch.first, batch.last, random);
    let (sender, content) = mpsc::channel(1);
    let feed = async {
        for block in &batch.content {
            if sender.send(Piece::Data(block.clone())).await.is_err() {
                return;
            }
        }
        // Ignored, as above: who does not take it has an error to tell.
        let _ = sender.send(Piece::End).await;
    };
    let packed = pack(store, |suffix| layout::delta_object(&stem, suffix), packing, content);
    let (packed, ()) = tokio::join!(packed, feed);
    let object = packed?.ok_or_else(|| CodecError::Machine {
        object: stem.clone(),
        why: "the upload ended early".to_owned(),
    })?;
    Step::DeltaUploaded.reach();
    let delta = Delta {
        version: VERSION,
        set: base.set.clone(),
        cluster_id: base.cluster_id,
        first: batch.first,
        last: batch.last,
        events: batch.events,
        begun: batch.begun,
        ended: batch.ended,
        previous: base.previous.clone(),
        object,
        written_by: written_by(),
    };
    store.put_new(&layout::delta_manifest(&stem), sealed(&delta)).await?;
    Step::DeltaListed.reach();
    Ok(delta)
}
