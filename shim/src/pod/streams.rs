//! Streams of processes that run: promises, connections, sizes, log rotation.

use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::owner::Owner;
use super::{Attach, Attached, Size, StreamName, Target, tokens};
use crate::error::{Context, Error, Result};
use crate::io::pump;
use crate::process::Process;
use crate::state::Event;

/// Of clients that are attached to a container, or may still connect: each takes a descriptor.
const CONNECTIONS: usize = 512;

impl Owner {
    /// See [`super::Pod::attach`].
    pub fn attach(&mut self, request: &Attach) -> Result<Attached> {
        let target = &request.target;
        let what = || format!("attach to {target}");
        self.step(target, Event::Attach).what(what)?;
        let process = self.process(target)?;
        if !process.streams.as_ref().is_some_and(crate::io::Held::is_shared) {
            return Err(Error::unsupported(format!("{}: its streams are not the shim's to share", what())));
        }
        let connections = process.streams.as_ref().map_or(0, crate::io::Held::guests);
        let terminal = process.stdio.has_terminal();
        if connections + self.tokens.of(target) >= CONNECTIONS {
            return Err(Error::os(libc::EUSERS, format!("{}: {CONNECTIONS} connections are there", what())));
        }
        let promised = tokens::names([
            (request.stdin, StreamName::Stdin),
            (request.stdout, StreamName::Stdout),
            (request.stderr && !terminal, StreamName::Stderr),
        ]);
        if promised.is_empty() {
            return Err(Error::invalid(format!("{}: to which stream?", what())));
        }
        Ok(Attached { token: self.promise(target, promised)?, terminal })
    }

    /// Takes note of connections that will come, and of when it is too late.
    pub(super) fn promise(&mut self, target: &Target, names: Vec<StreamName>) -> Result<String> {
        let token = self.tokens.promise(target, names)?;
        let (line, promised) = (self.line.clone(), token.clone());
        tokio::spawn(async move {
            tokio::time::sleep(tokens::PATIENCE).await;
            line.send(move |owner| owner.expire(&promised));
        });
        Ok(token)
    }

    fn expire(&mut self, token: &str) {
        let Some((target, typist)) = self.tokens.expire(token) else { return };
        if let Ok(Process { streams: Some(streams), .. }) = self.process(&target) {
            streams.expire();
        }
        if let Some(typist) = typist
            && let Err(error) = self.feed(&target, typist)
        {
            tracing::debug!("connect stdin of {target}: {error}");
        }
    }

    /// See [`super::Pod::stream`]. Who attaches may open his connections in any order: what he types waits until he sees what is printed.
    pub fn stream(&mut self, token: &str, name: StreamName, connection: UnixStream) -> Result<()> {
        let target = self.tokens.redeem(token, name)?;
        let Some(streams) = &mut self.process(&target)?.streams else {
            return Err(Error::not_found(format!("{target} has no streams")));
        };
        if name != StreamName::Stdin {
            streams.show(name, connection)?;
            return self.tokens.complete(token).map_or(Ok(()), |typist| self.feed(&target, typist));
        }
        let typist = if streams.is_shared() { self.tokens.hold(token, connection) } else { Some(connection) };
        typist.map_or(Ok(()), |typist| self.feed(&target, typist))
    }

    fn feed(&mut self, target: &Target, typist: UnixStream) -> Result<()> {
        let Some(streams) = &self.process(target)?.streams else {
            return Err(Error::not_found(format!("{target} has no streams")));
        };
        let (from, to, cut, guest) = streams.input(typist)?;
        let (line, target) = (self.line.clone(), target.clone());
        tokio::spawn(async move {
            let all_said = pump::input(from, to, cut).await;
            drop(guest);
            line.send(move |owner| owner.stdin_over(&target, all_said));
        });
        Ok(())
    }

    fn stdin_over(&mut self, target: &Target, all_said: bool) {
        if let Ok(Process { streams: Some(streams), .. }) = self.process(target) {
            streams.stdin_over(all_said);
        }
    }

    /// See [`super::Pod::resize`].
    pub fn resize(&mut self, target: &Target, size: Size) -> Result<()> {
        let what = || format!("resize the terminal of {target}");
        self.step(target, Event::Attach).what(what)?;
        match &self.process(target)?.streams {
            Some(streams) => streams.resize(size).what(what),
            None => Err(Error::invalid(format!("{}: it has none yet", what()))),
        }
    }

    /// See [`super::Pod::close_stdin`].
    pub fn close_stdin(&mut self, target: &Target) -> Result<()> {
        if let Some(streams) = &mut self.process(target)?.streams {
            streams.close_stdin();
        }
        Ok(())
    }

    /// See [`super::Pod::reopen_log`].
    pub fn reopen_log(&mut self, id: &str) -> Result<oneshot::Receiver<Result<()>>> {
        let target = Target::container(id);
        let what = || format!("reopen the log of {target}");
        self.step(&target, Event::Reopen).what(what)?;
        match &self.process(&target)?.streams {
            Some(streams) => streams.reopen().what(what),
            None => Err(Error::invalid(format!("{}: it has none", what()))),
        }
    }
}
