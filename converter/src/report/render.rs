//! From figures to one HTML file that needs nothing else.

use super::gather::gather;
use super::page::{Page, PageOptions};
use super::view::View;
use crate::convert::Watch;
use crate::error::ConvertError;
use minijinja::Environment;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The template's name: its ending is what makes every value escaped.
const TEMPLATE: &str = "page.html";

/// Writes a page about a pack to `output`, under a temporary name until it is whole.
///
/// # Errors
/// When the pack cannot be opened, samples do not suit it, `stop` is set, or the page cannot be written.
pub fn write_page(
    pack: &Path,
    output: &Path,
    options: &PageOptions,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Page, ConvertError> {
    check_target(pack, output)?;
    let page = gather(pack, options, watch, stop)?;
    write(output, html(&page)?.as_bytes())?;
    Ok(page)
}

/// The page as HTML. Names of tensors, steps and rungs come from anybody's file: the template escapes whatever it shows.
pub(super) fn html(page: &Page) -> Result<String, ConvertError> {
    let mut environment = Environment::new();
    let add = environment.add_template(TEMPLATE, include_str!("page.html"));
    let view = View::new(page);
    let style = minijinja::Value::from_safe_string(include_str!("page.css").to_string());
    let script = minijinja::Value::from_safe_string(include_str!("page.js").to_string());
    add.and_then(|()| environment.get_template(TEMPLATE))
        .and_then(|template| template.render(minijinja::context! { view, style, script }))
        .map_err(|e| ConvertError::Page(format!("{e:#}")))
}

/// Refuses what a rename would replace by a page: the pack itself, a folder, a device.
fn check_target(pack: &Path, output: &Path) -> Result<(), ConvertError> {
    let refuse = |why: &str| {
        Err(ConvertError::Option { option: "--output", why: format!("{} {why}", output.display()) })
    };
    match std::fs::metadata(output) {
        Ok(meta) if meta.is_dir() => return refuse("is a directory"),
        Ok(meta) if !meta.is_file() => return refuse("is no file"),
        _ => {}
    }
    let same = std::fs::canonicalize(pack).ok().zip(std::fs::canonicalize(output).ok());
    if same.is_some_and(|(pack, output)| pack == output) { refuse("is the pack itself") } else { Ok(()) }
}

/// Writes a file that takes its name only when it is whole.
fn write(path: &Path, bytes: &[u8]) -> Result<(), ConvertError> {
    let io = |source| ConvertError::Io { path: path.into(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".edge-report-").suffix(".tmp");
    // As other new files: the usual mode of temporary ones is their owner's alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}
