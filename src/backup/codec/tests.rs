use std::io::Read;

use age::secrecy::ExposeSecret;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::backup::config::StoreConfig;
use crate::backup::manifest::{Compression, Encryption, Object};
use crate::backup::store::{PART_BYTES, Piece, Store};

struct Bench {
    directory: tempfile::TempDir,
    store: Store,
    key: age::x25519::Identity,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}", directory.path().display());
        let store = Store::open(&StoreConfig { url, ..StoreConfig::default() }).unwrap();
        Self { directory, store, key: age::x25519::Identity::generate() }
    }

    fn packing(&self, compression: Compression, encrypted: bool) -> Packing {
        let recipient = self.key.to_public().to_string();
        let recipients = Recipients::parse(if encrypted { std::slice::from_ref(&recipient) } else { &[] });
        Packing { compression, recipients: recipients.unwrap(), bytes_per_second: None }
    }

    fn keys(&self) -> Keys {
        Keys::parse(&[self.key.to_string().expose_secret()]).unwrap()
    }

    async fn pack(&self, packing: &Packing, pieces: Vec<Piece>) -> Option<Object> {
        let (sender, content) = mpsc::channel(pieces.len().max(1));
        for piece in pieces {
            sender.try_send(piece).unwrap();
        }
        drop(sender);
        pack(&self.store, |suffix| format!("v1/object{suffix}"), packing, content).await.unwrap()
    }

    async fn unpack(&self, object: &Object, keys: &Keys) -> Result<Vec<u8>, CodecError> {
        let mut content = content(&self.store, object, keys).await?;
        let object = object.clone();
        tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(|error| Content::error(&object, &error))?;
            Ok(bytes)
        })
        .await
        .unwrap()
    }

    fn path(&self, object: &Object) -> std::path::PathBuf {
        self.directory.path().join(&object.name)
    }
}

/// Neither all the same nor all different.
fn some(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|place| u8::try_from(place * place / 7 % 251).unwrap()).collect()
}

fn pieces(bytes: &[u8]) -> Vec<Piece> {
    let data = bytes.chunks(100_000).map(|chunk| Piece::Data(Bytes::copy_from_slice(chunk)));
    data.chain([Piece::End]).collect()
}

#[tokio::test]
async fn what_is_packed_comes_out_again() {
    for (compression, encrypted, suffix) in [
        (Compression::None, false, ""),
        (Compression::Zstd, false, ".zst"),
        (Compression::None, true, ".age"),
        (Compression::Zstd, true, ".zst.age"),
    ] {
        for bytes in [0, 1, 70_000, PART_BYTES, 2 * PART_BYTES + 12_345] {
            let bench = Bench::new();
            let given = some(bytes);

            let object = bench.pack(&bench.packing(compression, encrypted), pieces(&given)).await.unwrap();

            assert_eq!(object.name, format!("v1/object{suffix}"));
            assert_eq!(object.content_bytes, bytes as u64, "{suffix}");
            assert_eq!(
                object.bytes,
                std::fs::metadata(bench.path(&object)).unwrap().len(),
                "{suffix} {bytes}"
            );
            assert!(bench.unpack(&object, &bench.keys()).await == Ok(given), "{suffix} {bytes}");
        }
    }
}

#[tokio::test]
async fn content_that_breaks_off_leaves_nothing_in_the_store() {
    let bench = Bench::new();
    let packing = bench.packing(Compression::None, true);
    for bytes in [0, 10, PART_BYTES + 1] {
        let mut pieces = pieces(&some(bytes));
        pieces.pop();

        assert_eq!(bench.pack(&packing, pieces).await, None, "{bytes}");
        assert_eq!(bench.store.list("v1").await, Ok(vec![]), "{bytes}");
    }
}

#[tokio::test]
async fn an_object_that_exists_stays_as_it_is() {
    let bench = Bench::new();
    let packing = bench.packing(Compression::None, false);
    bench.pack(&packing, pieces(b"first")).await.unwrap();

    let (sender, content) = mpsc::channel(2);
    sender.try_send(Piece::Data(Bytes::from_static(b"second"))).unwrap();
    sender.try_send(Piece::End).unwrap();
    let again = pack(&bench.store, |_| "v1/object".to_owned(), &packing, content).await;

    assert!(matches!(again, Err(CodecError::Store(_))), "{again:?}");
    assert_eq!(std::fs::read(bench.directory.path().join("v1/object")).unwrap(), b"first");
}

