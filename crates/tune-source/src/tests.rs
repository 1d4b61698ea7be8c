//! Sources against their lock: what changes it, what is refused, when the network is used.

use std::path::Path;

use tune_fs::ContentStore;
use tune_schema::Digest;
use tune_schema::lock::Lock;

use crate::testing::{Server, answer};
use crate::{Event, LockFile, LockMode, Options, ResolvedSource, SourceError, SourceKind, SourceRequest, resolve};

/// A folder with a recipe, its lock and a store.
struct Place {
    folder: tempfile::TempDir,
    events: Vec<Event>,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), events: Vec::new() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path().join(path);
        tune_fs::create_dir_all(path.parent().unwrap()).unwrap();
        tune_fs::write_atomic(&path, bytes).unwrap();
    }

    fn options(&self) -> Options {
        Options { store: ContentStore::new(self.path().join("store")), ..Options::default() }
    }

    fn lock(&self) -> LockFile {
        LockFile::find(&self.path().join("recipe.yaml")).unwrap()
    }

    fn request(&self, location: &str) -> SourceRequest {
        SourceRequest {
            name: "s".into(),
            location: location.into(),
            base_dir: self.path().to_owned(),
            sha256: None,
            licence: Some("MIT".into()),
            class: None,
            kind: SourceKind::Dataset,
        }
    }

    /// Resolves as a command does: with the lock in its file.
    fn resolve(&mut self, request: &SourceRequest, options: &Options) -> Result<ResolvedSource, SourceError> {
        let mut lock = self.lock();
        let result = resolve(request, &mut lock, options, &mut |event| self.events.push(event))?;
        lock.save()?;
        Ok(result)
    }
}

#[test]
fn a_local_file_is_locked_and_then_held_to_it() {
    let mut place = Place::new();
    let (request, options) = (place.request("data/a.jsonl"), place.options());
    place.write("data/a.jsonl", b"one");
    let strict = Options { mode: LockMode::Locked, ..options.clone() };
    assert!(matches!(place.resolve(&request, &strict), Err(SourceError::NotLocked { .. })));
    assert!(!tune_fs::exists(&place.lock().path()));

    let found = place.resolve(&request, &options).unwrap();
    assert_eq!(found.locked.uri, "file:data/a.jsonl");
    assert_eq!(found.files["a.jsonl"], place.path().join("data/a.jsonl"));
    assert_eq!(place.resolve(&request, &strict).unwrap().locked, found.locked);

    place.write("data/a.jsonl", b"two");
    for mode in [LockMode::Normal, LockMode::Locked, LockMode::Frozen] {
        // `tune lock --locked` may not change the lock either.
        let update = mode != LockMode::Normal;
        let error = place.resolve(&request, &Options { mode, update, ..options.clone() }).unwrap_err();
        let text = error.to_string();
        for part in ["a.jsonl", &Digest::of(b"one").to_string(), &Digest::of(b"two").to_string()] {
            assert!(text.contains(part), "{text}");
        }
        assert!(error.is_difference() && error.hint().unwrap().contains("tune lock RECIPE"));
    }
    assert_eq!(place.lock().get("s").unwrap(), &found.locked);

    let update = Options { update: true, ..options };
    assert_eq!(place.resolve(&request, &update).unwrap().locked.files[0].sha256, Digest::of(b"two"));
    place.resolve(&request, &strict).unwrap();
}

#[test]
fn the_lock_never_holds_a_path_of_this_machine() {
    let mut place = Place::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let absolute = elsewhere.path().join("b.jsonl");
    tune_fs::write_atomic(&absolute, b"b").unwrap();
    place.write("recipes/a.jsonl", b"a");
    let options = Options { update: true, ..place.options() };
    let outside = absolute.to_string_lossy().into_owned();
    let cases = [("recipes/../recipes/./a.jsonl", "file:recipes/a.jsonl"), (outside.as_str(), "file:b.jsonl")];
    for (location, uri) in cases {
        let request = place.request(location);
        assert_eq!(place.resolve(&request, &options).unwrap().locked.uri, uri);
    }
}

#[test]
fn a_moved_copy_goes_by_its_locked_name() {
    let mut place = Place::new();
    place.write("a.jsonl", b"a");
    place.write("elsewhere/copy.txt", b"a");
    let (options, original) = (place.options(), place.request("a.jsonl"));
    let locked = place.resolve(&original, &options).unwrap().locked;
    let copy = place.request("elsewhere/copy.txt");
    let found = place.resolve(&copy, &options).unwrap();
    assert_eq!(found.locked, locked);
    assert_eq!(found.files["a.jsonl"], place.path().join("elsewhere/copy.txt"));
}

#[test]
fn a_model_folder_gives_the_files_that_matter() {
    let mut place = Place::new();
    let options = place.options();
    let request = SourceRequest { kind: SourceKind::Model, ..place.request("model") };
    for file in ["tokenizer.json", "model.safetensors", "README.md", "old/config.json"] {
        place.write(&format!("model/{file}"), file.as_bytes());
    }
    let error = place.resolve(&request, &options).unwrap_err();
    assert!(error.to_string().contains("config.json") && error.hint().unwrap().contains("tokenizer.json"), "{error}");
    place.write("model/config.json", b"{}");
    let found = place.resolve(&request, &options).unwrap();
    let names: Vec<_> = found.files.keys().map(String::as_str).collect();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(found.root, place.path().join("model"));

    place.write("model/generation_config.json", b"{}");
    let error = place.resolve(&request, &options).unwrap_err();
    assert!(error.to_string().contains("no such file"), "{error}");
    let dataset = place.request("model");
    assert!(matches!(place.resolve(&dataset, &options), Err(SourceError::NotAFile { .. })));
}

