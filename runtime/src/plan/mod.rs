//! Spec + bundle + host facts → [`Plan`]. Pure: no system calls; every "invalid config" is born here.
