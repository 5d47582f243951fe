//! The first process of a container: argv, environment, working directory, limits. Who it runs as is in `user`.

use oci_spec::image::Config;
use oci_spec::runtime::User;

use crate::api;
use crate::error::{Error, Result};

/// What a process gets whose image says nothing of it, as an entry of its environment.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Entrypoint and cmd, as Dockerfiles mean them: a command replaces both, arguments alone replace cmd.
pub fn args(config: &api::ContainerConfig, image: Option<&Config>) -> Result<Vec<String>> {
    let of_image = |list: Option<&Option<Vec<String>>>| list.cloned().flatten().unwrap_or_default();
    let mut args = config.command.clone();
    let mut rest = config.args.clone();
    if args.is_empty() {
        args = of_image(image.map(Config::entrypoint));
        if rest.is_empty() {
            rest = of_image(image.map(Config::cmd));
        }
    }
    args.extend(rest);
    match args.first() {
        None => Err(Error::invalid("no command: neither the request nor the image names one")
            .cure("set command, or give the image an ENTRYPOINT or CMD")),
        Some(first) if first.is_empty() => Err(Error::invalid("command[0] is empty")),
        Some(_) if args.iter().any(|arg| arg.contains('\0')) => {
            Err(Error::invalid("command or args contain a NUL"))
        }
        Some(_) => Ok(args),
    }
}

/// PATH, HOSTNAME and, with a terminal, TERM; then the image's variables, then the request's: the last value of a name wins.
pub fn env(config: &api::ContainerConfig, image: Option<&Config>, hostname: &str) -> Result<Vec<String>> {
    let mut env = vec![PATH.to_owned()];
    if config.tty {
        env.push("TERM=xterm".to_owned());
    }
    env.push(format!("HOSTNAME={hostname}"));
    // An entry without "=" is nothing that an environment can hold.
    let of_image = image.and_then(|config| config.env().as_deref()).unwrap_or_default();
    for entry in of_image.iter().filter(|entry| entry.find('=').is_some_and(|at| at > 0)) {
        put(&mut env, entry.clone());
    }
    for (at, variable) in config.envs.iter().enumerate() {
        let key = &variable.key;
        if key.is_empty() || key.contains(['=', '\0']) {
            return Err(Error::invalid(format!("envs[{at}]: {key:?} is no name of a variable")));
        }
        let value = std::str::from_utf8(&variable.value).ok().filter(|value| !value.contains('\0'));
        let value = value.ok_or_else(|| {
            Error::invalid(format!("envs[{at}]: the value of {key:?} is not UTF-8, or holds a NUL"))
        })?;
        put(&mut env, format!("{key}={value}"));
    }
    Ok(env)
}

fn put(env: &mut Vec<String>, entry: String) {
    let name = entry.split('=').next().unwrap_or_default();
    let known = env.iter().position(|old| old.split('=').next() == Some(name));
    match known {
        Some(at) => env[at] = entry,
        None => env.push(entry),
    }
}

/// The request's, or the image's, or the root.
pub fn cwd(config: &api::ContainerConfig, image: Option<&Config>) -> Result<String> {
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') || config.working_dir.contains('\0') {
            return Err(Error::invalid(format!(
                "working_dir {:?} is not an absolute path",
                config.working_dir
            ))
            .cure("such as /app"));
        }
        return Ok(config.working_dir.clone());
    }
    let of_image = image.and_then(|config| config.working_dir().clone()).unwrap_or_default();
    // A Dockerfile's WORKDIR is below the root.
    Ok(if of_image.starts_with('/') { of_image } else { format!("/{of_image}") })
}

/// The spec's form of resolved ids.
pub fn user(ids: &api::LinuxContainerUser) -> Result<User> {
    let id = |id: i64| u32::try_from(id).map_err(|_| Error::internal(format!("id {id} was not checked")));
    let groups: Result<Vec<u32>> = ids.supplemental_groups.iter().map(|group| id(*group)).collect();
    let mut user = User::default();
    user.set_uid(id(ids.uid)?).set_gid(id(ids.gid)?).set_additional_gids(Some(groups?));
    Ok(user)
}

#[cfg(test)]
mod tests;
