//! `stead db export --offline`: the file itself, from its home.

use crate::commands::{Outcome, image, said};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress::Progress;
use base::{DatabasePath, Disk, LocalDisk, Open};
use database::copy::{CopyError, copy};
use serde_json::json;
use std::io;
use std::path::Path;

/// Copies a database of a home as it is now, sealed or not, into a new file.
pub fn export(home: &Path, path: &str, output: &Path, json: bool) -> Outcome {
    image::refuse_existing(output)?;
    let what = format!("`{path}` was not exported");
    let name = DatabasePath::parse(path).map_err(|bad| {
        Failure::new(
            Exit::Usage,
            what.clone(),
            bad,
            "name the file from the home, such as data/database.sqlite",
        )
    })?;
    let file = home.join(name.as_str());
    if !LocalDisk.metadata(&file).is_ok_and(|found| found.is_file) {
        let cause = format!("{} is no file", file.display());
        return Err(Failure::system(what, cause, "name the home (--home DIR), and a database of it"));
    }
    let part = image::beside(output);
    let written = write(&file, &part, output, &what);
    // The half-written file must not stay; the first error is the one to report.
    let pages = written.inspect_err(|_| drop(LocalDisk.remove_file(&part)))?;
    let answer = json!({ "path": path, "file": output.display().to_string(), "pages": pages });
    Ok(said(&answer, json, &format!("{path} is in {}", output.display())))
}

fn write(file: &Path, part: &Path, output: &Path, what: &str) -> Result<u32, Failure> {
    let unwritable = |error: io::Error| image::unwritable(output, &error);
    let out = LocalDisk.open(part, Open::Create { private: true }).map_err(unwritable)?;
    let mut progress = Progress::new(output.display().to_string());
    let copied = copy(file, &*out, &mut |done, total| progress.at(done, total));
    let pages = copied.map_err(|error| match error {
        CopyError::Output(error) => unwritable(error),
        error @ CopyError::Sqlite(_) => {
            Failure::system(what, error, "check its owner and mode, and that nobody holds a lock on it")
        }
    })?;
    out.sync().map_err(unwritable)?;
    image::publish(part, output)?;
    Ok(pages)
}
