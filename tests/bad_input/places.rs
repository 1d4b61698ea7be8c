//! Places that cannot be written.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{assert_refusal, paths, refused, run_refused, script, world};
use crate::support::{Outcome, World, claim_id, files};

const RUN: [&str; 3] = ["run", "recipe.yaml", "output_dir=disk/run"];

const NO_MOUNTS: &str = "not tested: this machine does not let its users mount";

fn output(command: &mut Command) -> Outcome {
    Outcome::of(command.output().expect("a shell starts"))
}

/// Names of what is not whole.
fn incomplete(folder: &Path) -> Vec<String> {
    paths(folder).into_iter().filter(|path| path.contains(".incomplete")).collect()
}

/// Bytes of the checkpoint of step 0 in a finished run.
fn checkpoint_bytes(run: &Path) -> usize {
    files(&run.join("checkpoints/step-000000")).values().map(Vec::len).sum()
}

/// A shell in which file systems can be mounted that nobody else sees, where this machine allows that.
fn private_shell(world: &World) -> Option<[&'static str; 3]> {
    let shell = ["unshare", "-rm", "sh"];
    fs::create_dir(world.path("disk")).expect("the temporary folder is writable");
    let probe = script(world, &shell, "mount -t tmpfs none disk", &[]).output();
    probe.is_ok_and(|output| output.status.success()).then_some(shell)
}

/// A limit on the size of a file, told as an error like that of a full disk and not by a signal. `ulimit` counts in 512
/// or in 1024 bytes.
#[test]
fn files_that_may_not_grow() {
    let world = world();
    world.train("whole", &[]);
    let before = paths(&world.path(""));
    let limited = "trap '' XFSZ; ulimit -f 1; exec \"$@\"";
    for (arguments, texts) in [
        (&["run", "recipe.yaml", "output_dir=out"][..], ["cannot write `out/", "File too large", "hint: "]),
        (
            &["data", "export", "recipe.yaml", "--out", "stream.jsonl"],
            ["cannot write `stream.jsonl`", "File too large", "hint: "],
        ),
    ] {
        assert_refusal(&output(&mut script(&world, &["sh"], limited, arguments)), 2, &texts);
        assert_eq!(paths(&world.path("")), before);
    }
}

/// Without that, the signal ends the process, which no program can help; what it leaves goes on as after a loss of power.
#[test]
fn a_run_that_a_signal_ended_goes_on() {
    let world = world();
    world.train("whole", &[]);
    // Room for the small files, none for a checkpoint.
    let limit = checkpoint_bytes(&world.path("whole")) / 4096;
    let limited = format!("ulimit -f {limit}; exec \"$@\"");
    let ended = output(&mut script(&world, &["sh"], &limited, &["run", "recipe.yaml", "output_dir=out"]));
    assert!(ended.code.is_none() && !ended.stderr.contains("panicked"), "{ended:?}");
    world.train("out", &[]);
    assert_eq!(incomplete(&world.path("out")), Vec::<String>::new());
    assert_eq!(claim_id(&world.path("out")), claim_id(&world.path("whole")));
}

#[test]
fn a_disk_that_is_full_from_the_start() {
    let world = world();
    let Some(shell) = private_shell(&world) else { return eprintln!("{NO_MOUNTS}") };
    world.train("whole", &[]);
    let kilobytes = checkpoint_bytes(&world.path("whole")) / 2048;
    let mounted = format!("mount -t tmpfs -o size={kilobytes}k none disk; \"$@\"; c=$?; ls -A disk > left; exit $c");
    let outcome = output(&mut script(&world, &shell, &mounted, &RUN));
    let texts = ["cannot write `disk/run/", "No space left on device", "is full: free some space"];
    assert_refusal(&outcome, 2, &texts);
    assert_eq!(world.read("left"), "");
}

#[test]
fn a_disk_that_fills_up() {
    let world = world();
    let Some(shell) = private_shell(&world) else { return eprintln!("{NO_MOUNTS}") };
    world.train("whole", &[]);
    // One checkpoint and half of the next.
    let kilobytes = checkpoint_bytes(&world.path("whole")) * 3 / 2048 + 96;
    let mounted = format!(
        "mount -t tmpfs -o size={kilobytes}k none disk; \"$@\"; c=$?; cp -r disk/run left
        mount -o remount,size=1g disk; \"$@\" 2> again; cp -r disk/run resumed; exit $c"
    );
    let outcome = output(&mut script(&world, &shell, &mounted, &RUN));
    let texts = ["cannot write `disk/run/checkpoints/", "No space left on device", "run the same command again"];
    assert_refusal(&outcome, 2, &texts);
    assert!(world.read("left/checkpoints/step-000000/state.json").contains("state_root"));
    assert!(!world.path("left/manifest.json").exists());
    assert_eq!(claim_id(&world.path("resumed")), claim_id(&world.path("whole")), "{}", world.read("again"));
    // Half a checkpoint helps nobody, and takes the space that is lacking.
    assert_eq!(incomplete(&world.path("left")), Vec::<String>::new());
}

