//! What unpacking an image may cost, measured against the bytes that came for it: whoever makes images pays for what they cost a node.
//!
//! It reads and writes nothing but the counts of free space.

use super::field::beyond;
use crate::error::{Error, Kind, Result};
use crate::image::config::Limits;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What an image may cost before any of it is paid for: two seconds of a core, and the disk of a small image. Honest images of a few
/// megabytes may well be of zeros.
const FREE: u64 = 1 << 30;
/// What a file, directory, link, extended attribute or piece of a file with holes costs at least: a block of the disk.
pub const BLOCK: u64 = 4096;
/// What a part of a path costs that is walked by itself: a tenth of what it takes to make a file.
const PART_OF_PATH: u64 = 1 << 10;
/// Free space is looked at each time that so much was spent.
const STEP: u64 = 64 << 20;
/// The part of a filesystem that is the most that is left free of it, so that a small one can be used.
const PART: u64 = 20;
/// The part of a filesystem's inodes that is left free.
const INODES: u64 = 100;

/// Whether anybody still waits for what is being made.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

/// Cancels when it is dropped.
pub struct OnDrop(Cancel);

impl Cancel {
    /// Nobody waits any more.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody said so.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error when nobody waits any more.
    pub fn check(&self) -> Result<()> {
        match self.is_cancelled() {
            true => Err(Error::new(Kind::Unavailable, "go on: nobody waits for it any more")),
            false => Ok(()),
        }
    }

    /// Whoever waits holds this.
    pub fn on_drop(&self) -> OnDrop {
        OnDrop(self.clone())
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What all layers of an image have cost, and what came for them.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    paid: AtomicU64,
    spent: AtomicU64,
}

impl Budget {
    /// Nothing has come.
    pub fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), paid: AtomicU64::new(0), spent: AtomicU64::new(0) }
    }

    fn check(&self, spent: u64) -> Result<()> {
        let Limits { image_bytes, expansion, .. } = self.limits;
        let paid = self.paid.load(Ordering::Relaxed);
        if spent > image_bytes {
            let what = format!("the image's layers take {spent} bytes of disk");
            return Err(beyond(
                what,
                image_bytes,
                "raise registry.limits.image_bytes if the image is to be trusted",
            ));
        }
        let most = FREE.saturating_add(expansion.saturating_mul(paid));
        if spent > most {
            let what = format!("{paid} bytes that came are unpacked to {spent} bytes and more");
            let cure = "raise registry.limits.expansion if the image is to be trusted";
            return Err(beyond(what, format!("{most} (a gigabyte, and {expansion} times what came)"), cure));
        }
        Ok(())
    }
}

/// What one layer has cost; given back to the budget where the layer does not stay.
pub struct Account {
    budget: Arc<Budget>,
    cancel: Cancel,
    paid: AtomicU64,
    spent: AtomicU64,
    kept: AtomicBool,
}

impl Account {
    /// Of a layer of the image with this budget.
    pub fn new(budget: &Arc<Budget>, cancel: Cancel) -> Self {
        let [paid, spent] = [0, 0].map(AtomicU64::new);
        Self { budget: budget.clone(), cancel, paid, spent, kept: AtomicBool::new(false) }
    }

    /// The bounds of a layer.
    pub fn limits(&self) -> &Limits {
        &self.budget.limits
    }

    /// An error when nobody waits for the layer any more.
    pub fn check(&self) -> Result<()> {
        self.cancel.check()
    }