#[tokio::test]
async fn each_changed_byte_and_each_cut_is_damage() {
    for (compression, encrypted) in [
        (Compression::None, false),
        (Compression::Zstd, false),
        (Compression::None, true),
        (Compression::Zstd, true),
    ] {
        let bench = Bench::new();
        let object = bench.pack(&bench.packing(compression, encrypted), pieces(&some(3_000))).await.unwrap();
        let path = bench.path(&object);
        let whole = std::fs::read(&path).unwrap();
        let changed = (0..whole.len()).step_by(41).map(|place| {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x40;
            bytes
        });
        let cut = [0, 1, whole.len() / 2, whole.len() - 1].map(|length| whole[..length].to_vec());
        let longer = [[whole.as_slice(), b"more"].concat(), whole.repeat(2)];
        for (number, bytes) in changed.chain(cut).chain(longer).enumerate() {
            std::fs::write(&path, bytes).unwrap();

            let read = bench.unpack(&object, &bench.keys()).await;

            // A changed header of age may name another recipient: then no key fits.
            let told = matches!(read, Err(CodecError::Damaged { .. } | CodecError::Locked { .. }));
            assert!(told, "{compression:?} {encrypted} {number}: {:?}", read.map(|bytes| bytes.len()));
        }
    }
}

#[tokio::test]
async fn without_the_right_key_it_stays_locked_and_no_key_is_told() {
    let bench = Bench::new();
    let object = bench.pack(&bench.packing(Compression::Zstd, true), pieces(&some(10))).await.unwrap();
    let other = Keys::parse(&[age::x25519::Identity::generate().to_string().expose_secret()]).unwrap();

    for keys in [Keys::default(), other] {
        let error = bench.unpack(&object, &keys).await.unwrap_err();

        let told = error.complaint().to_string();
        assert!(told.contains(&bench.key.to_public().to_string()), "{told}");
        assert!(told.contains(&format!("none of {} private keys", keys.len())), "{told}");
        assert!(!told.contains("AGE-SECRET-KEY-1Q"), "{told}");
    }
}

#[tokio::test]
async fn an_object_that_is_gone_is_named() {
    let bench = Bench::new();
    let object = bench.pack(&bench.packing(Compression::None, false), pieces(b"x")).await.unwrap();
    std::fs::remove_file(bench.path(&object)).unwrap();

    let error = bench.unpack(&object, &Keys::default()).await.unwrap_err();

    assert!(error.to_string().contains("read v1/object"), "{error}");
}

#[test]
fn keys_are_read_with_their_comments_and_wrong_ones_are_not_repeated() {
    let key = age::x25519::Identity::generate();
    let file =
        format!("# created: today\n# public key: {}\n{}\n", key.to_public(), key.to_string().expose_secret());
    assert_eq!(Keys::parse(&[file]).unwrap().len(), 1);

    for text in ["", "# nothing", "AGE-SECRET-KEY-1NOTONE"] {
        let error = Keys::parse(&[text]).unwrap_err().to_string();
        assert_eq!(error, "key 1 of encryption.identities is not a private key of age, AGE-SECRET-KEY-1…");
    }
    let secret = key.to_string();
    let error = Recipients::parse(&["age1x", secret.expose_secret()]).unwrap_err().to_string();
    assert_eq!(error, "key 1 of encryption.recipients is not a public key of age, age1…");
    assert!(matches!(
        Recipients::parse(&[secret.expose_secret()]).unwrap_err().to_string(),
        told if !told.contains(secret.expose_secret())
    ));
}

#[tokio::test]
async fn what_was_packed_names_its_recipients() {
    let bench = Bench::new();

    let object = bench.pack(&bench.packing(Compression::None, true), pieces(b"x")).await.unwrap();

    assert_eq!(object.encryption, Encryption::Age { recipients: vec![bench.key.to_public().to_string()] });
}