#[test]
fn a_read_only_disk() {
    let world = world();
    let Some(shell) = private_shell(&world) else { return eprintln!("{NO_MOUNTS}") };
    let mounted = "mount -t tmpfs -o ro none disk; exec \"$@\"";
    let outcome = output(&mut script(&world, &shell, mounted, &RUN));
    let texts = ["cannot create the folder `disk/run", "Read-only file system", "choose another folder"];
    assert_refusal(&outcome, 2, &texts);
}

/// Permissions mean nothing to the superuser.
#[test]
fn a_read_only_folder() {
    let world = world();
    let folder = world.path("closed");
    fs::create_dir(&folder).expect("the temporary folder is writable");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).expect("the folder is ours");
    if fs::write(folder.join("probe"), "").is_ok() {
        return;
    }
    let texts = ["`closed/run", "Permission denied", "hint: "];
    refused(&world, &["run", "recipe.yaml", "output_dir=closed/run"], 2, &texts);
}

#[test]
fn a_run_folder_below_a_file() {
    let texts = ["cannot create the folder `rows.jsonl/run", "Not a directory", "hint: "];
    refused(&world(), &["run", "recipe.yaml", "output_dir=rows.jsonl/run"], 2, &texts);
}

#[test]
fn a_file_in_place_of_a_run_folder() {
    let world = world();
    let before = world.read("rows.jsonl");
    let outcome = world.tune(&["run", "recipe.yaml", "output_dir=rows.jsonl"]);
    assert!(outcome.code == Some(1) || outcome.code == Some(2), "{outcome:?}");
    outcome.assert_stderr(&["`rows.jsonl`", "hint: "]);
    assert_eq!(world.read("rows.jsonl"), before);
}

/// Folders that nobody can make, not even the superuser.
#[cfg(target_os = "linux")]
#[test]
fn a_run_folder_where_none_can_be() {
    let texts = ["cannot create the folder `/proc/run", "hint: "];
    refused(&world(), &["run", "recipe.yaml", "output_dir=/proc/run"], 2, &texts);
}

#[test]
fn a_file_below_a_file() {
    let texts = ["`rows.jsonl/stream`", "Not a directory", "hint: "];
    refused(&world(), &["data", "export", "recipe.yaml", "--out", "rows.jsonl/stream"], 2, &texts);
}

/// A device is neither a place for a file nor to be replaced by one. The superuser could, so a device of our own is taken.
#[cfg(target_os = "linux")]
#[test]
fn a_device_in_place_of_a_file() {
    let world = world();
    let own = world.path("full");
    let made = Command::new("mknod").arg(&own).args(["c", "1", "7"]).stderr(Stdio::null()).status();
    let device = if made.is_ok_and(|status| status.success()) { own } else { "/dev/full".into() };
    if device.starts_with("/dev") && fs::OpenOptions::new().create_new(true).write(true).open("/dev/.tune").is_ok() {
        fs::remove_file("/dev/.tune").expect("it was made here");
        eprintln!("not tested: a defect would replace this machine's /dev/full");
        return;
    }
    let name = device.to_str().expect("a name in UTF-8");
    let outcome = world.tune(&["data", "export", "recipe.yaml", "--out", name]);
    let kind = fs::symlink_metadata(&device).expect("the device is still there").file_type();
    assert!(kind.is_char_device(), "the device was replaced by a file");
    assert!(outcome.code == Some(1) || outcome.code == Some(2), "{outcome:?}");
    outcome.assert_stderr(&[name]);
}

/// A result that did not arrive is no success.
#[cfg(target_os = "linux")]
#[test]
fn standard_output_on_a_full_disk() {
    let world = world();
    for arguments in [&["schema"][..], &["plan", "recipe.yaml"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has this device");
        let outcome = output(world.command(arguments).stdout(full));
        assert_refusal(&outcome, 2, &["standard output", "No space left on device"]);
    }
}

#[test]
fn a_folder_with_something_else() {
    let world = world();
    fs::create_dir(world.path("out")).expect("the temporary folder is writable");
    world.write("out/thesis.txt", "years of work");
    run_refused(&world, &[], 1, &["`out` is not empty and is not a run folder", "hint: choose another folder"]);
    assert_eq!(world.read("out/thesis.txt"), "years of work");
}