    /// The layer stays, so what it cost stays spent.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Compressed bytes that came.
    fn pay(&self, bytes: u64) {
        self.paid.fetch_add(bytes, Ordering::Relaxed);
        self.budget.paid.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of an archive, or of disk: an error before there are too many. Says whether it is time to look at the free space.
    fn spend_only(&self, bytes: u64) -> Result<bool> {
        self.check()?;
        let before = self.spent.fetch_add(bytes, Ordering::Relaxed);
        let all = self.budget.spent.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.budget.check(all)?;
        Ok(before / STEP != before.saturating_add(bytes) / STEP)
    }

    /// The same for what is written below `directory`, whose filesystem must keep room.
    pub fn spend(&self, bytes: u64, directory: &OwnedFd) -> Result<()> {
        match self.spend_only(bytes)? {
            true => keeps_room(directory, self.limits().free_bytes),
            false => Ok(()),
        }
    }

    /// Parts of paths that were walked one by one below `directory`.
    pub fn walk(&self, parts: u64, directory: &OwnedFd) -> Result<()> {
        self.spend(parts.saturating_mul(PART_OF_PATH), directory)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if !*self.kept.get_mut() {
            self.budget.paid.fetch_sub(*self.paid.get_mut(), Ordering::Relaxed);
            self.budget.spent.fetch_sub(*self.spent.get_mut(), Ordering::Relaxed);
        }
    }
}

/// An error where a filesystem has less left than it should keep.
pub fn keeps_room(directory: impl AsFd, free_bytes: u64) -> Result<()> {
    let Ok(stat) = rustix::fs::fstatvfs(directory) else { return Ok(()) };
    let full = |what: String| Err(Error::os(libc::ENOSPC, what));
    let keep = free_bytes.min(stat.f_blocks.saturating_mul(stat.f_frsize) / PART);
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < keep {
        return full(format!(
            "write more: {free} bytes are free, and {keep} are left for others (registry.limits.free_bytes)"
        ));
    }
    // Filesystems that make inodes as they are needed say 0.
    let keep = stat.f_files / INODES;
    if stat.f_favail < keep {
        return full(format!(
            "make more files: {} inodes are free, and {keep} are left for others",
            stat.f_favail
        ));
    }
    Ok(())
}

/// Compressed bytes, which pay for what becomes of them.
pub struct Paying<'a, R> {
    /// Where they come from.
    pub input: R,
    /// For what.
    pub account: &'a Account,
}

impl<R: Read> Read for Paying<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.account.check().map_err(io::Error::other)?;
        let count = self.input.read(buffer)?;
        self.account.pay(count as u64);
        Ok(count)
    }
}

/// Bytes that cost something.
pub struct Costly<'a, R> {
    /// What makes them.
    pub input: R,
    /// Who pays.
    pub account: &'a Account,
    /// Where they go.
    pub directory: &'a OwnedFd,
}

impl<R: Read> Read for Costly<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.account.spend(count as u64, self.directory).map_err(io::Error::other)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_layers_of_an_image_share_what_it_may_cost_and_one_that_does_not_stay_gives_it_back() {
        let limits = Limits { expansion: 10, ..Limits::default() };
        let budget = Arc::new(Budget::new(&limits));
        let (one, two) = (Account::new(&budget, Cancel::default()), Account::new(&budget, Cancel::default()));
        one.spend_only(FREE).expect("a gigabyte is free");
        let error = two.spend_only(1).expect_err("but not one for each").to_string();
        assert!(
            error.contains("0 bytes that came are unpacked to 1073741825") && error.contains("expansion"),
            "{error}"
        );
        drop((one, two));
        let three = Account::new(&budget, Cancel::default());
        three.pay(10);
        three.spend_only(FREE + 100).expect("paid for");
        assert!(three.spend_only(1).is_err());
        three.keep();
        drop(three);
        assert_eq!(budget.spent.load(Ordering::Relaxed), FREE + 101);
        let limits = Limits { image_bytes: 10, ..Limits::default() };
        let account = Account::new(&Arc::new(Budget::new(&limits)), Cancel::default());
        let error = account.spend_only(11).expect_err("too large").to_string();
        assert!(error.contains("11 bytes of disk, at most 10") && error.contains("image_bytes"), "{error}");
    }

    #[test]
    fn a_filesystem_keeps_room_and_who_is_cancelled_spends_nothing() {
        let root = std::fs::File::open("/").expect("the root");
        keeps_room(&root, 0).expect("room");
        let error = keeps_room(&root, u64::MAX);
        let stat = rustix::fs::fstatvfs(&root).expect("a filesystem");
        assert_eq!(error.is_err(), stat.f_bavail < stat.f_blocks / PART);
        let cancel = Cancel::default();
        let account = Account::new(&Arc::new(Budget::new(&Limits::default())), cancel.clone());
        drop(cancel.on_drop());
        let error = account.spend_only(1).expect_err("nobody waits").to_string();
        assert!(error.contains("nobody waits"), "{error}");
    }
}
