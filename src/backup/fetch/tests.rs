use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;

use super::*;
use crate::backup::codec::{Packing, Recipients, pack};
use crate::backup::config::StoreConfig;
use crate::backup::delta::{Change, Record};
use crate::backup::fixture::{self, RecordWriter};
use crate::backup::layout;
use crate::backup::manifest::{Compression, Delta, Full};
use crate::backup::store::Piece;
use crate::datadir::bolt::Db;
use crate::datadir::bolt::write::{WriteError, Writer};

/// A store with a full snapshot up to revision 2 and two deltas up to 4 and 6.
struct Bench {
    directory: tempfile::TempDir,
    store: Store,
    full: Full,
    deltas: Vec<Delta>,
}

async fn packed(store: &Store, name: String, bytes: Vec<u8>) -> Object {
    let packing =
        Packing { compression: Compression::Zstd, recipients: Recipients::default(), bytes_per_second: None };
    let (sender, content) = mpsc::channel(2);
    sender.try_send(Piece::Data(Bytes::from(bytes))).unwrap();
    sender.try_send(Piece::End).unwrap();
    pack(store, |suffix| format!("{name}{suffix}"), &packing, content).await.unwrap().unwrap()
}

fn record(revision: i64) -> Record {
    let change = Change {
        key: format!("key-{revision}").into(),
        create_revision: revision,
        version: 1,
        ..Change::default()
    };
    Record { revision, at_unix_ms: 1000 * revision, changes: vec![change], leases: vec![] }
}

fn database(directory: &Path) -> Vec<u8> {
    let path = directory.join("made");
    let mut writer = Writer::new(File::create_new(&path).unwrap(), 4096).unwrap();
    let key = [2_i64.to_be_bytes().as_slice(), b"_", &[0; 8]].concat();
    writer.bucket::<WriteError>(b"key", |keys| keys.put(&key, &record(2).encode_to_vec())).unwrap();
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}/store", directory.path().display());
        let store = Store::open(&StoreConfig { url, ..StoreConfig::default() }).unwrap();
        let mut full = fixture::full(0, 2);
        let bytes = database(directory.path());
        full.object = packed(&store, layout::full_object(&full.set, ""), bytes).await;
        let mut deltas = Vec::new();
        for (first, last) in [(3, 4), (5, 6)] {
            let (_, mut delta) = fixture::delta(0, first, last, 5);
            let mut writer = RecordWriter::default();
            (first..=last).for_each(|revision| writer.put(&record(revision)));
            let stem = layout::delta_stem(&full.set, first, last, [0; 4]);
            delta.object = packed(&store, layout::delta_object(&stem, ""), writer.take()).await;
            deltas.push(delta);
        }
        Self { directory, store, full, deltas }
    }

    fn chain(&self, point: Point) -> Chain {
        let deltas = self.deltas.clone();
        Chain { full: self.full.clone(), deltas, point, last: 6, ignored: vec![] }
    }

    async fn fetch(&self, chain: &Chain) -> Result<Fetched, FetchError> {
        let into = self.directory.path().join(uuid::Uuid::new_v4().to_string());
        std::fs::create_dir(&into).unwrap();
        fetch(&self.store, chain, &Keys::default(), &into, |_, _| {}).await
    }

    fn path(&self, object: &Object) -> PathBuf {
        self.directory.path().join("store").join(&object.name)
    }
}

#[tokio::test]
async fn a_chain_becomes_a_database_that_ends_at_the_point() {
    let bench = Bench::new().await;
    for (point, last) in [(Point::Latest, 6), (Point::Revision(5), 5), (Point::Revision(2), 2)] {
        let fetched = bench.fetch(&bench.chain(point)).await.unwrap();

        assert_eq!(fetched.revisions, Revisions { compacted: 0, last }, "{point}");
        let db = Db::open(File::open(&fetched.database).unwrap()).unwrap();
        let entries = db.bucket(b"key").unwrap().unwrap().entries(10).unwrap();
        assert_eq!(i64::try_from(entries.len()), Ok(last - 1), "{point}");
    }
}

#[tokio::test]
async fn a_broken_object_is_named_with_what_is_intact_before_it() {
    for (broken, intact) in [(0, None), (1, Some(2)), (2, Some(4))] {
        let bench = Bench::new().await;
        let objects = [&bench.full.object, &bench.deltas[0].object, &bench.deltas[1].object];
        let path = bench.path(objects[broken]);
        let whole = std::fs::read(&path).unwrap();
        for place in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            std::fs::write(&path, bytes).unwrap();

            let error = bench.fetch(&bench.chain(Point::Latest)).await.unwrap_err();

            assert!(error.to_string().contains(&objects[broken].name), "{broken} {place}: {error}");
            assert_eq!(error.intact, intact, "{broken} {place}: {error}");
        }
        std::fs::remove_file(&path).unwrap();
        let gone = bench.fetch(&bench.chain(Point::Latest)).await.unwrap_err();
        assert!(gone.to_string().contains(&objects[broken].name), "{gone}");
        assert_eq!(gone.intact, intact, "{gone}");
    }
}

#[tokio::test]
async fn a_manifest_that_does_not_fit_its_object_is_no_backup() {
    let bench = Bench::new().await;
    let mut chain = bench.chain(Point::Latest);
    chain.full.revisions.last = 1;
    let error = bench.fetch(&chain).await.unwrap_err().to_string();
    assert!(error.contains("last revision is 2 where its manifest says 1"), "{error}");

    let mut chain = bench.chain(Point::Latest);
    chain.deltas.remove(0);
    let error = bench.fetch(&chain).await.unwrap_err();
    assert!(error.to_string().contains("begins with revision 5 where 2 is the last before it"), "{error}");
    assert_eq!(error.intact, Some(2));
}
