use std::env;
use std::path::{Path, PathBuf};

/// The first of these programs in one of the folders of `PATH`.
pub(crate) fn in_path(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<_> = env::split_paths(&path).collect();
    names.iter().find_map(|name| {
        folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|it| it.is_file())
    })
}

/// The folders below `parent` whose names are `prefix` and a version, the highest version first.
pub(crate) fn versions_in(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut versions: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name
                .to_str()?
                .strip_prefix(prefix)?
                .split('.')
                .map_while(|part| part.parse().ok());
            let version: Vec<u32> = version.collect();
            (!version.is_empty()).then(|| (version, entry.path()))
        })
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, path)| path).collect()
}

/// Where cargo builds, as seen from the program that runs. Else the folder for temporary files.
pub(crate) fn target_folder() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let is_target = |folder: &&Path| {
        // Cargo writes the first only into a folder that it makes.
        ["CACHEDIR.TAG", ".rustc_info.json"]
            .iter()
            .any(|it| folder.join(it).is_file())
    };
    let found = program.ancestors().find(is_target);
    found.map_or_else(env::temp_dir, Path::to_owned)
}
