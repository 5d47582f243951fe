//! Spec + bundle + host facts → plan. Pure: no system calls; every "invalid config" is born here.