#[test]
fn what_is_not_there_or_never_ends_is_an_error() {
    let mut place = Place::new();
    let options = place.options();
    for location in ["missing.jsonl", "/dev/zero"] {
        let request = place.request(location);
        let error = place.resolve(&request, &options).unwrap_err();
        assert!(error.to_string().contains(location) && error.hint().is_some(), "{error}");
    }
}

#[test]
fn a_pinned_digest_must_be_met() {
    let mut place = Place::new();
    place.write("a", b"a");
    let options = place.options();
    let pinned = |text: &[u8]| SourceRequest { sha256: Some(Digest::of(text)), ..place.request("a") };
    let (right, wrong) = (pinned(b"a"), pinned(b"b"));
    place.resolve(&right, &options).unwrap();
    let error = place.resolve(&wrong, &Options { update: true, ..options }).unwrap_err();
    assert!(matches!(error, SourceError::Pinned { .. }));
}

#[test]
fn an_address_is_asked_once_and_then_the_store() {
    let mut place = Place::new();
    let server = Server::start(vec![answer("200 OK", b"one"), answer("200 OK", b"one"), answer("200 OK", b"two")]);
    let (request, options) = (place.request(&server.address("d/a.jsonl?v=1")), place.options());
    let frozen = Options { mode: LockMode::Frozen, ..options.clone() };
    let offline = Options { offline: true, ..options.clone() };
    let error = place.resolve(&request, &offline).unwrap_err();
    assert!(error.to_string().contains("a.jsonl") && error.hint().unwrap().contains("tune lock"), "{error}");

    let first = place.resolve(&request, &options).unwrap();
    assert_eq!(tune_fs::read(&first.files["a.jsonl"]).unwrap(), b"one");
    for again in [&options, &frozen, &offline, &Options { update: true, ..offline.clone() }] {
        assert_eq!(place.resolve(&request, again).unwrap().locked, first.locked);
    }
    assert_eq!(server.requests(), 1);

    // A damaged store is no difference: it is mended, or without the network missing.
    tune_fs::write_atomic(&first.root, b"damaged").unwrap();
    assert!(matches!(place.resolve(&request, &frozen), Err(SourceError::Offline { .. })));
    place.resolve(&request, &options).unwrap();
    assert_eq!(tune_fs::read(&first.root).unwrap(), b"one");

    // An empty store fetches again, and other bytes are an error until they are accepted.
    tune_fs::remove_dir_all(&place.path().join("store")).unwrap();
    let error = place.resolve(&request, &options).unwrap_err();
    assert!(error.is_difference() && error.to_string().contains(&Digest::of(b"two").to_string()), "{error}");
    assert_eq!(server.requests(), 3);
    assert_eq!(place.lock().get("s").unwrap(), &first.locked);
}

#[test]
fn a_new_address_is_fetched_though_the_old_bytes_are_kept() {
    let mut place = Place::new();
    let server = Server::start(vec![answer("200 OK", b"v1"), answer("200 OK", b"v2"), answer("200 OK", b"v1")]);
    let (old, new) = (place.request(&server.address("v1")), place.request(&server.address("v2")));
    let options = place.options();
    let first = place.resolve(&old, &options).unwrap();
    let strict = Options { mode: LockMode::Locked, ..options.clone() };
    assert!(matches!(place.resolve(&new, &strict), Err(SourceError::Moved { .. })));
    assert!(matches!(place.resolve(&new, &options), Err(SourceError::Differs { .. })));
    // The same bytes from another address are a change of address only.
    let moved = place.resolve(&new, &options).unwrap();
    assert_eq!((moved.locked.files[0].sha256, &moved.locked.uri), (Digest::of(b"v1"), &new.location));
    assert_ne!(moved.locked.uri, first.locked.uri);
    assert_eq!(moved.files.keys().next().unwrap(), "v2");
    place.resolve(&new, &strict).unwrap();
}

#[test]
fn the_lock_of_a_run_takes_its_bytes_from_anywhere() {
    let mut place = Place::new();
    let server = Server::start(vec![answer("200 OK", b"x")]);
    let request = place.request(&server.address("x"));
    let options = place.options();
    let locked = place.resolve(&request, &options).unwrap().locked;
    place.write("copy", b"x");
    let strict = Options { mode: LockMode::Locked, offline: true, ..options };
    for location in ["copy", "https://example.org/mirror"] {
        let mut lock = LockFile::detached(Lock { version: 1, sources: vec![locked.clone()] }, None).unwrap();
        let found = resolve(&place.request(location), &mut lock, &strict, &mut |_| ()).unwrap();
        assert_eq!(found.locked, locked);
        assert!(found.files.contains_key("x"));
    }
}

#[test]
fn the_nearest_lock_is_found_and_saved_only_when_it_changed() {
    let place = Place::new();
    let recipe = place.path().join("a/b/recipe.yaml");
    tune_fs::create_dir_all(recipe.parent().unwrap()).unwrap();
    assert_eq!(LockFile::find(&recipe).unwrap().path(), place.path().join("a/b/datasets.lock"));
    place.write("datasets.lock", b"sources: []\nversion: 1\n");
    let mut lock = LockFile::find(&recipe).unwrap();
    assert_eq!(lock.path(), place.path().join("datasets.lock"));
    assert!(!lock.save().unwrap().lock);
    place.write("a/datasets.lock", b"version: 2\n");
    assert!(matches!(LockFile::find(&recipe), Err(SourceError::Lock(_))));
}
