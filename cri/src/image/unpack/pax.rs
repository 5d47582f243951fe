//! What the records before an entry say of it: PAX headers, and GNU's long names. It reads no stream.

use super::field::{REBUILD, bad, beyond, decimal};
use super::sparse;
use crate::error::Result;

/// The most extended attributes of one entry; filesystems have room for a few kilobytes of them.
const XATTRS: usize = 64;
/// KERNEL: XATTR_NAME_MAX and XATTR_SIZE_MAX
const XATTR_NAME: usize = 255;
const XATTR_VALUE: usize = 64 << 10;

/// What PAX records and GNU long names say of the entry after them.
#[derive(Default)]
pub struct Said {
    /// Its path.
    pub path: Option<Vec<u8>>,
    /// What it links to.
    pub link: Option<Vec<u8>>,
    /// Bytes of content.
    pub size: Option<u64>,
    /// Owner.
    pub uid: Option<u64>,
    /// Group.
    pub gid: Option<u64>,
    /// Seconds and nanoseconds.
    pub mtime: Option<(i64, u32)>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where content lies in a file with holes.
    pub sparse: sparse::Said,
}

/// One PAX header's records: `LENGTH KEY=VALUE\n`, the length counting all of it.
pub fn records_of(mut text: &[u8], said: &mut Said) -> Result<()> {
    while !text.is_empty() && text[0] != 0 {
        let wrong = || bad("a PAX record that is none");
        let space = text.iter().take(20).position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let length = decimal(&text[..space]).and_then(|length| usize::try_from(length).ok());
        let length =
            length.filter(|length| *length > space + 1 && *length <= text.len()).ok_or_else(wrong)?;
        let (record, rest) = text.split_at(length);
        text = rest;
        let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(wrong)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
        record_into(&record[..equals], &record[equals + 1..], said)?;
    }
    Ok(())
}

fn record_into(key: &[u8], value: &[u8], said: &mut Said) -> Result<()> {
    let number = || {
        let wrong = || bad(&format!("PAX record {} of {:?}", lossy(key), lossy(value)));
        decimal(value).ok_or_else(wrong)
    };
    let text = |value: &[u8]| {
        if value.contains(&0) {
            Err(bad(&format!("a NUL in PAX record {}", lossy(key))))
        } else {
            Ok(value.to_vec())
        }
    };
    match key {
        b"path" => said.path = Some(text(value)?),
        b"linkpath" => said.link = Some(text(value)?),
        b"size" => said.size = Some(number()?),
        b"uid" => said.uid = Some(number()?),
        b"gid" => said.gid = Some(number()?),
        b"mtime" => said.mtime = Some(time_of(value).ok_or_else(|| bad("a PAX time that is none"))?),
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                xattr(text(name)?, value, said)?;
            } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                said.sparse.record(name, value)?;
            }
        }
    }
    Ok(())
}

/// One of a name that was there before takes its place.
fn xattr(name: Vec<u8>, value: &[u8], said: &mut Said) -> Result<()> {
    if name.len() > XATTR_NAME {
        return Err(bad(&format!(
            "an extended attribute whose name has {} bytes, {:?}…",
            name.len(),
            lossy(&name)
        )));
    }
    if value.len() > XATTR_VALUE {
        let what = format!("an extended attribute {:?} of {} bytes", lossy(&name), value.len());
        return Err(beyond(what, XATTR_VALUE, "the kernel has none that are larger"));
    }
    said.xattrs.retain(|(known, _)| *known != name);
    if said.xattrs.len() == XATTRS {
        return Err(beyond("more extended attributes of one entry", XATTRS, REBUILD));
    }
    said.xattrs.push((name, value.to_vec()));
    Ok(())
}

/// `-12.5` is 13 seconds before the epoch and half a second after that.
fn time_of(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 =
        if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok()? } else { return None };
    match negative && nanoseconds > 0 {
        true => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds)),
        false => Some((seconds, nanoseconds)),
    }
}

fn lossy(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&text[..text.len().min(100)])
}
