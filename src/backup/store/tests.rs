use tokio::sync::mpsc;

use super::*;

fn store(directory: &std::path::Path) -> Store {
    let url = format!("file://{}/store", directory.display());
    Store::open(&StoreConfig { url, ..StoreConfig::default() }).unwrap()
}

/// Sends these pieces, then nothing.
fn sent(pieces: Vec<Piece>) -> Receiver<Piece> {
    let (sender, receiver) = mpsc::channel(pieces.len().max(1));
    for piece in pieces {
        sender.try_send(piece).unwrap();
    }
    receiver
}

fn part(byte: u8) -> Piece {
    Piece::Data(Bytes::from(vec![byte; PART_BYTES]))
}

#[tokio::test]
async fn what_is_written_is_listed_by_name_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());

    store.put_new("v1/b/two.json", Bytes::from_static(b"2")).await.unwrap();
    store.put_new("v1/a/one.json", Bytes::from_static(b"1")).await.unwrap();

    let names: Vec<String> = store.list("v1").await.unwrap().into_iter().map(|listed| listed.name).collect();
    assert_eq!(names, ["v1/a/one.json", "v1/b/two.json"]);
    assert_eq!(store.read_small("v1/a/one.json", 1).await.unwrap(), Bytes::from_static(b"1"));
    assert_eq!(store.list("v2").await.unwrap(), []);
}

#[tokio::test]
async fn an_object_is_written_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    store.put_new("v1/one", Bytes::from_static(b"first")).await.unwrap();

    let again = store.put_new("v1/one", Bytes::from_static(b"second")).await.unwrap_err();

    assert_eq!(again.failure, Failure::Exists);
    assert_eq!(store.read_small("v1/one", 10).await.unwrap(), Bytes::from_static(b"first"));
}

#[tokio::test]
async fn an_upload_of_any_size_arrives_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let tail = || Piece::Data(Bytes::from_static(b"tail"));
    for (name, pieces, size) in [
        ("nothing", vec![Piece::End], 0),
        ("a-little", vec![tail(), Piece::End], 4),
        ("one-part", vec![part(1), Piece::End], PART_BYTES),
        ("parts", vec![part(1), part(2), part(3), tail(), Piece::End], 3 * PART_BYTES + 4),
    ] {
        let uploaded = store.upload(name, sent(pieces), None).await.unwrap();

        assert_eq!(uploaded, Some(size as u64), "{name}");
        let read: Vec<Bytes> = store.read(name).await.unwrap().try_collect().await.unwrap();
        let read = read.concat();
        assert_eq!(read.len(), size, "{name}");
        assert!(size < 4 || name == "one-part" || read.ends_with(b"tail"), "{name}");
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    for pieces in [vec![], vec![Piece::Data(Bytes::from_static(b"a"))], vec![part(1), part(2)]] {
        assert_eq!(store.upload("v1/broken", sent(pieces), None).await, Ok(None));
    }

    assert_eq!(store.list("").await.unwrap(), []);
}

/// As a process leaves it that was killed in the middle of an upload.
#[tokio::test]
async fn what_a_killed_upload_has_left_in_a_directory_is_listed_and_can_be_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let folder = directory.path().join("store/v1/set");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("full.db#12"), b"half").unwrap();
    std::fs::write(folder.join("full.db"), b"whole").unwrap();
    std::fs::write(folder.join("notes#a"), b"somebody's").unwrap();

    let listed = store.list("v1").await.unwrap();
    let figures: Vec<_> = listed.iter().map(|listed| (listed.name.as_str(), listed.bytes)).collect();
    assert_eq!(figures, [("v1/set/full.db", 5), ("v1/set/full.db#12", 4), ("v1/set/notes#a", 10)]);

    std::fs::remove_file(folder.join("notes#a")).unwrap();
    for listed in listed {
        store.delete(&listed.name).await.unwrap();
        store.delete(&listed.name).await.unwrap();
    }
    assert!(!folder.exists() && directory.path().join("store").exists());

    store.put_new("v1/set/one", Bytes::new()).await.unwrap();
    store.delete("v1/set/one").await.unwrap();
    assert!(!folder.exists() && directory.path().join("store").exists());
}

#[tokio::test]
async fn what_is_gone_is_named_and_removing_it_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());

    let error = store.read_small("v1/absent", 10).await.unwrap_err();

    assert_eq!(error.failure, Failure::NotFound);
    assert!(error.to_string().contains("read v1/absent"), "{error}");
    assert_eq!(store.delete("v1/absent").await, Ok(()));
}

#[tokio::test]
async fn a_limited_upload_takes_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let begun = Instant::now();

    let rate = Some(4 * PART_BYTES as u64);
    store.upload("slow", sent(vec![part(1), part(2), part(3), Piece::End]), rate).await.unwrap();

    // The first part goes at once, the others when those before would have been through.
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[test]
fn a_url_that_means_no_store_is_told() {
    for (url, why) in [
        ("", "no URL of a store"),
        ("ftp://host/path", "no store of kind 'ftp'"),
        ("s3://", "names no bucket"),
        ("s3://key:secret@bucket/path", "no credentials"),
        ("file://relative/path", "absolute"),
    ] {
        let error = Store::open(&StoreConfig { url: url.to_owned(), ..StoreConfig::default() }).unwrap_err();

        assert_eq!(error.failure, Failure::Configuration, "{url}");
        assert!(error.why.contains(why), "{url}: {error}");
    }
}

#[test]
fn a_ca_without_a_certificate_is_told() {
    let config = StoreConfig {
        url: "s3://bucket/path".to_owned(),
        ca: Some("no certificate".to_owned()),
        ..StoreConfig::default()
    };

    assert!(Store::open(&config).unwrap_err().why.contains("store.ca"));
}
