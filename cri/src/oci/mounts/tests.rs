//! Paths in a container; whole lists of mounts are in `container`'s tests.

use super::*;

#[test]
fn paths_are_absolute_and_stay_inside() {
    for (path, clean) in
        [("/a/../../b//c/.", Some("/b/c")), ("/", Some("/")), ("x", None), ("", None), ("/a\0", None)]
    {
        assert_eq!(inside(path), clean.map(PathBuf::from), "{path}");
    }
}
